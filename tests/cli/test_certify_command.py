"""The main job as its user sees it: files, messages and exit codes."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from certdicom import files
from certdicom.imaging.synthetic import synthetic_film, write_film

FAST = ("--n", "80", "--quiet", "--precision", "float32", "--jobs", "1")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_the_short_form_writes_all_that_was_asked_for(certdicom, film: Path, tmp_path: Path) -> None:
    seg, png, report, nrrd = (tmp_path / name for name in ("seg.dcm", "p.png", "r.json", "s.seg.nrrd"))
    outcome = certdicom(film, "-o", seg, "--preview", png, "--report", report, "--nrrd", nrrd, "--n", "80")
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.png", "r.json", "s.seg.nrrd", "seg.dcm"]
    assert png.read_bytes().startswith(b"\x89PNG")
    written, fields = dcmread(seg), json.loads(report.read_text())
    assert written.SOPClassUID.name == "Segmentation Storage"
    planes = written.pixel_array.astype(bool)
    assert planes.shape == (4, 320, 256)
    for structure, plane in zip(fields["structures"], planes, strict=False):
        assert structure["certified_present_px"] == plane.sum()
        assert structure["certified_present_px"] + structure["certified_absent_px"] + structure["abstain_px"] == 320 * 256
    assert fields["abstain_fraction"] == pytest.approx(planes[-1].mean())
    assert "Research use only, not a medical device" in outcome.out
    assert "0.1686" in outcome.out


def test_the_report_has_the_documented_fields(certdicom, film: Path, tmp_path: Path) -> None:
    certdicom(film, "-o", tmp_path / "s.dcm", "--report", tmp_path / "r.json", *FAST)
    fields = json.loads((tmp_path / "r.json").read_text())
    assert {
        "schema_version", "software", "bundle", "source", "parameters", "hypotheses", "radius", "window",
        "structures", "abstain_fraction", "seed", "timing", "device", "precision",
    } <= set(fields)  # fmt: skip
    assert set(fields["parameters"]) == {"sigma", "tau", "n0", "n", "alpha", "family"}
    assert fields["hypotheses"] == 3 * 64 * 64
    assert fields["radius"]["grid"] == pytest.approx(0.1686, abs=1e-4)
    assert fields["radius"]["native"] > fields["radius"]["grid"]
    assert fields["seed"]["kind"] == "os-entropy"
    assert fields["source"]["sop_instance_uid"] == dcmread(film).SOPInstanceUID


def test_a_site_key_repeats_the_result_and_its_identity(certdicom, film: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32).hex().encode())
    for name in ("a", "b"):
        assert certdicom(film, "-o", tmp_path / f"{name}.dcm", "--site-key", key, *FAST).code == 0
    first, second = (dcmread(tmp_path / f"{name}.dcm") for name in ("a", "b"))
    assert np.array_equal(first.pixel_array, second.pixel_array)
    assert first.SOPInstanceUID == second.SOPInstanceUID


def test_without_a_site_key_each_run_is_another_object(certdicom, film: Path, tmp_path: Path) -> None:
    uids = set()
    for name in ("a", "b"):
        certdicom(film, "-o", tmp_path / f"{name}.dcm", *FAST)
        uids.add(dcmread(tmp_path / f"{name}.dcm").SOPInstanceUID)
    assert len(uids) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sigma", "2"), "outside 0.03 … 1"),
        (("--sigma", "-1"), "sigma must be a positive number"),
        (("--sigma", "nan"), "sigma must be a positive number"),
        (("--tau", "0.3"), "tau must be"),
        (("--alpha", "0"), "alpha must be"),
        (("--n0", "0"), "n0 must be"),
        (("--n", "30"), "the smallest n that can is"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--device", "tpu"), "unknown device"),
        (("--device", "cuda:77"), "cuda:77 was asked for"),
        (("--precision", "int3"), "unknown precision"),
        (("--site-key", "/no/such/key"), "cannot read the site key"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(certdicom, film: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", "--quiet", *arguments)
    assert outcome.code == 2
    assert len(lines(outcome.err)) == 1
    assert message in outcome.err
    assert not list(tmp_path.iterdir())


def test_an_option_that_argparse_refuses_is_code_2(certdicom, film: Path) -> None:
    assert certdicom(film, bundle=None).code == 2
    assert certdicom(film, "-o", "x", "--geometry", "spherical", bundle=None).code == 2


def test_an_unknown_bundle_names_the_shipped_ones(certdicom, film: Path, tmp_path: Path) -> None:
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", bundle="no-such-bundle")
    assert outcome.code == 2
    assert "no bundle 'no-such-bundle'" in outcome.err


def test_damaged_weights_are_found_before_anything_is_written(certdicom, film: Path, tmp_path: Path, tiny_bundle: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundle, broken)
    weights = broken / "segmenter.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", "--quiet", bundle=broken)
    assert outcome.code == 2
    assert "damaged" in outcome.err
    weights.unlink()
    assert "cannot read the weights" in certdicom(film, "-o", tmp_path / "s.dcm", "--quiet", bundle=broken).err
    (broken / "bundle.json").write_text("{]")
    assert "not a bundle description" in certdicom(film, "-o", tmp_path / "s.dcm", "--quiet", bundle=broken).err
    assert not (tmp_path / "s.dcm").exists()


def test_a_refused_film_is_code_3_and_leaves_nothing(certdicom, tmp_path: Path) -> None:
    bad = tmp_path / "letter.dcm"
    bad.write_text("Dear radiologist, this is no film.")
    outcome = certdicom(bad, "-o", tmp_path / "s.dcm", "--preview", tmp_path / "p.png", *FAST)
    assert outcome.code == 3
    assert len(lines(outcome.err)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["letter.dcm"]


def test_a_missing_film_is_wrong_usage(certdicom, tmp_path: Path) -> None:
    outcome = certdicom(tmp_path / "nothing.dcm", "-o", tmp_path / "s.dcm", *FAST)
    assert outcome.code == 2
    assert len(lines(outcome.err)) == 1


def test_an_existing_file_is_kept_without_force(certdicom, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.dcm"
    target.write_text("precious")
    outcome = certdicom(film, "-o", target, *FAST)
    assert outcome.code == 4
    assert "--force" in outcome.err
    assert target.read_text() == "precious"
    assert certdicom(film, "-o", target, "--force", *FAST).code == 0
    assert dcmread(target).Modality == "SEG"


def test_a_place_that_cannot_be_written_to_is_code_4_before_the_work(certdicom, film: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    outcome = certdicom(film, "-o", tmp_path / "file" / "folder" / "s.dcm", "--n", "100000", "--quiet")
    assert outcome.code == 4
    assert "is no folder" in outcome.err


def test_a_full_disk_is_code_4(certdicom, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(temporary: Path, data: object) -> None:
        temporary.write_bytes(b"the first half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_write_synced", full)
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", *FAST)
    assert outcome.code == 4
    assert "the disk is full" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_folder_is_worked_through_and_the_refused_are_listed(certdicom, film: Path, tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    (films / "ward").mkdir(parents=True)
    shutil.copy(film, films / "a.dcm")
    shutil.copy(film, films / "ward" / "b.dcm")
    write_film(synthetic_film(view_position="LL")[0], films / "lateral.dcm")
    outcome = certdicom(films, "-o", out, "--report", out, *FAST)
    assert outcome.code == 3
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "a.json", "a.seg.dcm", "certdicom-summary.csv", "certdicom-summary.json", "ward/b.json", "ward/b.seg.dcm",
    ]  # fmt: skip
    assert "lateral.dcm" in outcome.err
    assert "refused" in outcome.err
    assert "certified" in outcome.err


def test_two_films_of_one_name_are_not_written_over_each_other(certdicom, film: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    shutil.copy(film, tmp_path / "x" / "film.dcm")
    outcome = certdicom(film, tmp_path / "x" / "film.dcm", "-o", tmp_path / "out", *FAST)
    assert outcome.code == 2
    assert "would both be written" in outcome.err


def test_geometry_and_abstain_segments_can_be_chosen(certdicom, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "s.dcm"
    assert certdicom(film, "-o", target, "--geometry", "none", "--abstain", "per-structure", *FAST).code == 0
    written = dcmread(target)
    assert "FrameOfReferenceUID" not in written
    assert len(written.SegmentSequence) == 3 + 1 + 3


def test_an_internal_error_is_one_line_and_code_5(certdicom, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("certdicom.pipeline.Certifier.certify", burst)
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", *FAST)
    assert outcome.code == 5
    assert len(lines(outcome.err)) == 1
    assert "ZeroDivisionError: a defect" in outcome.err
    assert "Traceback" in certdicom(film, "-o", tmp_path / "s.dcm", "--debug", *FAST).err


def test_a_mirrored_and_a_wide_film_come_back_in_place(certdicom, tmp_path: Path) -> None:
    """Rows and columns are not mixed up: a film that is not square has segments of its own shape."""
    path = tmp_path / "wide.dcm"
    write_film(synthetic_film(rows=200, columns=390)[0], path)
    assert certdicom(path, "-o", tmp_path / "s.dcm", *FAST).code == 0
    written = dcmread(tmp_path / "s.dcm")
    assert (written.Rows, written.Columns) == (200, 390)


def test_a_film_is_never_overwritten_by_its_result(certdicom, film: Path, tmp_path: Path) -> None:
    mine = tmp_path / "film.dcm"
    shutil.copy(film, mine)
    outcome = certdicom(mine, "-o", mine, "--force", *FAST)
    assert outcome.code == 2
    assert mine.read_bytes() == film.read_bytes()


def test_a_film_that_cannot_be_read_or_meets_a_defect_does_not_stop_the_others(
    certdicom, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from certdicom.imaging import reading

    read = reading.read_image

    def sometimes(path: Path, **options: bool):
        if path.name == "a.dcm":
            raise ZeroDivisionError("a defect")
        return read(path, **options)

    monkeypatch.setattr(reading, "read_image", sometimes)
    films = tmp_path / "films"
    films.mkdir()
    for name in ("a.dcm", "c.dcm"):
        shutil.copy(film, films / name)
    (films / "b.dcm").symlink_to(tmp_path / "gone")
    outcome = certdicom(films / "a.dcm", films / "b.dcm", films / "c.dcm", "-o", tmp_path / "out", *FAST)
    assert outcome.code == 5
    assert "ZeroDivisionError" in outcome.err
    assert "not read" in outcome.err
    assert [path.name for path in (tmp_path / "out").glob("*.dcm")] == ["c.seg.dcm"]


def test_nothing_private_reaches_the_screen(certdicom, tmp_path: Path) -> None:
    """A name of one component makes libraries warn and quote it; the summary and the warnings must not."""
    dataset, _ = synthetic_film(rows=128, columns=128)
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "MUSTERFRAU", "QX-4711", "19991231"
    write_film(dataset, tmp_path / "film.dcm")
    targets = [word for option in ("sr", "sc", "radius-map", "preview") for word in (f"--{option}", tmp_path / option)]
    outcome = certdicom(tmp_path / "film.dcm", "-o", tmp_path / "s.dcm", *targets, "--n", "80")
    assert outcome.code == 0, outcome.err
    for private in ("MUSTERFRAU", "QX-4711", "19991231"):
        assert private not in outcome.out + outcome.err


def test_window_and_crop_are_asked_for_on_the_command_line(certdicom, film: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.json"
    outcome = certdicom(
        film, "--window", "-100", "4200.5", "--crop", "8", "0", "72", "64", "-o", tmp_path / "s.dcm", "--report", report, *FAST
    )
    assert outcome.code == 0, outcome.err
    told = json.loads(report.read_bytes())
    assert told["window"] == {"lo": -100.0, "hi": 4200.5, "source": "given with the request"}
    assert told["crop"] == {"top": 8, "left": 0, "rows": 72, "columns": 64}
    outcome = certdicom("--window", "displayed", film, "-o", tmp_path / "d.dcm", "--report", tmp_path / "d.json", *FAST)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "d.json").read_bytes())["window"]["source"].startswith("displayed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--window", "4095", "0"), "a window from 4095 to 0 shows nothing: give the lower end first"),
        (("--window", "percentiles"), "the window must be LO HI, displayed or header-or-displayed, not 'percentiles'"),
        (
            ("--crop", "0", "0", "10", "10"),
            "a crop is TOP LEFT ROWS COLUMNS in stored pixels, of at least 64 rows and columns, not 0 0 10 10",
        ),
    ],
)
def test_a_window_or_crop_that_means_nothing_is_one_line(certdicom, film: Path, tmp_path: Path, words, message: str) -> None:
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", *words, *FAST)
    assert (outcome.code, outcome.err.strip()) == (2, f"certdicom: {message}")


def test_info_tells_the_window_that_would_be_used(certdicom, film: Path) -> None:
    assert "window           0 to 100, given with the request" in certdicom("info", film, "--window", "0", "100", bundle=None).out
    assert "displayed, with a mean of 0.53" in certdicom("info", film, "--window", "displayed", bundle=None).out
    fields = json.loads(certdicom("info", film, "--json", bundle=None).out)
    assert set(fields["window"]) == {"lo", "hi", "source", "displayed"}
