"""Every command that README and docs show is one, and those that can run in seconds are run, on stand-ins for the reader's files."""

from __future__ import annotations

import argparse
import csv
import inspect
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.cli.main import COMMANDS, _of_today, build_parser, main
from certdicom.imaging.synthetic import chest_phantom, synthetic_film, write_film
from certdicom.models.networks import _ARCHITECTURES
from certdicom.research.datasets.loading import load_dataset
from tests.tiny import write_tiny_bundle

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PARSER = build_parser()


def told(page: Path) -> Iterator[str]:
    """What follows `certdicom` in blocks of code and in inline code."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^(?:\.venv/bin/)?certdicom +(.+)$", block, re.MULTILINE)
    yield from re.findall(r"^    (?:\.venv/bin/)?certdicom +(.+)$", text, re.MULTILINE)
    yield from re.findall(r"`(?:\.venv/bin/)?certdicom +([^`]+)`", text)


def words_of(line: str) -> list[str]:
    return [word for word in shlex.split(line.partition(" > ")[0], comments=True) if word != "…"]


def parser_for(words: list[str]) -> argparse.ArgumentParser:
    """The parser of the command that the words begin with; without one, certify's."""
    parser, words = PARSER, list(words) if words[0] in COMMANDS else ["certify", *words]
    while words and (branches := [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]):
        if words[0] not in branches[0].choices:
            break
        parser = branches[0].choices[words.pop(0)]
    return parser


LINES = sorted({(page.name, line) for page in PAGES for line in told(page)})


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_and_option_that_is_shown_exists(page: str, line: str) -> None:
    words = _of_today(words_of(line))
    first = words[0]
    command = first if re.fullmatch("[a-z]+", first) else "certify"
    assert command in COMMANDS or first == "x", first
    known = parser_for(words)._option_string_actions
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known and word not in ("--version",)]
    assert not unknown


def test_commands_were_found() -> None:
    assert len(LINES) > 50


@pytest.mark.parametrize("name", _ARCHITECTURES)
def test_every_argument_of_an_architecture_is_in_the_table(name: str) -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    section = page.split("### Arguments of the architectures")[1].split("\nA field that")[0]
    rows = section.split(f"| `{name}` |")[1].split("\n| `")[0]
    for argument in inspect.signature(_ARCHITECTURES[name].__init__).parameters:
        if argument not in ("self", "channels", "structures"):
            assert f"`{argument}`" in rows, argument


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from certdicom.models.backends.export import export_bundle
    from certdicom.models.bundle import load_bundle
    from certdicom.selftest import record_expectation

    folder = tmp_path_factory.mktemp("bundle") / "my-bundle"
    write_tiny_bundle(folder, grid=64, labels=("lungs", "heart", "clavicles"), method="segcertify")  # an untrained denoiser fails the check
    export_bundle(folder)
    record_expectation(load_bundle(folder), (folder / "selftest.json").write_text)
    return folder


