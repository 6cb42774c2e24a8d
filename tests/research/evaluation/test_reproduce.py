"""`certdicom reproduce`: runs what is there, says what is missing and how to get it, and sets the paper's figures beside."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from certdicom.certification.certificate import Structure
from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.main import build_parser, main
from certdicom.errors import UsageError
from certdicom.models.backends.torch import TorchBackend
from certdicom.research.evaluation import protocol
from certdicom.research.evaluation.figures import curve_figure, paint
from certdicom.research.evaluation.models import METHODS
from certdicom.research.evaluation.results import read_results
from certdicom.research.paper.figure1 import draw_figure1, take_stock_of_figure1
from certdicom.research.paper.inventory import FOLDERS, find_bundle, how_to_make, known_bundles
from certdicom.research.paper.paper import MODELS, TABLES, best_of_table1, paper
from certdicom.research.paper.reproduce import reproduce, reproduction_file, reproduction_section, reproduction_table, take_stock
from certdicom.research.plots import save_figure
from tests.tiny import write_tiny_bundle

FEW = SmoothingParameters(n0=1, n=76)


@pytest.fixture(autouse=True)
def _one_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found must not hang on what else happens to be shipped."""
    monkeypatch.setattr("certdicom.research.paper.inventory.shipped_bundles", lambda: ("cxr-gray-256",))


