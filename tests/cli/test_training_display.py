"""What a training shows, from the first step on, in a file and after a kill."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.cli.training_display import TrainingDisplay
from certdicom.research.training.loop import Moment


def moment(step: int, **fields) -> Moment:
    return Moment(
        **{"progress": step / 100, "step": step, "seconds": 2.0 * step, "loss": 1 / step, "columns": {}, "saved": False, **fields}
    )


def test_a_file_gets_the_first_step_scores_and_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay("train segmenter on cpu", steps=100)
    with display:
        display.show(moment(1))
        display.show(moment(2))
        display.show(moment(3, saved=True))
        display.show(moment(4, saved=True, columns={"loss": 0.25, "Dice drawn lungs clean": 0.9}))
    first, saved, scores = capsys.readouterr().err.splitlines()
    assert first == "train segmenter on cpu: step 1 of 100, loss 1, 0:03:18 left"
    assert "step 3: saved" in saved
    assert scores == "train segmenter on cpu: step 4: loss 0.25, Dice drawn lungs clean 0.9"


def test_another_process_of_the_same_training_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay("x", steps=1, quiet=True)
    display.show(moment(1))
    display.say("nothing")
    assert capsys.readouterr().err == ""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        for kind in ("images", "masks/heart"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            content = generator.integers(0, 255, (64, 64)) if kind == "images" else 255 * generator.integers(0, 2, (64, 64))
            Image.fromarray(content.astype(np.uint8)).save(tmp_path / "data" / kind / f"{name}.png")
    (tmp_path / "data" / "split.csv").write_text("id,split\na,train\nb,train\nc,val\n")
    return tmp_path / "data"


def test_a_killed_training_goes_on_from_a_checkpoint_between_validations(data: Path, tmp_path: Path) -> None:
    network = '{"architecture": "UNet", "width": 2, "depth": 1}'
    words = ["train", "segmenter", "--data", str(data), "--structures", "heart", "--grid", "32", "--network", network]
    words += [
        "--batch-size",
        "1",
        "--out",
        str(tmp_path / "run"),
        "--validate-every",
        "100000",
        "--save-minutes",
        "0.005",
        "--threads",
        "1",
    ]
    command = [sys.executable, "-m", "certdicom", *words]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, "--steps", "1000000"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while ": saved" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait(30)
    lines = (tmp_path / "log").read_text().splitlines()
    assert "2 images to train on" in lines[0]
    assert any("step 1 of 1,000,000, loss" in line for line in lines)
    steps = int(next(line for line in lines if ": saved" in line).split("step ")[1].split(":")[0].replace(",", "")) + 20
    done = subprocess.run([*command, "--steps", str(steps), "--resume"], capture_output=True, text=True, check=True, timeout=120)
    assert "step 1 of" not in done.stderr
    assert done.stdout.splitlines()[0] == str(tmp_path / "run" / "segmenter.safetensors")
    assert (tmp_path / "run" / "learning.csv").read_text().startswith("step,seconds,loss,")
