"""Training on a few drawn films: the loops run, learn, write, and the data are read as they lie on disk."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from certdicom.certification.schedule import LinearSchedule
from certdicom.certification.window import Moments
from certdicom.cli.main import main
from certdicom.errors import UsageError
from certdicom.imaging.displayed import displayed_window
from certdicom.models.networks import build_network
from certdicom.research.training.augmentation import augment, displayed, rewindow
from certdicom.research.training.curves import CURVES, read_curves
from certdicom.research.training.data import STRUCTURES, join, load_films, spread
from certdicom.research.training.denoiser import DENOISER, DenoiserRecipe, Diffusion
from certdicom.research.training.loop import CHECKPOINT, Moment, Plan, train
from certdicom.research.training.segmenter import (
    SEGMENTER,
    Denoising,
    SegmenterRecipe,
    disagreement,
    drawn_by_shares,
    segmentation_loss,
)
from certdicom.research.training.weights import AveragedWeights, load_network, save_network

SMALL_SEGMENTER = {**SEGMENTER, "features": [8, 16, 16], "strides": [2, 2]}
SMALL_DENOISER = {**DENOISER, "block_out_channels": [8, 8], "norm_num_groups": 4}


def test_films_are_read_with_their_sides_merged(data: Path) -> None:
    films = load_films(data, "train", grid=64)
    assert films.images.shape == (3, 1, 64, 64)
    assert films.masks.shape == (3, 3, 64, 64)
    assert films.weights.tolist() == [[1, 1, 1]] * 3
    assert films.known.all()
    assert not films.unsure.any()
    assert 0.1 < float(films.masks[:, 0].float().mean()) < 0.5
    assert len(join([films, films])) == 6


def test_a_few_films_are_taken_from_all_over_a_data_set(data: Path) -> None:
    films = load_films(data, "train", grid=64)
    assert spread(films, 2).names == (films.names[0], films.names[2])
    assert torch.equal(spread(films, 2).images, films.images[[0, 2]])
    assert spread(films, 99).names == films.names


def test_a_folder_that_is_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no data set that is known"):
        load_films(tmp_path, "train", grid=64)


def test_augmentation_moves_image_and_masks_together(data: Path) -> None:
    """After any warp the lungs are still darker than the heart."""
    torch.manual_seed(0)
    films = load_films(data, "train", grid=64)
    from certdicom.research.training.augmentation import warp

    for _ in range(8):
        image, masks = warp(films.images, films.masks)
        lung, heart = masks[:, 0].bool(), masks[:, 1].bool()
        for index in range(3):
            assert image[index, 0][lung[index]].mean() < image[index, 0][heart[index]].mean()
    image, masks = augment(films.images, films.masks)
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_photographs_of_any_shape_are_turned_with_their_masks() -> None:
    torch.manual_seed(1)
    masks = torch.zeros(16, 1, 48, 64)
    masks[:, :, 8:20, 10:40] = 1
    image = 0.2 + 0.6 * masks.expand(-1, 3, -1, -1)
    turned, planes = augment(image, masks, strength=0.3)
    assert turned.shape == image.shape
    centres = [plane[0].nonzero().float().mean(0) for plane in planes]
    assert min(float(c[0]) for c in centres) < 24 < max(float(c[0]) for c in centres)
    assert min(float(c[1]) for c in centres) < 32 < max(float(c[1]) for c in centres)
    for picture, plane in zip(turned, planes, strict=True):
        assert picture[:, plane[0].bool()].mean() > picture[:, ~plane[0].bool()].mean()


def test_films_are_mirrored_left_to_right_only_and_only_where_asked(data: Path) -> None:
    torch.manual_seed(0)
    films = load_films(data, "train", grid=64)
    heart, clavicles = films.masks[:1, 1:2].repeat(24, 1, 1, 1), films.masks[:1, 2:].repeat(24, 1, 1, 1)
    image = films.images[:1].repeat(24, 1, 1, 1)
    for mirrored in (True, False):
        _, planes = augment(image, torch.cat([heart, clavicles], 1), strength=0.2, mirrored=mirrored)
        sides = {float(plane[0].nonzero().float().mean(0)[1]) > 31.5 for plane in planes}
        assert len(sides) == 1 + mirrored
        assert all(plane[1].nonzero().float().mean(0)[0] < plane[0].nonzero().float().mean(0)[0] for plane in planes)


def test_photographs_are_turned_by_any_angle_and_films_are_not() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(64, 1, 64, 64)
    masks[:, :, 24:40, 44:56] = 1  # right of the middle

    def directions(channels: int) -> list[float]:
        _, planes = augment(0.2 + 0.6 * masks.expand(-1, channels, -1, -1), masks, strength=0.3, mirrored=False)
        centres = [plane[0].nonzero().float().mean(0) - 31.5 for plane in planes if plane.any()]
        return [math.degrees(math.atan2(float(y), float(x))) for y, x in centres]

    assert max(map(abs, directions(1))) < 30
    photographs = directions(3)
    assert all(any(low < angle < low + 90 for angle in photographs) for low in (-180, -90, 0, 90))


def test_light_of_another_colour_leaves_gray_nearly_gray_and_moves_colours() -> None:
    from certdicom.research.training.augmentation import recolour

    torch.manual_seed(0)
    red = torch.tensor([0.6, 0.3, 0.3]).view(1, 3, 1, 1).expand(64, 3, 8, 8)
    purity = [float((picture[0] - picture[1]).mean() / picture.mean()) for picture in recolour(red, strength=1.0)]
    assert min(purity) < 0.5 < max(purity), "0.75 before"
    assert torch.equal(recolour(red, strength=0.0), red)


def test_most_noise_levels_lie_below_the_one_asked_for() -> None:
    diffusion = Diffusion(LinearSchedule(), device=torch.device("cpu"))
    torch.manual_seed(0)
    for sigma in (0.2, 0.55):
        levels = torch.from_numpy(diffusion.schedule.noise_levels())[diffusion.draw_steps(4000, most_sigma=sigma)] / 2
        assert 0.85 < float((levels <= sigma * 1.01).double().mean()) < 0.9
        assert float(levels.max()) <= 1.01


def test_batch_norms_may_count_anew_over_images_as_they_are(data: Path) -> None:
    """Of images of one brightness each, the first norm's mean is the convolution of the mean brightness."""
    films = load_films(data, "train", grid=32)
    films = replace(films, images=torch.tensor([0.1, 0.4, 0.7]).view(3, 1, 1, 1).expand(3, 1, 32, 32))
    description = {"architecture": "UNet", "channels": 1, "structures": 3, "width": 4, "depth": 1, "padding": "zero", "norm": "batch"}
    counted = {}
    for recount in (False, True):
        torch.manual_seed(0)
        network = build_network(description).eval()
        recipe = SegmenterRecipe(network, description, train=films, val={"drawn": films}, factor=2, recount=recount)
        recipe.validate({"segmenter": network})
        assert not network.training
        norm = network.down[0][1]
        assert norm.momentum is not None
        counted[recount] = norm.running_mean.clone()
        first = network.down[0][0]
    assert not counted[False].any()
    seen = torch.stack([first(torch.full((1, 1, 16, 16), value)).mean((0, 2, 3)) for value in (0.1, 0.4, 0.7)])
    torch.testing.assert_close(counted[True], seen.mean(0).detach(), atol=0.01, rtol=0.02)


