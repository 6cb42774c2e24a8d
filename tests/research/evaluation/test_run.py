"""`certdicom evaluate` end to end on tiny networks and films: files, tables, going on after a kill."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grid
from certdicom.certification.scores import score
from certdicom.certification.unions import fallback
from certdicom.certification.window import WindowRule
from certdicom.cli.main import main
from certdicom.errors import UnreadableError, UsageError
from certdicom.models.backends.denoisers import MultiStepDenoiser
from certdicom.models.backends.torch import TorchBackend
from certdicom.models.bundle import Bundle
from certdicom.research.datasets.dataset import Sample
from certdicom.research.datasets.loading import load_dataset
from certdicom.research.datasets.splits import select
from certdicom.research.evaluation.models import Candidate, base_segmenter
from certdicom.research.evaluation.plan import Plan, subset
from certdicom.research.evaluation.results import results_page
from certdicom.research.evaluation.rows import RowFile, read_rows
from certdicom.research.evaluation.run import evaluate, seed_of
from tests.drawing import Segmenter
from tests.tiny import write_tiny_bundle

FEW = ["--n0", "5", "--n", "60", "--device", "cpu", "--precision", "float32", "--jobs", "1"]


@pytest.fixture
def plan(drawn: Path, bundle: Bundle) -> Plan:
    dataset = load_dataset(drawn)
    parameters = SmoothingParameters(n0=5, n=60)
    return Plan(dataset, "val", select(dataset, "val")[:2], (Candidate(bundle, "one-shot"),), (0.1,), parameters=parameters)


@pytest.fixture
def backend() -> TorchBackend:
    return TorchBackend(device="cpu", precision="float32")


def without_seconds(rows):
    return [repr(replace(row, seconds=0.0)) for row in rows]


def test_rows_say_everything_about_every_image(plan: Plan, backend: TorchBackend) -> None:
    rows = evaluate(plan, backend=backend)
    assert [(row.method, row.sigma, row.image, row.structure) for row in rows] == [
        (method, sigma, image, structure)
        for method, sigma in (("clean", 0.0), ("one-shot", 0.1))
        for image in ("F0", "F1")
        for structure in ("lungs", "heart")
    ]
    certified = rows[-1]
    window = plan.samples[1].read().presentation.fixed.window
    assert certified.radius == pytest.approx(0.1 * 0.67449, rel=1e-4)
    assert certified.native_radius == pytest.approx(certified.radius * 2 * (window.hi - window.lo)), "32 × 32 films on a 16 × 16 grid"
    assert certified.dice_worst_case <= certified.dice_certified <= certified.dice_answered
    assert certified.iou_certified <= certified.dice_certified
    assert certified.abstain <= certified.abstain_image
    assert all(row.abstain == 0 for row in rows if row.method == "clean")


def test_images_in_one_batch_or_alone_give_the_same(plan: Plan, backend: TorchBackend) -> None:
    alone, together = evaluate(plan, backend=backend), evaluate(plan, backend=backend, images_at_once=2)
    assert without_seconds(alone) == without_seconds(together)


def test_another_window_may_be_given_the_noise_that_keeps_the_native_radius(plan: Plan, backend: TorchBackend) -> None:
    displayed = replace(plan, window=WindowRule("displayed"))
    fixed, equal_sigma, equal_radius = (
        [row for row in evaluate(one, backend=backend, images_at_once=2) if row.method != "clean"]
        for one in (plan, displayed, replace(displayed, equal_radius=True))
    )
    for as_filed, same_sigma, same_radius in zip(fixed, equal_sigma, equal_radius, strict=True):
        assert same_sigma.radius == as_filed.radius
        assert same_sigma.native_radius != pytest.approx(as_filed.native_radius, rel=0.05)
        assert same_radius.native_radius == pytest.approx(as_filed.native_radius, rel=1e-3)
        assert same_radius.sigma == 0.1
    assert "at the native radius of the files' window" in replace(displayed, equal_radius=True).caption


def test_structures_without_a_mask_have_no_score(plan: Plan, backend: TorchBackend) -> None:
    last = replace(plan, samples=plan.dataset.samples[-1:], sigmas=())
    lungs, heart = evaluate(last, backend=backend)
    assert lungs.dice_certified >= 0
    assert np.isnan(heart.dice_certified)


def test_the_paper_setting_draws_gray_as_three_channels(plan: Plan, backend: TorchBackend) -> None:
    """sigma 0.5 on 512 × 512 × 3 meets the 16 × 16 gray model as 0.5 / (32 · √3), and the radius is in the paper's units."""
    paper = replace(plan, samples=plan.samples[:1], sigmas=(0.5,), protocol="paper", parameters=SmoothingParameters(n0=1, n=76))
    row = evaluate(paper, backend=backend)[-1]
    window = plan.samples[0].read().presentation.fixed.window
    assert row.radius == pytest.approx(0.5 * 0.67449, rel=1e-4)
    norm = 16.0  # 32 pixels stretched to 512: each counts 16 × 16 times, so that distances grow by 16
    assert row.native_radius == pytest.approx(row.radius * (window.hi - window.lo) / norm / 3**0.5, rel=1e-3)