@pytest.fixture
def here(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder that holds JSRT (drawn), and one with a tiny UNet for it; the paper's films are 64 × 64 here, to save time."""
    monkeypatch.setattr(protocol, "_PAPER_FILM", (64, 64))
    data = tmp_path / "data"
    data.mkdir()
    (data / "jsrt").symlink_to(drawn)
    write_tiny_bundle(tmp_path / "bundles" / "jsrt-unet", labels=("lungs", "heart", "clavicles"), architecture="UNet", grid=32)
    return data, tmp_path / "bundles"


def test_the_papers_figures_are_whole() -> None:
    cells = [cell for cell in paper().cells if cell.table in ("table1", "table2", "table3")]
    assert len(cells) == 3 * 3 * 5 + 3 + 2 * 9 + 2 * 2 * 3
    assert all(0 <= cell.iou <= cell.dice <= 1 for cell in cells)
    assert best_of_table1(0.25) == (0.95, 0.93, 0.85)
    assert best_of_table1(1.0) == (0.90, 0.87, 0.28)
    assert {cell.table for cell in paper().cells} == set(TABLES)


def test_what_is_there_is_run_and_what_is_missing_is_named(here: tuple[Path, Path], tmp_path: Path) -> None:
    data, bundles = here
    stock = take_stock("table1", data=data, bundles=[b for b in known_bundles(bundles) if b.name == "jsrt-unet"], split="val")
    told = "\n".join(str(missing) for missing in stock.missing)
    assert "data set montgomery: put CXR_png/" in told
    assert "bundle of ResUNet++ for jsrt: certdicom train denoiser" in told
    assert "bundle of UNet for jsrt" not in told
    backend = TorchBackend(device="cpu", precision="float32")
    lines = reproduce(stock, split="val", backend=backend, out=tmp_path / "out", images=1, parameters=FEW)
    ran = [line for line in lines if line["ours"]]
    assert {(line["model"], line["data"]) for line in ran} == {("UNet", "jsrt")}
    assert {line["sigma"] for line in ran} == {0.25, 0.5, 1.0}
    content = reproduction_file(stock, lines, command="certdicom reproduce table1 --split val", split="val", machine="here")
    table = reproduction_table(content).markdown()
    first = next(line for line in table.splitlines() if line.startswith("| UNet | one-shot | jsrt | lungs | 0.25 "))
    assert "| 0.94/0.91 |" in first
    assert f"| {ran[0]['ours']['dice']:.3f}/" in first, "of one image there is no interval"
    assert "| open |" in next(line for line in table.splitlines() if "DeepLabV2" in line)
    folder = tmp_path / "results"
    (folder / "reproduce").mkdir(parents=True)
    (folder / "reproduce" / "table1.json").write_text(json.dumps(content))
    (folder / "reproduce" / "table1.md").write_text("Hearts fall short, because few were drawn.\n")
    (read,) = read_results(folder)[1]
    section = reproduction_section(read)
    assert first in section
    assert "\nHearts fall short, because few were drawn.\n" in section
    assert "* data set shenzhen: put CXR_png/" in section


def test_table_s1_may_take_fewer_steps_and_says_so(here: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, bundles = here
    wanted = [b for b in known_bundles(bundles) if b.name == "jsrt-unet"]
    stock = take_stock("s1", data=data, bundles=wanted, split="val", steps=2)
    backend = TorchBackend(device="cpu", precision="float32")
    lines = reproduce(stock, split="val", backend=backend, out=tmp_path / "out", images=1, parameters=FEW)
    assert {line["method"] for line in lines if line["ours"]} == {"multi-step:2", "one-shot"}
    beside = [line for line in lines if line["method"] == "one-shot"]
    assert {line["model"] for line in beside} == {"UNet"}, "a network with no bundle for S1 needs no line to compare with"
    assert [line["paper"]["dice"] for line in beside if line["sigma"] == 0.25] == [0.94, 0.88, 0.75], "as in Table 1"
    assert {line["method"] for line in lines if not line["ours"]} == {"multi-step"}
    whole = {entry.candidate.method for entry in take_stock("s1", data=data, bundles=wanted, split="val").entries if entry.candidate}
    assert whole == {"multi-step", "one-shot"}
    none = take_stock("s1", data=data, bundles=wanted, split="val", steps=0)
    with pytest.raises(UsageError, match="at least 1 step"):
        reproduce(none, split="val", backend=backend, out=tmp_path / "none", images=1, parameters=FEW)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", tuple(FOLDERS))
def test_the_commands_that_fill_gaps_are_commands(data: str, method: str) -> None:
    fill = how_to_make(model="ResUNet++", method=method, data=data, folder=Path("some where")).fill
    commands = fill.split("; then ")[0].split(" && ")
    assert len(commands) == {"segcertify": 2, "direct": 5}.get(method, 3)
    assert ("--calibration-images 0" in fill) == (method == "segcertify"), "the paper's SegCertify has no thresholds"
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "certdicom"
        arguments = build_parser(words[1]).parse_args(words[1:])
        assert arguments.data == [Path("some where") / FOLDERS[data][0]]
        if getattr(arguments, "network", None):
            assert json.loads(arguments.network) == {"architecture": "ResUNet++"}


def test_bundles_are_known_by_their_network_and_structures(here: tuple[Path, Path]) -> None:
    bundles = known_bundles(here[1])
    assert find_bundle(bundles, model="UNet", method="one-shot", data="jsrt").name == "jsrt-unet"
    assert find_bundle(bundles, model="UNet", method="one-shot", data="montgomery").name == "jsrt-unet", "it knows lungs"
    assert find_bundle(bundles, model="UNet", method="segcertify", data="jsrt") is None
    assert find_bundle(bundles, model="UNet", method="one-shot", data="cvc_clinicdb") is None
    assert find_bundle(bundles, model=MODELS[1], method="one-shot", data="jsrt") is None


def test_the_command_checks_without_running(here: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", str(here[0]), "--bundles", str(here[1]), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["reproduce", "table3", "--check", *common]) == 0
    told = capsys.readouterr().err
    assert re.search(r"missing: data set isic2018: put ISIC2018_Task1-2_Training_Input/", told)
    assert re.search(r"missing: bundle of ResUNet\+\+ for cvc_clinicdb, segcertify: certdicom train segmenter .*--noise 0.0833", told)
    assert not (tmp_path / "out").exists()
    assert main(["reproduce", "fig1", "--check", "--split", "val", *common]) == 0
    assert "missing: bundle of ResUNet++ for jsrt, segcertify" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing is drawn"
    assert main(["reproduce", "table1", "--check", "--split", "nothing", *common]) == 0
    assert re.search(r"missing: data set jsrt: .* no part 'nothing'; it has .*val", capsys.readouterr().err)
    assert main(["reproduce", "table3", *common]) == 2
    assert "nothing of table3 can be run" in capsys.readouterr().err


def test_abstained_pixels_are_white_and_structures_in_their_colours() -> None:
    lungs, other = Structure("lungs", ("1", "SCT", "Lung"), (1, 2, 3)), Structure("other", ("2", "SCT", "Other"), (9, 8, 7))
    picture = paint(np.array([[[1, 0, 2, 1]], [[0, 0, 0, 1]]], np.uint8), (lungs, other))
    assert picture[0].tolist() == [[86, 180, 233], [0, 0, 0], [255, 255, 255], [9, 8, 7]]


def test_figure_1_leaves_open_what_is_missing(here: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data, bundles = here
    only = [bundle for bundle in known_bundles(bundles) if bundle.name == "jsrt-unet"]
    backend = TorchBackend(device="cpu", precision="float32")
    stock = take_stock_of_figure1(data=data, bundles=only, split="val")
    figure = draw_figure1(stock, backend=backend, parameters=FEW)
    assert [str(lack).split(":")[0] for lack in stock.missing] == ["bundle of ResUNet++ for jsrt, segcertify"]
    paths = save_figure(figure, tmp_path / "fig1")
    assert [path.suffix for path in paths] == [".png", ".svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_text().count("<image") == 9, "three panels a noise level, and SegCertify's open"
    with pytest.raises(UsageError, match="no image 'nobody'"):
        take_stock_of_figure1(data=data, bundles=only, split="val", image="nobody")
    with pytest.raises(UsageError, match="no certified result"):
        curve_figure([])
