"""An output is one module and one entry of OUTPUTS; everything is encoded before anything is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from certdicom import outputs
from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.errors import OutputError, UsageError
from certdicom.imaging.reading import read_radiograph
from certdicom.models.backends.export import export_bundle
from certdicom.outputs import OUTPUTS, SEG, output_for, output_named
from certdicom.outputs.result import Result
from certdicom.outputs.writing import encode_outputs, write_outputs
from tests.tiny import write_tiny_bundle

TOY = """
import sys, types
from certdicom import outputs

toy = types.ModuleType("toy_output")
toy.encode = lambda result: f"{result.abstained.sum()} pixels\\n".encode()
sys.modules["toy_output"] = toy
outputs.OUTPUTS = (
    *outputs.OUTPUTS,
    outputs.Output(name="how_many", suffix=".many", help="how many pixels abstain", module="toy_output", file_name="many.txt"),
)
"""


@pytest.fixture
def result(make_film, make_certificate, tmp_path) -> Result:
    path = tmp_path / "film.dcm"
    make_film(rows=128, columns=112).save_as(path, enforce_file_format=True)
    decisions = np.zeros((3, 16, 16), np.uint8)
    decisions[0, 2:12, 2:14], decisions[1, 6:10, 5:11], decisions[:, 12] = PRESENT, PRESENT, ABSTAIN
    return Result(read_radiograph(path, accept_any=True), make_certificate(decisions=decisions))


FAST = ("--n", "60", "--quiet", "--accept-any")


def with_toy(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", TOY + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(folder: Path) -> Path:
    """The bundle with programs, which another process loads in a moment."""
    export_bundle(folder)
    return folder


def test_a_new_entry_is_an_option_a_setting_and_a_file(film_file: Path, tmp_path: Path) -> None:
    shown = with_toy("from certdicom.cli.main import run\nsys.argv = ['certdicom', 'film.dcm', '--help']\nrun()")
    assert "--how-many FILE" in shown
    assert "how many pixels abstain" in shown
    printed = with_toy("from certdicom.cli.main import main\nsys.exit(main(['node', '--print-config']))")
    assert "how_many = false" in printed
    bundle = exported(write_tiny_bundle(tmp_path / "tiny", labels=("lungs", "heart")).folder)
    arguments = [
        film_file,
        "-o",
        tmp_path / "seg.dcm",
        "--how-many",
        tmp_path / "a.many",
        "--bundle",
        bundle,
        "--n",
        "60",
        "--quiet",
        "--accept-any",
    ]
    with_toy(f"from certdicom.cli.main import main\nsys.exit(main({list(map(str, arguments))}))")
    assert (tmp_path / "a.many").read_text().endswith(" pixels\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    with_toy(
        f"""
from pathlib import Path
from certdicom.node.work.certify import outputs_of, write_result
from certdicom.node.configuration import load_configuration
from certdicom.pipeline import certify, SmoothingParameters
import os
os.environ["CERTDICOM_RESULTS_HOW_MANY"] = "true"
result = certify({str(film_file)!r}, {str(bundle)!r}, SmoothingParameters(n=60), accept_any=True)
write_result(result, outputs_of(load_configuration(None)), Path({str(folder)!r}))
"""
    )
    assert sorted(path.name for path in folder.iterdir()) == ["many.txt", "preview.png", "report.json", "seg.dcm"]


def test_names_options_and_files_of_outputs_are_their_own() -> None:
    for names in ([output.name for output in OUTPUTS], [output.suffix for output in OUTPUTS], [output.file_name for output in OUTPUTS]):
        assert len(set(names)) == len(names)


def test_the_sop_classes_are_those_of_what_is_written(result: Result) -> None:
    for output in OUTPUTS:
        content = output.encode(result)
        assert bool(output.sop_class) == (content[128:132] == b"DICM"), output.name
        if output.sop_class:
            assert pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)).SOPClassUID == output.sop_class


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.dcm", "seg"),
        ("A.SEG.DCM", "seg"),
        ("a.sr.dcm", "sr"),
        ("a.radius.dcm", "radius_map"),
        ("a.gsps.dcm", "gsps"),
        ("a.radius.sc.dcm", "radius_sc"),
        ("a.drawn.dcm", "drawn_seg"),
        ("a.png", "preview"),
        ("a.jpg", "preview"),
        ("a.nii", "nifti"),
        ("a.why.png", "explain"),
    ],
)
def test_a_name_says_which_output_it_is(name: str, kind: str) -> None:
    assert output_for(name).name == kind


def test_an_unknown_name_or_kind_is_refused_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"a\.tif: no output has such a name"):
        output_for("a.tif")
    with pytest.raises(UsageError, match="did you mean 'radius_map'"):
        output_named("radius-maps")
    assert output_named("radius-map").name == "radius_map"


def fail(*_: object, **__: object) -> None:
    raise ValueError("a defect in an extra")


def test_a_fault_in_an_extra_leaves_nothing_on_the_disk_and_names_it(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certdicom.outputs.sr.build_measurement_report", fail)
    folder = tmp_path / "out"
    folder.mkdir()
    targets = {output_named(name): folder / name for name in ("seg", "preview", "sr", "report")}
    with pytest.raises(OutputError, match=r"--sr cannot be made, and nothing was written: ValueError: a defect in an extra"):
        write_outputs(result, targets)
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_leaves_nothing_elsewhere(result: Result, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(OutputError, match="the folder does not exist"):
        write_outputs(result, {SEG: folder / "seg.dcm", output_named("report"): tmp_path / "missing" / "r.json"})
    assert list(folder.iterdir()) == []


def test_two_outputs_under_one_name_are_refused(result: Result, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two outputs would both be written to"):
        write_outputs(result, {SEG: tmp_path / "a", outputs.REPORT: tmp_path / "a"})


def test_what_could_not_be_made_stands_in_the_report(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certdicom.outputs.sr.build_measurement_report", fail)
    encoded = encode_outputs(result, [output_named(name) for name in ("report", "sr", "seg")])
    assert [output.name for output in encoded.contents] == ["seg", "report"]
    assert [output.name for output in encoded.failures] == ["sr"]
    assert json.loads(encoded.contents[outputs.REPORT])["omissions"] == {"sr": "ValueError"}


def test_without_a_segmentation_there_is_no_result(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certdicom.outputs.seg.build_segmentation", fail)
    with pytest.raises(ValueError, match="a defect in an extra"):
        encode_outputs(result, [SEG, outputs.REPORT])


DRAWING = (
    "preview",
    "overlay",
    "panel",
    "labels",
    "explanation_picture",
    "picture_file",
    "secondary_capture",
    "radius_map",
    "gsps",
    "polylines",
    "radius_picture",
    "drawn_seg",
    "sr",
    "nrrd",
    "nifti",
)


def test_a_plain_film_loads_no_module_that_draws(film_file: Path, tmp_path: Path) -> None:
    bundle = exported(write_tiny_bundle(tmp_path / "tiny", labels=("lungs", "heart")).folder)
    code = f"""
import sys
from certdicom.cli.main import main
assert main([{str(film_file)!r}, "-o", {str(tmp_path / "seg.dcm")!r}, "--bundle", {str(bundle)!r}, "--n", "60", "--accept-any"]) == 0
drawing = {DRAWING}
print([name for name in drawing if "certdicom.outputs." + name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def film_file(make_film, tmp_path) -> Path:
    path = tmp_path / "film-file.dcm"
    make_film(rows=128, columns=112).save_as(path, enforce_file_format=True)
    return path