def test_noise_before_a_denoiser_needs_a_denoiser(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "segmenter", "--data", str(data), "--grid", "32", "--out", str(tmp_path)]
    assert main([*train, "--most-sigma", "0.3"]) == 2
    assert "give --denoiser FILE" in capsys.readouterr().err
    denoiser = tmp_path / "denoiser.safetensors"
    save_network(build_network(SMALL_DENOISER), denoiser, description=SMALL_DENOISER)
    for sigma in ("0", "0.03", "1.5"):
        assert main([*train, "--denoiser", str(denoiser), "--most-sigma", sigma]) == 2
        assert f"--most-sigma must be above 0.03 and at most 1, not {sigma}" in capsys.readouterr().err


def test_a_turned_rectangle_keeps_its_shape() -> None:
    """Rotation is by an angle of the picture, not of its coordinates: a disc stays a disc."""
    from certdicom.research.training.augmentation import warp

    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(192) - 95.5, indexing="ij")
    disc = ((x**2 + y**2) < 30**2).float().expand(32, 1, -1, -1)
    _, planes = warp(disc, disc, strength=0.5)
    for plane in planes[:, 0]:
        ys, xs = plane.nonzero().float().T
        assert 0.7 < float(ys.std() / xs.std()) < 1.45
        assert abs(float(torch.corrcoef(torch.stack([ys, xs]))[0, 1])) < 0.12