def test_a_run_takes_up_what_is_there_and_adds_models_and_noise(plan: Plan, sibling: Bundle, backend: TorchBackend, tmp_path: Path) -> None:
    first = evaluate(plan, backend=backend, folder=tmp_path)
    more = replace(plan, candidates=(*plan.candidates, Candidate(sibling, "one-shot")), sigmas=(0.1, 0.2))
    seen: list[tuple[int, int]] = []
    rows = evaluate(more, backend=backend, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    kept = {row.key: row for row in rows}
    assert all(repr(kept[row.key].seconds) for row in first)
    assert {repr(row) for row in first} <= {repr(row) for row in rows}, "not computed again: even the seconds are those of the first run"
    assert len(rows) == 2 * 2 * 2 * 3
    with pytest.raises(UsageError, match="another run, which differs in smoothing"):
        evaluate(replace(plan, parameters=SmoothingParameters(n0=5, n=61)), backend=backend, folder=tmp_path)


BEYOND = {"n": 75, "looks": (52, 60, 75), "abstain_target": 0.3}


def test_decisions_are_those_of_the_certifier_of_films(plan: Plan, sibling: Bundle, backend: TorchBackend) -> None:
    """Through everything that `certdicom FILM` goes through but the file: networks, thresholds, looks, unions."""
    asked = replace(plan, parameters=SmoothingParameters(n0=5, **BEYOND), fallback=("heart,lungs",))
    asked = replace(asked, candidates=(*plan.candidates, Candidate(sibling, "one-shot")))
    rows = {(row.image, row.bundle_sha256, row.structure): row for row in evaluate(asked, backend=backend) if row.sigma}
    parameters = SmoothingParameters(sigma=0.1, n0=5, unions=((0, 1),), **BEYOND)
    for sample in plan.samples:
        view = sample.read().on_grid((16, 16), channels=1, structures=("lungs", "heart"))
        for bundle in (plan.candidates[0].bundle, sibling):
            decide = Segmenter(bundle, sigma=0.1)
            result = certify_grid(view.u, decide, parameters, seed=seed_of(sample.name))
            planes = {"lungs": result.decisions[0], "heart": result.decisions[1], "lungs or heart": result.unions.decisions[0]}
            for structure, plane in planes.items():
                row = rows[sample.name, bundle.sha256, structure]
                assert row.abstain == np.mean(plane == ABSTAIN)
                assert row.draws == result.draws
            alone = fallback(result.decisions, result.unions.decisions[0], members=(0, 1))
            assert rows[sample.name, bundle.sha256, "lungs or heart"].fallback == alone.mean()
            assert math.isnan(rows[sample.name, bundle.sha256, "lungs"].fallback)


def test_a_union_is_scored_against_the_union_of_its_masks(plan: Plan, backend: TorchBackend) -> None:
    without_heart = replace(plan, samples=plan.dataset.samples[2:], fallback=("lungs,heart",))
    rows = {(row.image, row.method): row for row in evaluate(without_heart, backend=backend) if row.structure == "lungs or heart"}
    assert math.isnan(rows["F3", "one-shot"].dice_certified), "where the heart's mask is missing nobody knows the union"
    sample = without_heart.samples[0]
    view = sample.read().on_grid((16, 16), channels=1, structures=("lungs", "heart"))
    segmenter = base_segmenter(backend, plan.candidates[0], plan.noise_grid_of(plan.candidates[0]), sigma=0)
    decided = segmenter.decide_image(view.u).any(0)
    expected = score(decided.astype(np.uint8), view.masks.any(0))
    assert rows["F2", "clean"].dice_certified == expected.certified[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": SmoothingParameters(n0=5, n=60, looks=(52, 60))},
        {"fallback": ("lungs,heart",)},
    ],
    ids=["looks", "fallback"],
)
def test_a_folder_of_another_test_is_refused(plan: Plan, backend: TorchBackend, tmp_path: Path, changes: dict) -> None:
    short = replace(plan, samples=plan.samples[:1])
    evaluate(short, backend=backend, folder=tmp_path)
    with pytest.raises(UsageError, match="another run, which differs in smoothing"):
        evaluate(replace(short, **changes), backend=backend, folder=tmp_path)
    with pytest.raises(UsageError, match="another run, which differs in precision"):
        evaluate(short, backend=TorchBackend(device="cpu", precision="bfloat16"), folder=tmp_path)