@pytest.fixture
def here(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the pages speak of: a film, a folder of films, a bundle."""
    monkeypatch.chdir(tmp_path)
    write_film(synthetic_film(rows=160, columns=128)[0], tmp_path / "film.dcm")
    (tmp_path / "films").mkdir()
    shutil.copy("film.dcm", "films/a.dcm")
    for name in ("my-bundle", "mine"):
        shutil.copytree(bundle, tmp_path / name, dirs_exist_ok=True)
    return tmp_path


def run(line: str, *more: str) -> None:
    assert main([*words_of(line), *more, "--debug"]) == 0, line


FAST = ("--bundle", "my-bundle", "--n", "75")


def test_the_main_jobs_of_the_readme(here: Path) -> None:
    lines = [line for line in told(ROOT / "README.md") if line.split()[0].startswith(("film", "info", "bundle")) and "NAME" not in line]
    assert len(lines) >= 8
    Path("film.dcm").rename("kept.dcm")
    for line in lines:
        shutil.copy("kept.dcm", "film.dcm")
        more = FAST if line.startswith("film") else ()
        run(line, *more, *(["--force"] if line.startswith(("film.dcm", "bundle check")) else []))
    assert {"seg.dcm", "p.png", "r.json", "s.seg.nrrd", "results"} <= {path.name for path in here.iterdir()}
    assert len(list((here / "results").glob("*"))) == 4


def test_the_first_five_minutes(here: Path) -> None:
    (line,) = (line for line in told(ROOT / "docs" / "index.md") if "--explain" in line)
    run(line, *FAST)
    assert {"preview.png", "report.json", "why.png"} <= {path.name for path in here.iterdir()}


def test_networks_of_your_own(here: Path) -> None:
    lines = [line for line in told(ROOT / "docs" / "models.md") if " mine" in line and not line.startswith("bundle convert")]
    assert len(lines) == 3
    for line in lines:
        run(line, *(["--n", "75", "--accept-any"] if line.startswith("film") else []))
    assert (here / "mine.png").exists()


@pytest.fixture
def films(here: Path) -> Path:
    """`films` as docs/training.md has it: images with masks."""
    shutil.rmtree("films")
    structures = ("lungs", "heart", "clavicles")
    for place in ("images", *(f"masks/{structure}" for structure in structures)):
        (here / "films" / place).mkdir(parents=True)
    with Path("films/split.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(("id", "split"))
        for index in range(10):
            rows.writerow((f"F{index}", "val" if index > 7 else "train"))
            phantom = chest_phantom(96, 96, seed=index)
            Image.fromarray((phantom.density.clip(0, 1) * 255).astype(np.uint8)).save(f"films/images/F{index}.png")
            for structure in structures:
                Image.fromarray(phantom.masks[structure]).save(f"films/masks/{structure}/F{index}.png")
    return here / "films"


SHORT = ("--steps", "4", "--batch-size", "2", "--grid", "64", "--threads", "1")
UNET = '{"architecture": "UNet", "width": 4, "depth": 2, "padding": "zero", "norm": "batch"}'
PATCHES = '{"architecture": "PatchDenoiser", "patch": 4, "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4}'


def test_training_from_films_to_a_bundle(films: Path) -> None:
    lines = [line for line in told(ROOT / "docs" / "training.md") if "…" not in line and line.split()[0] in ("train", "bundle", "film.dcm")]
    denoiser, segmenter, labels, pack, certify = (line for line in lines if "--out" in line or line.startswith("film"))
    run(denoiser, *SHORT, "--network", PATCHES)
    run(segmenter, *SHORT, "--network", UNET)
    shutil.copytree("films/images", "unlabelled/images")
    run(labels)
    assert load_dataset(Path("labelled/unlabelled")).parts.keys() == {"train"}
    shutil.rmtree("my-bundle")
    run(pack, "--calibration-images", "1")
    run(certify, "--n", "75", "--accept-any")


def test_every_way_to_train_that_the_table_names(films: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the table names is taken, and reaches the record."""
    run(
        "train denoiser --data films --out run/direct --sigma 0.144 --split-seed 0 --seed 3 --strength 0.1 0.1 --windows full",
        *SHORT,
        "--network",
        UNET,
    )
    listing = (
        "--split-list films/split.csv --structures lungs heart --factor 2 --recount --minutes 5 --save-minutes 1 --rate 0.001 --shares 1"
    )
    run(f"train segmenter --data films --out run/coarse --noise 0.25 {listing}", *SHORT, "--network", UNET)
    assert main([*words_of(f"train segmenter --data films --out run/coarse --noise 0.25 {listing} --resume"), *SHORT[2:]]) == 2
    assert "the checkpoint is of another network" in capsys.readouterr().err
    run(f"train segmenter --data films --out run/coarse --noise 0.25 {listing} --resume", *SHORT[2:], "--steps", "6", "--network", UNET)
    from certdicom.research.training.weights import load_network

    record = load_network(films.parent / "run" / "coarse" / "segmenter.safetensors").record
    assert (record["factor"], record["recount"], record["noise"], record["steps"]) == (2, True, 0.25, 6)
    assert load_network(films.parent / "run" / "direct" / "denoiser.safetensors").record["seed"] == 3


def test_every_way_to_pack_that_the_table_names(films: Path) -> None:
    from certdicom.models.bundle import load_bundle

    run("train denoiser --data films --out run/d", *SHORT, "--network", PATCHES)
    run("train segmenter --data films --out run/s --structures lungs heart", *SHORT, "--network", UNET)
    common = "bundle pack --data films --segmenter run/s/segmenter.safetensors --calibration-images 0 --structures lungs heart"
    denoiser = "--denoiser run/d/denoiser.safetensors"
    run(f"{common} {denoiser} --out many --mirror --summary 'for a test' --multi-step --grid 64 --factor 2 --split-seed 0")
    many = load_bundle("many")
    assert (many.denoising.method, many.denoising.factor, many.shape, many.input_spec.mirror) == ("multi-step", 2, (128, 128), True)
    assert many.summary == "for a test"
    run(f"{common} {denoiser} --out lender --split-list films/split.csv")
    run(f"{common} --borrow lender --out borrower --code heart=80891009,SCT,Heart")
    assert load_bundle("borrower").homes["denoiser"].name == "lender"


def test_evaluating(films: Path, bundle: Path) -> None:
    (line,) = (line for line in told(ROOT / "docs" / "evaluation.md") if "--figures" in line)
    films.rename("jsrt")
    few = ("--sigma", "0.3", "--n", "75", "--images", "1", "--images-at-once", "1", "--bundle", "my-bundle", "--backend", "openvino")
    run(line, *few)
    run("evaluate --data jsrt --split-list jsrt/split.csv --protocol native --out runs/listed --window displayed --equal-radius", *few)
    assert Path("runs/jsrt/certified_dice.png").exists()


def test_what_administrators_type(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = (line for line in told(ROOT / "docs" / "node.md") if "--print-config" in line)
    run(line)
    assert "[node]" in capsys.readouterr().out


def test_the_selftest_and_other_ways_to_name_things(here: Path) -> None:
    run("selftest --bundle my-bundle --backend openvino --quiet")
    run("bundle check mine --film film.dcm --quiet")
    run("film.dcm -o s.nii.gz --seg s.dcm --backend openvino", *FAST)
    run("film.dcm --nifti s.nii --radius-sc r.dcm --drawn-seg d.dcm --quiet", *FAST)
    assert {"s.nii.gz", "s.dcm", "s.nii"} <= {path.name for path in here.iterdir()}


def options(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                yield from options(child, f"{name} {word}".strip())
        elif action.help != argparse.SUPPRESS:
            yield from ((name, option) for option in action.option_strings if option.startswith("--") and option != "--help")


ELSEWHERE = {
    ("bundle convert-adm", "--adm-flags"): "models/test_adm.py::the converter, whose checkpoints are large, is tested as a function",
    ("bundle pack", "--int8"): "models/test_openvino_backend.py, by the function that packing calls",
    ("demo", "--folder"): "demo/test_demo.py, by the function that the command calls",
    ("reproduce", "--image"): "research/evaluation/test_reproduce.py, by take_stock_of_figure1",
}


def test_every_option_is_used_by_a_test() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")]
    unused = []
    for command, option in options(PARSER, ""):
        used = re.compile(rf"{option}(?![\w-])")
        if (command, option) not in ELSEWHERE and not any(used.search(text) for text in texts):
            unused.append(f"{command} {option}")
    assert unused == []
