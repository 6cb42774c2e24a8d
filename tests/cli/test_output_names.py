"""The kind of a file is what its name says, or there is none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from certdicom.cli.films import Place, wanted_outputs
from certdicom.errors import UsageError
from certdicom.outputs import OUTPUTS, output_named

FAST = ("--n", "80", "--quiet")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("seg.dcm", "seg"), ("a.seg.dcm", "seg"), ("a.SR.dcm", "sr"), ("a.sc.dcm", "sc"), ("a.radius.dcm", "radius_map"),
        ("a.gsps.dcm", "gsps"),
        ("p.png", "preview"),        ("p.jpg", "preview"), ("why.png", "preview"),
        ("a.why.png", "explain"), ("r.json", "report"), ("s.nrrd", "nrrd"),
        ("s.seg.nrrd", "nrrd"), ("s.nii", "nifti"), ("s.nii.gz", "nifti"),
    ],
)  # fmt: skip
def test_a_name_says_its_kind(name: str, kind: str) -> None:
    assert [output.name for output in wanted_outputs(Place.of(name), {})] == [kind]


@pytest.mark.parametrize("name", ["seg", "seg.txt", "seg.gz", "film.tiff"])
def test_a_name_that_says_none_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no output has such a name"):
        wanted_outputs(Place.of(name), {})


def test_a_slash_makes_a_folder() -> None:
    assert Place.of("results/").is_folder
    assert not Place.of("results").is_folder
    assert [output.name for output in wanted_outputs(Place.of("results/"), {})] == ["seg"]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
def test_an_option_takes_its_own_endings_alone(output) -> None:
    for ending in output.endings:
        assert wanted_outputs(None, {output: Place.of("x" + ending.upper())})
    with pytest.raises(UsageError, match=output.option):
        wanted_outputs(None, {output: Place.of("x.bmp")})
    with pytest.raises(UsageError, match="both name"):
        wanted_outputs(Place.of("x" + output.suffix), {output: Place.of("y" + output.suffix)})


def test_something_is_to_be_written() -> None:
    with pytest.raises(UsageError, match="name what is to be written"):
        wanted_outputs(None, {})


def test_what_needs_a_package_says_so_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certdicom.cli.films.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--nrrd needs SimpleITK, which is not installed: pip install 'certdicom\[all\]'"):
        wanted_outputs(Place.of("seg.dcm"), {output_named("nrrd"): Place.of("s.nrrd")})


def test_o_writes_nifti_into_a_folder_that_it_makes(certdicom, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "out.nii.gz"
    assert certdicom(film, "-o", target, *FAST).code == 0
    assert gzip.decompress(target.read_bytes())[344:348] == b"n+1\0"
    assert [path.name for path in target.parent.iterdir()] == ["out.nii.gz"]


def test_a_preview_alone_and_as_jpeg(certdicom, film: Path, tmp_path: Path) -> None:
    assert certdicom(film, "--preview", tmp_path / "p.jpg", *FAST).code == 0
    assert (tmp_path / "p.jpg").read_bytes().startswith(b"\xff\xd8")
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", "--preview", tmp_path / "p.gif", *FAST)
    assert outcome.code == 2
    assert ".png or .jpg or .jpeg" in outcome.err


def test_one_film_into_a_folder(certdicom, film: Path, tmp_path: Path) -> None:
    assert certdicom(film, "-o", f"{tmp_path / 'new'}/", "--report", tmp_path, *FAST).code == 0
    assert (tmp_path / "new" / "film.seg.dcm").exists()
    assert (tmp_path / "film.json").exists()
    assert certdicom(film, "-o", f"{tmp_path / 'new'}/", "--skip-existing", *FAST).code == 0
    assert certdicom(film, "-o", f"{tmp_path / 'new'}/", *FAST).code == 4


def test_a_refused_film_leaves_no_folder(certdicom, tmp_path: Path) -> None:
    (tmp_path / "letter.dcm").write_text("Dear radiologist")
    assert certdicom(tmp_path / "letter.dcm", "-o", tmp_path / "new" / "s.dcm", *FAST).code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["letter.dcm"]
