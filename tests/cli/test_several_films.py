"""A folder as its user sees it: what is left out, what a summary tells, several processes, Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from certdicom.imaging.synthetic import synthetic_film, write_film

QUICK = ("--n", "80", "--quiet")
FAST = (*QUICK, "--jobs", "1")


@pytest.fixture
def films(film: Path, tmp_path: Path) -> Path:
    """Two films of which one has no ending, a lateral view, a text, a DICOMDIR and an object without a picture."""
    folder = tmp_path / "films"
    folder.mkdir()
    shutil.copy(film, folder / "IM0001")
    shutil.copy(film, folder / "IM0001.dcm")
    write_film(synthetic_film(view_position="LL")[0], folder / "lateral.dcm")
    (folder / "readme.txt").write_text("These are films.")
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.FileSetID, directory.DirectoryRecordSequence = "FILMS", []
    directory.save_as(folder / "DICOMDIR", enforce_file_format=False, implicit_vr=False, little_endian=True)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "certdicom-summary.csv").open(newline="") as stream:
        return {Path(row["film"]).name: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("jobs", [1, 2])
def test_films_are_certified_and_the_rest_is_told(certdicom, openvino_bundle: Path, films: Path, tmp_path: Path, jobs: int) -> None:
    out = tmp_path / "out"
    outcome = certdicom(films, "-o", f"{out}/", "--jobs", jobs, *QUICK, bundle=openvino_bundle)
    assert outcome.code == 3  # the lateral view
    assert names(out) == ["IM0001.dcm.seg.dcm", "IM0001.seg.dcm", "certdicom-summary.csv", "certdicom-summary.json"]
    assert "2 certified, " in outcome.err
    assert "2 left out (no images)" in outcome.err
    assert "readme" not in outcome.err
    told = rows(out)
    assert {name: row["outcome"] for name, row in told.items()} == {
        "IM0001": "certified", "IM0001.dcm": "certified", "lateral.dcm": "refused", "readme.txt": "no image", "DICOMDIR": "no image",
    }  # fmt: skip
    assert "left lateral" in told["lateral.dcm"]["reason"]
    assert "DICOMDIR" in told["DICOMDIR"]["reason"]
    shares = [float(told["IM0001"][f"lungs {share}"]) for share in ("present", "absent", "abstained")]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    content = json.loads((out / "certdicom-summary.json").read_text())
    assert content["bundle"]["name"] == "tiny"
    assert content["parameters"]["n"] == 80
    assert len(content["films"]) == 5


def test_a_second_run_leaves_out_what_is_there_and_its_own_results(certdicom, films: Path) -> None:
    """Results written beside the films are no films."""
    assert certdicom(films, "-o", films, *FAST).code == 3
    first = {path: path.stat().st_mtime_ns for path in films.glob("*.seg.dcm")}
    assert len(first) == 2
    assert certdicom(films, "-o", films, *FAST).code == 4  # they exist
    outcome = certdicom(films, "-o", films, "--skip-existing", *FAST)
    assert outcome.code == 3
    assert "2 left out (--skip-existing)" in outcome.err
    assert "2 left out (no images)" in outcome.err
    assert {path: path.stat().st_mtime_ns for path in films.glob("*.seg.dcm")} == first


def test_the_summary_of_a_first_run_is_kept_by_the_second(certdicom, film: Path, tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    shutil.copy(film, films / "a.dcm")
    assert certdicom(films, "-o", out, *FAST).code == 0
    before = rows(out)["a.dcm"]
    shutil.copy(film, films / "b.dcm")
    assert certdicom(films, "-o", out, "--skip-existing", *FAST).code == 0
    assert rows(out)["a.dcm"] == before
    assert rows(out)["b.dcm"]["outcome"] == "certified"


def test_a_text_that_is_named_itself_is_refused(certdicom, films: Path, tmp_path: Path) -> None:
    outcome = certdicom(films / "IM0001", films / "readme.txt", "-o", tmp_path / "out", *FAST)
    assert outcome.code == 3
    assert "not a DICOM file" in outcome.err


def test_a_film_whose_name_is_that_of_a_result_is_not_overwritten(certdicom, film: Path, films: Path) -> None:
    shutil.copy(film, films / "IM0001.seg.dcm")
    outcome = certdicom(films, "-o", films, "--force", *FAST)
    assert outcome.code == 2
    assert "is a film to be certified" in outcome.err


def many_films(film: Path, folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        shutil.copy(film, folder / f"{number:02}.dcm")
    return folder


def started(folder: Path, out: Path, bundle: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "certdicom", str(folder), "-o", f"{out}/", "--bundle", str(bundle), "--n", "400", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # a child of a background job ignores it
    )


def wait_for_results(out: Path, *, count: int = 3) -> None:
    """With two processes at most two of the results are not yet told of."""
    deadline = time.monotonic() + 90
    while len(list(out.glob("*.seg.dcm"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_with_the_table_of_what_was_done(film: Path, openvino_bundle: Path, tmp_path: Path, jobs: int) -> None:
    films, out = many_films(film, tmp_path / "films", 20), tmp_path / "out"
    process = started(films, out, openvino_bundle, "--jobs", str(jobs))
    wait_for_results(out)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    left = subprocess.run(["ps", "-ww", "-o", "args=", "--sid", str(process.pid)], capture_output=True, text=True, check=False).stdout
    assert not left, "processes that outlive it"
    assert "Traceback" not in errors
    assert "not reached" in errors
    assert "--skip-existing" in errors
    assert not list(out.glob(".*")), "half-written files"
    certified = [name for name, row in rows(out).items() if row["outcome"] == "certified"]
    assert 0 < len(certified) < 20
    assert len(list(out.glob("*.seg.dcm"))) >= len(certified)


def test_a_process_that_is_killed_costs_its_film_alone(film: Path, openvino_bundle: Path, tmp_path: Path) -> None:
    films, out = many_films(film, tmp_path / "films", 8), tmp_path / "out"
    process = started(films, out, openvino_bundle, "--jobs", "2")
    wait_for_results(out)
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
    ).stdout
    victim = next(line.split()[0] for line in listed.splitlines() if "certdicom.pool_process" in line)
    os.kill(int(victim), signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5
    told = rows(out)
    lost = [row for row in told.values() if row["outcome"] != "certified"]
    assert len(told) == 8
    assert len(lost) == 1
    assert "signal 9" in lost[0]["reason"]
    assert "7 certified" in errors


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_wrong_request_ends_all_at_once(certdicom, films: Path, tmp_path: Path, tiny_bundle: Path, jobs: int) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_bundle, broken)
    weights = bytearray((broken / "segmenter.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "segmenter.safetensors").write_bytes(weights)
    outcome = certdicom(films, "-o", tmp_path / "out/", "--jobs", jobs, *QUICK, bundle=broken)
    assert outcome.code == 2
    assert "damaged" in outcome.err
    assert certdicom(films, "-o", tmp_path / "out/", "--jobs", 0, *QUICK).code == 2