def test_structures_without_masks_do_not_count_in_the_loss() -> None:
    logits, masks = torch.randn(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    weights, unsure = torch.tensor([[1.0, 1, 0], [1, 1, 0]]), torch.zeros(2, 3, 8, 8)
    changed = logits.clone()
    changed[:, 2] += 5
    assert torch.equal(segmentation_loss(logits, masks, weights, unsure), segmentation_loss(changed, masks, weights, unsure))


def test_unsure_pixels_do_not_count_in_the_loss_and_pseudo_labels_count_half() -> None:
    torch.manual_seed(0)
    logits, masks = torch.randn(2, 1, 8, 8), torch.ones(2, 1, 8, 8)
    unsure = (torch.rand(2, 1, 8, 8) > 0.5).float()
    both, pseudo = torch.ones(2, 1), torch.tensor([[1.0], [0.5]])
    changed = logits + 7 * unsure
    assert torch.equal(segmentation_loss(logits, masks, both, unsure), segmentation_loss(changed, masks, both, unsure))
    first, second = (segmentation_loss(logits[i : i + 1], masks[i : i + 1], both[:1], unsure[i : i + 1]) for i in range(2))
    torch.testing.assert_close(segmentation_loss(logits, masks, pseudo, unsure), (first + 0.5 * second) / 1.5)


def test_two_draws_that_say_the_same_do_not_disagree() -> None:
    sure = torch.tensor([30.0, -30.0]).view(1, 1, 1, 2)
    assert float(disagreement(sure, sure)) == pytest.approx(0, abs=1e-6)
    assert float(disagreement(sure, -sure)) == pytest.approx(2 / 3)
    unequal = torch.tensor([1.0, -30.0]).view(1, 1, 1, 2)
    assert 0 < float(disagreement(sure, unequal)) < float(disagreement(sure, -sure))


def test_with_consistency_half_of_the_noised_films_are_drawn_twice_at_one_noise_level(data: Path) -> None:
    denoising = _denoiser()
    recipe = _segmenter_recipe(data, denoising=denoising, consistency=2.0)
    seen = []
    for network in (denoising.network, recipe.networks["segmenter"]):
        network.register_forward_hook(lambda _network, given, _answer: seen.append(given))
    torch.manual_seed(0)
    loss, figures = recipe.loss(step=1, progress=0.0)
    (noised, t), (segmented,) = seen
    assert (len(noised), len(segmented)) == (3, 4)
    assert t[0] == t[1]
    assert not torch.equal(noised[0], noised[1])
    assert float(loss.detach()) == pytest.approx(float(figures["segmentation"] + 2 * figures["difference"]), rel=1e-5)


def test_batch_norms_count_anew_where_films_are_drawn_twice_too(data: Path) -> None:
    """They count over batches of their own size, in which nothing comes twice."""
    description = {"architecture": "UNet", "channels": 1, "structures": 3, "width": 4, "depth": 1, "padding": "zero", "norm": "batch"}
    films = load_films(data, "train", grid=64)
    network = build_network(description)
    ways = {"denoising": _denoiser(), "consistency": 1.0, "recount": True}
    recipe = SegmenterRecipe(network, description, train=films, val={"drawn": films}, batch=32, **ways)
    recipe.validate({"segmenter": network.eval()})
    assert network.down[0][1].running_mean.any()


def test_films_are_drawn_by_the_shares_of_their_sets(data: Path) -> None:
    films = load_films(data, "train", grid=32)
    preference = drawn_by_shares([films, spread(films, 2)], [3.0, 1.0])
    assert preference.tolist() == pytest.approx([1, 1, 1, 0.5, 0.5])


def test_the_displayed_window_of_a_batch_is_that_of_each_film(data: Path) -> None:
    images = load_films(data, "train", grid=128).images * torch.tensor([1.0, 0.5, 0.8]).view(3, 1, 1, 1)
    shown = displayed(images, Moments())
    for image, seen in zip(images, shown, strict=True):
        lo, hi = displayed_window(image.double().numpy(), Moments())
        np.testing.assert_allclose(seen, np.clip((image.numpy() - lo) / (hi - lo), 0, 1), atol=1e-4)
    few_bright = (torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.97).float()
    assert torch.equal(displayed(few_bright, Moments()), few_bright), "no window gives it this mean and deviation"


def test_films_are_shown_under_three_kinds_of_windows(data: Path) -> None:
    torch.manual_seed(0)
    image = load_films(data, "train", grid=64).images[:1].repeat(60, 1, 1, 1)
    shown = rewindow(image, Moments())
    full, by_moments = (image == shown).flatten(1).all(1), (displayed(image, Moments()) == shown).flatten(1).all(1)
    counts = [int(full.sum()), int(by_moments.sum()), int((~full & ~by_moments).sum())]
    assert sum(counts) == 60
    assert min(counts) > 10
    others = shown[~full & ~by_moments]
    assert len({round(float(other.mean()), 4) for other in others}) == len(others)


def test_the_learning_rate_warms_up_and_falls_with_the_budget(tmp_path: Path) -> None:
    plan = Plan(out=tmp_path, steps=1000, peak_rate=1.0)
    rates = [plan.learning_rate(step=step, progress=plan.progress(step=step, seconds=0)) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01, abs=1e-3)
    assert np.argmax(rates) == 99
    assert rates[-1] < 0.02


def test_minutes_end_the_budget_before_the_steps(tmp_path: Path) -> None:
    plan = Plan(out=tmp_path, steps=1000, minutes=2)
    assert plan.progress(step=100, seconds=60) == pytest.approx(0.5)
    assert plan.progress(step=900, seconds=60) == pytest.approx(0.9)
    assert plan.progress(step=1, seconds=500) == 1


_WORKER = """
import torch
from certdicom.research.training.workers import Workers
workers = Workers()
network = torch.nn.Linear(2, 1, bias=False)
network.weight.data.fill_(1.0)
(network(torch.full((1, 2), 1.0 + 2.0 * workers.rank))).sum().backward()
workers.average_gradients([network])
print(workers.agree(10.0 * (1 + workers.rank)), network.weight.grad.tolist())
torch.distributed.destroy_process_group()
"""


def test_processes_share_their_gradients_and_their_decisions() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            env={**os.environ, "WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["10.0 [[2.0, 2.0]]"] * 2


def _curves(folder: Path) -> list[dict[str, float]]:
    return read_curves(folder / CURVES)


def _views(folder: Path) -> set[str]:
    return {name.split()[-1] for name in _curves(folder)[0] if name.startswith("Dice drawn ")}


def _segmenter_recipe(data: Path, **ways: Any) -> SegmenterRecipe:
    torch.manual_seed(0)
    train_films, val = load_films(data, "train", grid=64), load_films(data, "val", grid=64)
    return SegmenterRecipe(build_network(SMALL_SEGMENTER), SMALL_SEGMENTER, train=train_films, val={"drawn": val}, batch=4, **ways)


def _plan(out: Path, **fields: Any) -> Plan:
    return Plan(out=out, record={"structures": STRUCTURES}, **fields)


def _denoiser() -> Denoising:
    return Denoising(build_network(SMALL_DENOISER), SMALL_DENOISER)


def test_the_denoiser_learns(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    films, val = load_films(data, "train", grid=64), load_films(data, "val", grid=64)
    recipe = DenoiserRecipe(build_network(SMALL_DENOISER), SMALL_DENOISER, train=films, val=val, batch=4)
    train(recipe, Plan(out=tmp_path, steps=30, validate_every=10))
    curves = _curves(tmp_path)
    assert [line["step"] for line in curves] == [10, 20, 30]
    assert curves[-1]["error 0.289"] < curves[0]["error 0.289"]


def test_the_segmenter_learns_and_its_file_rebuilds_it(data: Path, tmp_path: Path) -> None:
    seen = []
    recipe = _segmenter_recipe(data)
    train(recipe, _plan(tmp_path, steps=60, validate_every=20), show=seen.append)
    assert _curves(tmp_path)[-1]["loss"] < _curves(tmp_path)[0]["loss"]
    assert seen[-1].progress == 1
    assert [moment.step for moment in seen if "Dice drawn lungs clean" in moment.columns] == [20, 40, 60]
    trained = load_network(tmp_path / "segmenter.safetensors")
    assert trained.description == SMALL_SEGMENTER
    last = [_curves(tmp_path)[-1][f"Dice drawn {structure} clean"] for structure in STRUCTURES]
    again = recipe.validate({"segmenter": trained.network.eval()})["val_dice"]["drawn"]["clean"]
    assert again == pytest.approx(last, abs=0.01)  # half precision


@pytest.mark.parametrize(("save_minutes", "goes_on_from"), [(5.0, 4), (0.0, 6)])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    data: Path, tmp_path: Path, save_minutes: float, goes_on_from: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(_segmenter_recipe(data), _plan(whole, steps=8, validate_every=4))

    class StoppedError(Exception):
        pass

    def stop(moment: Moment) -> None:
        if moment.step == 6:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(_segmenter_recipe(data), _plan(broken, steps=8, validate_every=4, save_minutes=save_minutes), show=stop)
    steps: list[int] = []
    resumed = _plan(broken, steps=8, validate_every=4, resume=True)
    train(_segmenter_recipe(data), resumed, show=lambda moment: steps.append(moment.step))
    assert steps == list(range(goes_on_from + 1, 9))
    assert [line["step"] for line in _curves(broken)] == [4, 8]
    assert _curves(broken)[1]["loss"] == _curves(whole)[1]["loss"]
    for name, value in load_file(whole / "segmenter.safetensors").items():
        assert torch.equal(value, load_file(broken / "segmenter.safetensors")[name]), name


def test_a_frozen_denoiser_stays_as_it_is_and_a_learning_one_does_not(data: Path, tmp_path: Path) -> None:
    frozen, learning = _denoiser(), replace(_denoiser(), every=2)
    before = {id(d): [p.clone() for p in d.network.parameters()] for d in (frozen, learning)}
    for name, denoising in (("frozen", frozen), ("learning", learning)):
        train(_segmenter_recipe(data, denoising=denoising), _plan(tmp_path / name, steps=4, validate_every=4))
    assert all(torch.equal(a, b) for a, b in zip(before[id(frozen)], frozen.network.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(before[id(learning)], learning.network.parameters(), strict=True))
    assert not (tmp_path / "frozen" / "denoiser.safetensors").exists()
    assert (tmp_path / "learning" / "denoiser.safetensors").is_file()
    assert _views(tmp_path / "learning") == {"clean", "0.072", "0.289", "0.5"}


def test_segcertify_trains_and_validates_under_its_noise(data: Path, tmp_path: Path) -> None:
    train(_segmenter_recipe(data, noise=0.25), _plan(tmp_path, steps=4, validate_every=4))
    assert _views(tmp_path) == {"clean", "0.25"}


def test_a_coarser_segmenter_learns_on_the_grid_of_the_films(data: Path, tmp_path: Path) -> None:
    seen = []

    class Spy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Conv2d(1, 3, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(image.shape))
            return self.head(image)

    films = load_films(data, "train", grid=64)
    recipe = SegmenterRecipe(Spy(), SMALL_SEGMENTER, train=films, val={"drawn": films}, batch=2, factor=4)
    torch.manual_seed(0)
    loss, _ = recipe.loss(step=1, progress=0.0)
    loss.backward()
    assert seen == [(2, 1, 16, 16)]
    recipe.validate({"segmenter": recipe.networks["segmenter"]})
    assert {shape[1:] for shape in seen} == {(1, 16, 16)}


def test_the_running_statistics_of_a_batch_norm_are_kept(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    average = AveragedWeights(network)
    for step in range(1, 4):
        network(torch.randn(4, 1, 8, 8) + 5)
        average.update(network, step=step)
    assert torch.equal(average.network[1].running_mean, network[1].running_mean)
    assert float(average.network[1].running_mean.abs().sum()) > 0


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_file_without_a_network_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"holds no network of certdicom train") as told:
        load_network(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", ["missing", "junk", "executable"])
def test_a_checkpoint_that_is_missing_damaged_or_executable_is_refused(data: Path, tmp_path: Path, content: str) -> None:
    if content == "junk":
        (tmp_path / CHECKPOINT).write_bytes(b"junk")
    elif content == "executable":
        torch.save({"step": print}, tmp_path / CHECKPOINT)
    with pytest.raises(UsageError, match=r"leave --resume out"):
        train(_segmenter_recipe(data), Plan(out=tmp_path, steps=8, resume=True))


def test_the_command_trains_a_named_network_and_tells_what_it_did(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = json.dumps({**SMALL_SEGMENTER, "structures": 2})
    command = ["train", "segmenter", "--data", str(data), "--structures", "heart", "lungs", "--grid", "64x96", "--network", network]
    assert main([*command, "--steps", "2", "--batch-size", "2", "--validate-every", "2", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == str(tmp_path / "segmenter.safetensors")
    assert "step 2: loss" in printed.err
    assert load_network(tmp_path / "segmenter.safetensors").description["structures"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["segmenter", "--noise", "0.25", "--denoiser", "d.safetensors"], "two ways"),
        (["segmenter", "--denoiser-every", "2"], "give --denoiser"),
        (["segmenter", "--consistency", "1"], "give --denoiser or --noise"),
        (["segmenter", "--shares", "1", "2"], "--shares wants a number above 0 for each of the 1 --data folders"),
        (["segmenter", "--network", "{"], "--network is neither"),
        (["segmenter", "--network", '{"architecture": "Nothing"}'], "unknown network"),
        (["segmenter", "--structures", "liver"], "liver is wanted"),
        (["segmenter", "--weights", "nowhere.safetensors"], "holds no network"),
    ],
)
def test_impossible_training_is_refused_in_one_line(
    data: Path, tmp_path: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *options, "--data", str(data), "--grid", "64", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