def test_rows_whose_run_is_not_known_are_not_taken_up(plan: Plan, backend: TorchBackend, tmp_path: Path) -> None:
    short = replace(plan, samples=plan.samples[:1], sigmas=())
    evaluate(short, backend=backend, folder=tmp_path)
    (tmp_path / "run.json").write_text('{"data": "dra')
    with pytest.raises(UsageError, match=r"cannot read .*run\.json"):
        evaluate(short, backend=backend, folder=tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(UsageError, match=r"run\.json is missing; choose another --out"):
        evaluate(short, backend=backend, folder=tmp_path)


def test_each_image_is_read_once_for_all_models_and_noise(plan: Plan, sibling: Bundle, backend: TorchBackend, tmp_path: Path) -> None:
    read: list[str] = []

    def noting(sample: Sample) -> Sample:
        return replace(sample, reader=lambda: (read.append(sample.name), sample.reader())[1])

    several = replace(plan, samples=tuple(map(noting, plan.samples)), candidates=(*plan.candidates, Candidate(sibling, "one-shot")))
    rows = evaluate(replace(several, sigmas=(0.1, 0.3)), backend=backend, folder=tmp_path)
    assert read == ["F0", "F1"]
    assert [repr(row) for row in evaluate(replace(several, sigmas=(0.1, 0.3)), backend=backend, folder=tmp_path)] == [
        repr(row) for row in rows
    ]
    assert read == ["F0", "F1"], "and not at all where everything is there"


def test_nothing_is_counted_twice_that_is_asked_for_twice(plan: Plan, backend: TorchBackend) -> None:
    twice = replace(plan, candidates=plan.candidates * 2, sigmas=(0.1, 0.1))
    assert without_seconds(evaluate(twice, backend=backend)) == without_seconds(evaluate(plan, backend=backend))


def test_a_random_subset_repeats_itself_and_grows(plan: Plan) -> None:
    samples = plan.dataset.samples
    drawn = {seed: {sample.name for sample in subset(samples, 2, seed=seed)} for seed in range(20)}
    assert len({frozenset(names) for names in drawn.values()}) > 3
    for seed, names in drawn.items():
        assert names < {sample.name for sample in subset(samples, 3, seed=seed)}
    assert subset(samples, 3, seed=None) == samples[:3]
    assert subset(samples, None, seed=None) == samples
    with pytest.raises(UsageError, match="say how many"):
        subset(samples, None, seed=1)


def test_sharing_the_noise_changes_no_result(plan: Plan, sibling: Bundle, backend: TorchBackend) -> None:
    both = replace(plan, candidates=(*plan.candidates, Candidate(sibling, "one-shot")))
    alone = replace(plan, candidates=(Candidate(sibling, "one-shot"),))
    names = without_seconds(evaluate(both, backend=backend))
    assert set(without_seconds(evaluate(alone, backend=backend))) <= set(names)


@pytest.mark.parametrize("method", ["multi-step", "direct", "segcertify"])
def test_every_way_to_a_smoothed_model_runs(plan: Plan, backend: TorchBackend, tmp_path: Path, method: str) -> None:
    bundle = write_tiny_bundle(tmp_path / method, method=method)
    rows = evaluate(replace(plan, candidates=(Candidate(bundle, method),), samples=plan.samples[:1]), backend=backend)
    assert [row.method for row in rows] == ["clean", "clean", method, method]
    assert all(0 <= row.abstain <= 1 for row in rows)


def test_multi_step_denoising_takes_as_many_steps_as_asked(
    plan: Plan, backend: TorchBackend, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[list[int]] = []
    made = MultiStepDenoiser.__init__

    def noting(self: MultiStepDenoiser, *args: object, **options: object) -> None:
        made(self, *args, **options)
        taken.append(self.time_steps)

    monkeypatch.setattr(MultiStepDenoiser, "__init__", noting)
    asked = replace(plan, candidates=(Candidate(bundle, "multi-step:3"),), samples=plan.samples[:1], sigmas=(0.1,))
    rows = evaluate(asked, backend=backend)
    assert {row.method for row in rows} == {"clean", "multi-step:3"}
    (steps,) = taken
    assert len(steps) == 3
    assert steps[-1] == 0
    for method in ("one-shot:3", "multi-step:0", "multi-step:", "multi-step:x"):
        with pytest.raises(UsageError, match="unknown method"):
            Candidate(bundle, method).denoised()


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_structures_are_hypotheses_of_their_own_whatever_the_activation(
    activation: str, plan: Plan, backend: TorchBackend, tmp_path: Path
) -> None:
    """As for films: 45 draws are too few for 2 × 256 hypotheses, though enough for 256."""
    bundle = write_tiny_bundle(tmp_path / activation, activation=activation)
    with pytest.raises(UsageError, match="512 decisions"):
        evaluate(replace(plan, candidates=(Candidate(bundle, "one-shot"),), parameters=SmoothingParameters(n0=5, n=45)), backend=backend)


def test_a_method_without_its_networks_is_refused(plan: Plan, backend: TorchBackend, bundle: Bundle) -> None:
    for method, message in (("segcertify", "made for one-shot"), ("magic", "unknown method")):
        with pytest.raises(UsageError, match=message):
            evaluate(replace(plan, candidates=(Candidate(bundle, method),)), backend=backend)
    with pytest.raises(UsageError, match="was trained for"):
        evaluate(replace(plan, sigmas=(3.0,)), backend=backend)


def test_an_impossible_request_is_refused_before_any_work(plan: Plan, backend: TorchBackend) -> None:
    with pytest.raises(UsageError, match="the smallest n that can is"):
        evaluate(replace(plan, parameters=SmoothingParameters(n=20)), backend=backend)


def command(drawn: Path, bundle: Bundle, out: Path, *more: str) -> list[str]:
    return ["evaluate", "--data", str(drawn), "--bundle", str(bundle.folder), "--sigma", "0.1", "0.3", "--out", str(out), *FEW, *more]


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_where_it_stopped(drawn: Path, bundle: Bundle, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        [sys.executable, "-m", "certdicom", *command(drawn, bundle, killed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    path, end = killed / "per_image.csv", time.monotonic() + 240
    while not (path.exists() and len(path.read_text().splitlines()) > 9) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with path.open("a") as stream:
        stream.write("F3,p1,ti")  # as if the disk had taken half a line
    before = RowFile(path, planes={bundle.sha256: 2}).rows
    assert before
    assert main(command(drawn, bundle, killed)) == 0
    assert main(command(drawn, bundle, whole)) == 0
    after = read_rows(path)
    assert [repr(row) for row in after[: len(before)]] == [repr(row) for row in before]
    assert sorted(without_seconds(after)) == sorted(without_seconds(read_rows(whole / "per_image.csv")))


def test_the_figures_of_the_docs_come_from_the_run(drawn: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the films to a page like docs/results.md, with the means that the per-image file gives."""
    pytest.importorskip("matplotlib")
    out, result = tmp_path / "out", tmp_path / "drawn.json"
    assert main(command(drawn, bundle, out, "--json", str(result), "--figures", "--images", "3")) == 0
    printed = capsys.readouterr().out
    rows = read_rows(out / "per_image.csv")
    lungs = [row for row in rows if row.structure == "lungs" and row.sigma == 0.3]
    assert len(lungs) == 3
    expected = f"| {np.mean([row.dice_certified for row in lungs]):.3f} |"
    content = json.loads(result.read_text())
    page = results_page([content])
    assert "| drawn val, 3 films, window of the files |" in page
    certified = next(line for line in page.splitlines() if line.startswith("| certified Dice, sigma 0.3 "))
    assert expected in certified
    assert f"{np.mean([row.abstain_image for row in lungs]):.1%}" in certified
    assert expected in printed
    assert expected in (out / "table.md").read_text()
    assert r"\begin{tabular}" in (out / "table.tex").read_text()
    assert (out / "certified_dice.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "certified_dice.svg").read_text()
    assert content["command"] == "certdicom evaluate --data drawn --images 3 --bundle tiny --sigma 0.1 0.3 --n0 5 --n 60"
    assert content["beyond"] == []
    assert content["bundle"]["sha256"] == bundle.sha256


def test_what_goes_beyond_holm_at_n_is_said_wherever_figures_are(
    drawn: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, result = tmp_path / "out", tmp_path / "drawn.json"
    start = ["evaluate", "--data", str(drawn), "--bundle", str(bundle.folder), "--sigma", "0.1", "--n0", "5", "--device", "cpu"]
    asked = ["--looks", "52,60", "--abstain-target", "0.3", "--fallback", "heart, lungs"]
    assert main([*start, *asked, "--images", "2", "--images-seed", "3", "--out", str(out), "--json", str(result)]) == 0
    said = (
        "looks at 52, 60 draws, alpha split over them until at most 0.3 of the pixels abstain",
        "fallback to heart or lungs in the same family",
    )
    content = json.loads(result.read_text())
    assert content["beyond"] == list(said)
    texts = [capsys.readouterr().out, *((out / f"table{ending}").read_text() for ending in (".md", ".tex", ".html"))]
    for text in texts:
        assert [sentence for sentence in said if sentence not in text] == []
    page = results_page([content])
    assert all(sentence[1:] in page for sentence in said)
    again = content["command"].replace("--data drawn", f"--data {drawn}").replace("--bundle tiny", f"--bundle {bundle.folder}")
    assert main([*shlex.split(again)[1:], "--device", "cpu", "--out", str(out)]) == 0, "the command that is told goes on with that run"
    assert capsys.readouterr().out == texts[0]


def test_contradictions_on_the_command_line_are_told(
    drawn: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = ["evaluate", "--data", str(drawn), *FEW]
    twice = ["--bundle", str(bundle.folder), str(bundle.folder), "--json", str(tmp_path / "x.json")]
    for wrong, message in (
        (["--figures"], "needs --out"),
        (twice, "one bundle"),
        (["--split", "test"], "no part 'test'"),
        (["--bundle", str(bundle.folder), "--method", "magic"], "unknown method 'magic'"),
        (["--bundle", str(bundle.folder), "--batch-size", "0"], "at least 1"),
        (["--images", "0"], "--images must be at least 1"),
        (["--bundle", str(bundle.folder), "--fallback", "lungs,spleen"], "has no structure 'spleen'; it has lungs, heart"),
        (["--family", "k-fwer:2"], "unknown option --family"),
    ):
        assert main([*start, *wrong]) == 2
        assert message in capsys.readouterr().err


def test_several_processes_give_the_same_rows_in_the_same_order(plan: Plan, sibling: Bundle, backend: TorchBackend, tmp_path: Path) -> None:
    """And take up what is there: an image of one of the models, which is not computed again."""
    whole = replace(plan, samples=plan.dataset.samples, candidates=(*plan.candidates, Candidate(sibling, "one-shot")))
    begun = replace(plan, samples=whole.samples[1:2])
    found, seen = [], []
    for name, sizes in (("alone", {}), ("several", {"processes": 2, "images_at_once": 2})):
        evaluate(begun, backend=backend, folder=tmp_path / name)
        seen.clear()
        rows = evaluate(whole, backend=backend, folder=tmp_path / name, progress=lambda done, total: seen.append((done, total)), **sizes)
        found.append((without_seconds(rows), without_seconds(read_rows(tmp_path / name / "per_image.csv"))))
        assert seen[-1] == (16, 16)
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    (rows, kept), (rows_of_several, kept_of_several) = found
    assert rows == rows_of_several
    assert sorted(kept) == sorted(kept_of_several)


def test_a_damaged_file_ends_several_processes_with_its_name(plan: Plan, drawn: Path, backend: TorchBackend, tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    shutil.copytree(drawn, folder)
    (folder / "images" / "F2.png").write_bytes(b"no picture")
    damaged = replace(plan, samples=load_dataset(folder).samples, sigmas=())
    with pytest.raises(UnreadableError, match="cannot read F2"):
        evaluate(damaged, backend=backend, processes=2)
