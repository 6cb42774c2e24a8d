"""Everything that is written of a result: one module and one entry of OUTPUTS for each kind of file.

Command-line options, the node's `[results]` settings, the names of files in a spool, help, docs and the conformance
statement loop over OUTPUTS. The modules are imported when their output is asked for. Nothing here imports PyTorch.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from os import PathLike, fspath
from typing import Any, Final

from certdicom.errors import UsageError


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """One kind of file that can be written of a result.

    `name`: of the setting `results.NAME`, and of the option `--NAME` with hyphens; `suffix`: how its files' names end; `help`: what
    it is, for people; `module`: has `encode(result) -> bytes`; `file_name`: its name in a node's spool; `sop_class`: the SOP
    Class UID of a DICOM object, which a node sends to the archive; `always`: a node writes it whatever is configured; `ending`: what may
    stand for `suffix` where a file is named; `formats`: other endings, with the function of the module that encodes for them; `needs`:
    a package that no base installation has.
    """

    name: str
    suffix: str
    help: str
    module: str
    file_name: str
    sop_class: str = ""
    always: bool = False
    ending: str = ""
    needs: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        return output_named, (self.name,)  # in another process it is that one's entry of the table

    @property
    def option(self) -> str:
        """The command-line option that asks for it."""
        return "--" + self.name.replace("_", "-")

    @property
    def endings(self) -> tuple[str, ...]:
        """How the name of such a file may end."""
        plain = ".dcm" if self.sop_class else self.ending
        return tuple(ending for ending in (self.suffix, plain, *self.formats) if ending)

    def encode(self, result: Any, path: str | PathLike[str] = "") -> bytes:
        """The content of a file of this kind of a `Result`, in the format that the ending of `path` names where there are several."""
        name = fspath(path).lower()
        function = next((function for ending, function in self.formats.items() if name.endswith(ending)), "encode")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries quote values of the image, which may be private
            content: bytes = getattr(import_module(self.module), function)(result)
        return content


SEG: Final = Output(
    name="seg",
    suffix=".seg.dcm",
    help="the certified segmentation as a DICOM SEG",
    module="certdicom.outputs.seg",
    file_name="seg.dcm",
    sop_class="1.2.840.10008.5.1.4.1.1.66.4",
    always=True,
)
PREVIEW: Final = Output(
    name="preview",
    suffix=".png",
    help="a picture of the result: PNG, or JPEG where the name ends in .jpg",
    module="certdicom.outputs.preview",
    file_name="preview.png",
    always=True,
    formats={".jpg": "encode_jpeg", ".jpeg": "encode_jpeg"},
)
REPORT: Final = Output(
    name="report",
    suffix=".json",
    help="the certificate and its figures as JSON",
    module="certdicom.outputs.report_json",
    file_name="report.json",
    always=True,
)

OUTPUTS: tuple[Output, ...] = (
    SEG,
    Output(
        name="sr",
        suffix=".sr.dcm",
        help="a DICOM SR (TID 1500): certified areas and cardiothoracic ratio with guaranteed bounds",
        module="certdicom.outputs.sr",
        file_name="sr.dcm",
        sop_class="1.2.840.10008.5.1.4.1.1.88.34",
    ),
    Output(
        name="sc",
        suffix=".sc.dcm",
        help="the picture of the result as a DICOM Secondary Capture",
        module="certdicom.outputs.secondary_capture",
        file_name="sc.dcm",
        sop_class="1.2.840.10008.5.1.4.1.1.7",
    ),
    Output(
        name="radius_map",
        suffix=".radius.dcm",
        help="the certified radius per pixel as a DICOM Parametric Map, for software; viewers are better served with radius-sc",
        module="certdicom.outputs.radius_map",
        file_name="radius.dcm",
        sop_class="1.2.840.10008.5.1.4.1.1.30",
    ),
    Output(
        name="radius_sc",
        suffix=".radius.sc.dcm",
        help="a colour picture of the certified radius with a legend as a DICOM Secondary Capture, which any viewer shows",
        module="certdicom.outputs.radius_picture",
        file_name="radius-sc.dcm",
        sop_class="1.2.840.10008.5.1.4.1.1.7",
    ),
    Output(
        name="drawn_seg",
        suffix=".drawn.dcm",
        help="a drawing as a second DICOM SEG, borders and a sparse hatch, not for measuring",
        module="certdicom.outputs.drawn_seg",
        file_name="drawn-seg.dcm",
        sop_class="1.2.840.10008.5.1.4.1.1.66.4",
    ),
    Output(
        name="gsps",
        suffix=".gsps.dcm",
        help="a DICOM presentation state (GSPS) that draws outlines and hatching over the film, for archives that know no SEG",
        module="certdicom.outputs.gsps",
        file_name="gsps.dcm",
        sop_class="1.2.840.10008.5.1.4.1.1.11.1",
    ),
    PREVIEW,
    Output(
        name="nrrd",
        suffix=".seg.nrrd",
        help="a 3D Slicer segmentation",
        module="certdicom.outputs.nrrd",
        file_name="segmentation.seg.nrrd",
        ending=".nrrd",
        needs="SimpleITK",
    ),
    Output(
        name="nifti",
        suffix=".nii.gz",
        help="NIfTI with one volume per segment; uncompressed where the name ends in .nii",
        module="certdicom.outputs.nifti",
        file_name="segmentation.nii.gz",
        needs="SimpleITK",
        formats={".nii": "encode_uncompressed"},
    ),
    Output(
        name="explain",
        suffix=".why.png",
        help="a picture of where it abstains and why: too few draws, too close to tau, or unstable",
        module="certdicom.outputs.explanation_picture",
        file_name="explanation.png",
        ending=".png",
    ),
    REPORT,
)
"""What can be written, in the order in which it is encoded: the SEG first, because the SR refers to it; the report last."""


def output_named(kind: str) -> Output:
    """The output of that name, written with hyphens or underscores. UsageError when there is none."""
    name = kind.replace("-", "_")
    known = {output.name: output for output in OUTPUTS}
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(known)}"
        raise UsageError(f"unknown kind of output {kind!r}: {hint}")
    return known[name]


def output_for(path: str | PathLike[str]) -> Output:
    """The output that a file's name asks for: .seg.dcm and .dcm a SEG, .png a picture, …  UsageError for another ending."""
    name = fspath(path).lower()
    endings: dict[str, Output] = {}
    for output in (SEG, PREVIEW, *OUTPUTS):  # a .dcm is a SEG, and a .png a preview, unless it says more
        for ending in output.endings:
            endings.setdefault(ending, output)
    fitting = [ending for ending in endings if name.endswith(ending)]
    if not fitting:
        raise UsageError(f"{fspath(path)}: no output has such a name; end it in one of {', '.join(sorted(endings))}, or name its kind")
    return endings[max(fitting, key=len)]
