"""What certifying one image gives: the image, its certificate, and the decisions on the image's own pixels."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from html import escape
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Certificate
from certdicom.certification.rounding import rounded_down
from certdicom.errors import UsageError
from certdicom.files import write_atomically
from certdicom.imaging.grid import spread_on
from certdicom.imaging.image import SourceImage
from certdicom.imaging.plane import spacing_of
from certdicom.outputs import SEG, output_for, output_named
from certdicom.outputs.explanation import ImageExplanation, explanation_of
from certdicom.outputs.segments import AbstainSegments
from certdicom.outputs.source import Geometry

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813  # the abbreviation that its own documentation uses
    from highdicom.seg import Segmentation
    from monai.data.meta_tensor import MetaTensor

T = TypeVar("T")


class Stopwatch:
    """Seconds per named stage, and in total since it was made; `watching` is told the name of each stage that begins."""

    def __init__(self, watching: Callable[[str], object] = lambda _stage: None) -> None:
        self._started = time.perf_counter()
        self._watching = watching
        self.seconds: dict[str, float] = {}

    @property
    def total(self) -> float:
        return time.perf_counter() - self._started

    def __getstate__(self) -> dict[str, Any]:
        """For another process, whose clock is another and who has somebody else watching."""
        return {"total": self.total, "seconds": self.seconds}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]  # what it is from here on
        self._started -= state["total"]
        self.seconds = state["seconds"]

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        self._watching(name)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """An image and its certificate; what can be seen, saved and converted of them.

    Maps are of the image's size; those of the model grid are on `certificate`. `geometry`: "viewer" places DICOM objects in the
    plane that OHIF and 3D Slicer need, "none" leaves geometry out; `abstain`: one Abstain segment ("union"), or one more per structure
    ("per-structure"); `stopwatch`: what took how long so far; `omissions`: outputs that were asked for and could not be made, with the
    kind of error.
    """

    image: SourceImage
    certificate: Certificate
    geometry: Geometry = "viewer"
    abstain: AbstainSegments = "union"
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    omissions: dict[str, str] = field(default_factory=dict)
    _made: dict[Callable[[Result], Any], Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.geometry not in ("viewer", "none"):
            raise UsageError(f"geometry must be 'viewer' or 'none', not {self.geometry!r}")
        if self.abstain not in ("union", "per-structure"):
            raise UsageError(f"abstain must be 'union' or 'per-structure', not {self.abstain!r}")

    def __getstate__(self) -> dict[str, Any]:
        """For another process: what was made of it, and can be made again, stays behind."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _made={})

    def __repr__(self) -> str:
        labels = ", ".join(structure.label for structure in self.certificate.structures)
        return (
            f"Result({labels}; {self.image.rows} × {self.image.columns}; "
            f"R = {rounded_down(self.radius)}, {self.abstain_fraction:.1%} abstained)"
        )

    # what was decided

    @cached_property
    def decisions(self) -> NDArray[np.uint8]:
        """(structures, rows, columns) of ABSENT, PRESENT, ABSTAIN; each stored pixel takes its grid cell's. Read-only."""
        return self._on_image(self.certificate.decisions)

    @cached_property
    def unions(self) -> NDArray[np.uint8] | None:
        """(unions, rows, columns) likewise, about unions of structures; None where none were certified. Read-only."""
        return None if self.certificate.unions is None else self._on_image(self.certificate.unions.decisions)

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures' labels, in the order of `decisions`."""
        return tuple(structure.label for structure in self.certificate.structures)

    def mask(self, structure: str | int) -> NDArray[np.bool_]:
        """(rows, columns): where the structure of that label, or number, is certified present. UsageError when there is none."""
        return np.asarray(self.decisions[self._number(structure)] == PRESENT)

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """(rows, columns): where at least one structure's decision is not certified."""
        return np.asarray((self.decisions == ABSTAIN).any(axis=0))

    @property
    def radius(self) -> float:
        """Certified L2 radius on the model grid, whose values span [0, 1]."""
        return self.certificate.radius

    @property
    def native_radius(self) -> float:
        """Certified L2 radius in `certificate.native_unit`, over all pixels of the image as stored."""
        return self.certificate.native_radius

    @property
    def abstain_fraction(self) -> float:
        """Share of the model grid at which at least one structure's decision is not certified."""
        return self.certificate.abstain_fraction

    @cached_property
    def explanation(self) -> ImageExplanation:
        """Why each structure abstains."""
        return explanation_of(self.certificate, rows=self.image.rows, columns=self.image.columns)

    # what is written of it

    def encode(self, kind: str = SEG.name) -> bytes:
        """The content of a file of that kind (a name in `certdicom.outputs.OUTPUTS`)."""
        return output_named(kind).encode(self)

    def save(self, path: str | PathLike[str], kind: str | None = None, *, force: bool = False) -> Path:
        """Write one file, whole or not at all; without `kind` its name says what it is. OutputError as of `write_atomically`."""
        output = output_for(path) if kind is None else output_named(kind)
        return write_atomically(path, output.encode(self, path), force=force)

    def once(self, make: Callable[[Result], T]) -> T:
        """What `make` makes of this result, made at the first call: what two outputs share."""
        if make not in self._made:
            self._made[make] = make(self)
        made: T = self._made[make]
        return made

    def to_highdicom(self) -> Segmentation:
        """The segmentation as highdicom's object."""
        return import_module("certdicom.outputs.seg").segmentation_of(self)

    def to_sitk(self) -> sitk.Image:
        """`decisions` as a SimpleITK vector image of one slice, a component per structure, with the image's spacing in mm."""
        return import_module("certdicom.outputs.itk_file").decisions_image(self)

    def to_metatensor(self) -> MetaTensor:
        """`decisions` as MONAI's MetaTensor (structures, rows, columns), uint8, with the image's spacing as its affine."""
        spacing = spacing_of(self.image.dataset)
        make = import_module("certdicom.imaging.monai_transforms").decisions_tensor
        return make(self.decisions, spacing=(float(spacing.row), float(spacing.column)), structures=self.structures)

    def _repr_html_(self) -> str:
        """The picture and a table of shares, for notebooks."""
        picture = base64.b64encode(self.encode("preview")).decode()
        shares = self.certificate.analysed(self.decisions)
        rows = "".join(
            f"<tr><td>{escape(label)}</td>" + "".join(f"<td>{(plane == value).mean():.1%}</td>" for value in (PRESENT, ABSENT, ABSTAIN))
            for label, plane in zip(self.structures, shares, strict=True)
        )
        heads = "".join(f"<th>{head}</th>" for head in ("structure", "certified present", "certified absent", "abstained"))
        return f'<img style="max-width:100%" src="data:image/png;base64,{picture}"><table><tr>{heads}</tr>{rows}</table>'

    def _on_image(self, decisions: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rows, columns = self.image.rows, self.image.columns
        spread = spread_on(self.certificate, decisions.astype(np.uint8, copy=False), rows=rows, columns=columns, outside=ABSTAIN)
        spread.flags.writeable = False
        return spread

    def _number(self, structure: str | int) -> int:
        if isinstance(structure, int) and 0 <= structure < len(self.structures):
            return structure
        if structure in self.structures:
            return self.structures.index(str(structure))
        close = get_close_matches(str(structure), self.structures, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(self.structures)}"
        raise UsageError(f"no structure {structure!r}: {hint}")
