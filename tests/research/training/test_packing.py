"""From weight files to a bundle that certifies, with its card; and denoisers for one noise level."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from certdicom.cli.main import main
from certdicom.errors import BundleError, UsageError
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import load_bundle
from certdicom.models.networks import build_network
from certdicom.research.training.bundle import CODES, Packing, pack, write_bundle
from certdicom.research.training.card import model_card
from certdicom.research.training.curves import CURVES, read_curves
from certdicom.research.training.data import FilmSet
from certdicom.research.training.denoiser import DENOISER, DIRECT
from certdicom.research.training.weights import Trained, mean_of
from certdicom.research.training.weights import load_network as load_trained
from tests.drawing import Segmenter, noisy_batch

SEGMENTER = {"architecture": "UNet", "channels": 1, "structures": 2, "width": 4, "depth": 2, "padding": "zero", "norm": "batch"}
SMALL_DENOISER = {**DENOISER, "block_out_channels": [8, 8], "norm_num_groups": 4}


def trained(description: dict[str, object], **record: object) -> Trained:
    torch.manual_seed(0)
    return Trained(build_network(description), description, dict(record))


def films(*shape: int, channels: int = 1, structures: int = 2) -> FilmSet:
    images = torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(1))
    masks = (images[:, :1] > 0.5).repeat(1, structures, 1, 1).to(torch.uint8)
    return FilmSet(images=images, masks=masks, unsure=torch.zeros_like(masks), weights=torch.ones(2, structures), names=("a", "b"))


def test_the_commands_lead_from_films_to_a_bundle_whose_card_says_how(data: Path, tmp_path: Path) -> None:
    common = ["--data", str(data), "--threads", "1"]
    train = ["--grid", "64", "--steps", "4", "--validate-every", "2", "--batch-size", "2"]
    denoiser, first, second = (tmp_path / name for name in ("denoiser", "first", "second"))
    assert main(["train", "denoiser", *common, *train, "--network", json.dumps(SMALL_DENOISER), "--out", str(denoiser)]) == 0
    network = ["--network", json.dumps({**SEGMENTER, "structures": 3})]
    assert main(["train", "segmenter", *common, *train, *network, "--out", str(first)]) == 0
    behind = ["--weights", str(first / "segmenter.safetensors"), "--denoiser", str(denoiser / "denoiser.safetensors")]
    assert main(["train", "segmenter", *common, *train, *behind, "--denoiser-every", "2", "--out", str(second)]) == 0
    packed = tmp_path / "drawn-chest"
    weights = ["--segmenter", str(second / "segmenter.safetensors"), "--denoiser", str(second / "denoiser.safetensors")]
    assert main(["train", "bundle", *common, *weights, "--calibration-images", "1", "--out", str(packed)]) == 0
    bundle = load_bundle(packed)
    assert (bundle.name, bundle.grid, bundle.denoising.method) == ("drawn-chest", 64, "one-shot")
    assert [structure.label for structure in bundle.structures] == ["lungs", "heart", "clavicles"]
    assert bundle.anatomy is not None
    assert [sigma for sigma, _ in bundle.thresholds] == [0.072, 0.144, 0.289, 0.5]
    card = (packed / "MODEL_CARD.md").read_text()
    assert "Research use only, not a medical device" in card
    assert "| 3, 1 | not known to certdicom: state them here |" in card
    assert card.index("On images without noise") < card.index("Behind the denoiser")
    assert card.index("As a diffusion model") < card.index("Together with a segmenter behind it")
    assert card.count("in 2 stages") == 2
    assert "grid 64 × 64; structures lungs, heart, clavicles;" in card
    assert (packed / "selftest.json").is_file()
    for folder, score in ((second, "Dice "), (denoiser, "error ")):
        assert [line["step"] for line in read_curves(folder / CURVES)] == [2, 4]
        assert any(name.startswith(score) for name in read_curves(folder / CURVES)[0])
        with Image.open(folder / "learning.png") as picture:
            assert picture.size == (1500, 675)
        assert "<svg" in (folder / "learning.svg").read_text()


def test_a_card_that_somebody_wrote_is_kept(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text("mine")
    segmenter = trained(SEGMENTER, noise=0.25)
    pack(
        tmp_path,
        segmenter=segmenter,
        packing=Packing(structures=("lungs", "heart"), grid=(32, 32), calibration_images=0),
        train=films(32, 32),
    )
    assert (tmp_path / "MODEL_CARD.md").read_text() == "mine"


@pytest.mark.slow
def test_a_denoiser_for_one_noise_level_learns_and_is_packed_under_it(data: Path, tmp_path: Path) -> None:
    options = ["--data", str(data), "--grid", "64", "--validate-every", "20", "--batch-size", "4", "--rate", "0.01", "--threads", "1"]
    network = ["--network", json.dumps({**DIRECT, "width": 4, "depth": 2})]
    levels = []
    for sigma in ("0.144", "0.289"):
        out = tmp_path / sigma
        assert main(["train", "denoiser", "--sigma", sigma, *options, *network, "--steps", "60", "--out", str(out)]) == 0
        curves = [line[f"error {sigma}"] for line in read_curves(out / CURVES)]
        assert curves[-1] < curves[0]
        levels.append(load_trained(out / "denoiser.safetensors"))
    packing = Packing(structures=("lungs", "heart"), grid=(64, 64), calibration_images=1)
    pack(tmp_path / "direct", segmenter=trained(SEGMENTER), denoisers=levels, packing=packing, train=films(64, 64))
    bundle = load_bundle(tmp_path / "direct")
    assert (bundle.denoising.method, bundle.sigma_range) == ("direct", (0.144, 0.289))
    assert [sigma for sigma, _ in bundle.thresholds] == [0.144, 0.289]
    assert bundle.direct_role(0.289) == "denoiser@0.289"
    assert "For noise 0.144 alone" in (tmp_path / "direct" / "MODEL_CARD.md").read_text()
    with pytest.raises(UsageError, match="one diffusion model"):
        pack(tmp_path / "twice", segmenter=trained(SEGMENTER), denoisers=[levels[0]] * 2, packing=packing, train=films(64, 64))


def test_a_segmenter_without_a_denoiser_must_have_been_trained_under_noise(tmp_path: Path) -> None:
    packing = Packing(structures=("lungs", "heart"), grid=(32, 32), calibration_images=0)
    with pytest.raises(UsageError, match="not trained under --noise"):
        pack(tmp_path / "none", segmenter=trained(SEGMENTER), packing=packing, train=films(32, 32))
    pack(tmp_path / "plain", segmenter=trained(SEGMENTER, noise=0.1), packing=packing, train=films(32, 32))
    assert load_bundle(tmp_path / "plain").thresholds == ()
    calibrated = replace(packing, calibration_images=1)
    pack(tmp_path / "noisy", segmenter=trained(SEGMENTER, noise=0.1), packing=calibrated, train=films(32, 32))
    bundle = load_bundle(tmp_path / "noisy")
    assert (bundle.denoising.method, bundle.sigma_range) == ("segcertify", (0.05, 0.4))
    assert [sigma for sigma, _ in bundle.thresholds] == [0.1, 0.2, 0.4]  # the paper asks at one, two and four times the noise of training


def test_several_segmenters_become_their_mean_asked_about_both_sides(tmp_path: Path) -> None:
    segmenters = [
        Trained(build_network(d), d, record) for d, record in (({**SEGMENTER, "width": 4}, {"factor": 2}), ({**SEGMENTER, "width": 6}, {}))
    ]
    shared = {"grid": [32, 32], "structures": ["lungs", "heart"], "noise": 0.1, "data": {"drawn": {"train": 3, "val": 1}}}
    both = [replace(one, record={**shared, **one.record}) for one in segmenters]
    packing = Packing(structures=("lungs", "heart"), grid=(32, 32), calibration_images=0, mirror=True)
    pack(tmp_path / "mean", segmenter=mean_of(both), packing=packing, train=films(32, 32))
    bundle = load_bundle(tmp_path / "mean")
    image = films(32, 32).images

    def mean(seen: torch.Tensor) -> torch.Tensor:
        networks = [one.network.eval() for one in both]
        coarse = networks[0](torch.nn.functional.avg_pool2d(seen, 2))
        return (torch.nn.functional.interpolate(coarse, scale_factor=2.0, mode="bilinear") + networks[1](seen)) / 2

    with torch.no_grad():
        expected = (mean(image) + mean(image.flip(3)).flip(3)) / 2
        torch.testing.assert_close(
            load_network(bundle, "segmenter")(image), expected, atol=0.02, rtol=0
        )  # weights are stored in half precision
    card = (tmp_path / "mean" / "MODEL_CARD.md").read_text()
    assert "Segmenter, member 1" in card
    assert "Segmenter, member 2" in card
    assert "the image and its mirror image" in card
    with pytest.raises(UsageError, match="differ in grid"):
        mean_of([both[0], replace(both[1], record={**both[1].record, "grid": [64, 64]})])
    with pytest.raises(UsageError, match="differ in channels or structures"):
        mean_of([both[0], replace(both[1], description={**both[1].description, "channels": 3})])


def test_a_structure_without_a_known_code_needs_one(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packing = Packing(structures=("liver", "heart"), grid=(32, 32), calibration_images=0)
    with pytest.raises(UsageError, match="--code liver=VALUE,SCHEME,MEANING"):
        pack(tmp_path, segmenter=trained(SEGMENTER, noise=0.1), packing=packing, train=films(32, 32))
    assert main(["train", "bundle", "--data", str(data), "--segmenter", "s", "--out", str(tmp_path), "--code", "liver=1"]) == 2
    assert "give LABEL=VALUE,SCHEME,MEANING" in capsys.readouterr().err


def test_the_codes_are_those_of_the_standard() -> None:
    from pydicom.sr.codedict import codes

    known = {(codes.SCT.SkinLesion.value, "Skin lesion"), (codes.SCT.PolypOfColon.value, "Polyp of colon"), (codes.SCT.Lung.value, "Lung")}
    assert known <= {(value, meaning) for value, _, meaning in CODES.values()}


def test_networks_may_work_on_a_coarser_grid_than_the_bundle(tmp_path: Path) -> None:
    """Means in, bilinear logits out, and between denoiser and segmenter nothing is blurred."""
    description = {**SEGMENTER, "channels": 3, "structures": 1}
    denoiser = trained({**SMALL_DENOISER, "channels": 3})
    packing = Packing(structures=("polyp",), grid=(32, 48), factor=2, calibration_images=1)
    pack(tmp_path, segmenter=trained(description), denoisers=[denoiser], packing=packing, train=films(64, 96, channels=3, structures=1))
    bundle = load_bundle(tmp_path)
    assert (bundle.grid, bundle.sigma_range) == ((64, 96), (0.06, 2.0))
    fine = Segmenter(bundle, sigma=0.5, precision="float32")
    u = films(64, 96, channels=3).images[0]
    noisy = noisy_batch(u, 0.5, seed=b"coarse", draws=range(2))
    coarse_fields = {
        **json.loads((tmp_path / "bundle.json").read_text()),
        "grid": [32, 48],
        "denoising": {"method": "one-shot"},
        "thresholds": [],
    }
    coarse_fields["sigma_range"] = [0.03, 1.0]
    coarse_fields["networks"]["segmenter"].pop("input")
    (tmp_path / "coarse").mkdir()
    (tmp_path / "coarse" / "bundle.json").write_text(json.dumps(coarse_fields))
    for role in bundle.networks:
        (tmp_path / "coarse" / f"{role}.safetensors").write_bytes(bundle.weights(role))
    coarse = Segmenter(load_bundle(tmp_path / "coarse"), sigma=0.25, precision="float32")
    logits = coarse.logits(torch.nn.functional.avg_pool2d(noisy, 2))
    expected = torch.nn.functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fine.logits(noisy), expected, atol=1e-4, rtol=1e-4)


def _lender(folder: Path) -> Path:
    packing = Packing(structures=("lungs", "heart"), grid=(32, 32), calibration_images=0)
    pack(folder / "lender", segmenter=trained(SEGMENTER), denoisers=[trained(SMALL_DENOISER)], packing=packing, train=films(32, 32))
    return folder / "lender"


def test_a_bundle_may_borrow_the_denoiser_of_one_beside_it(tmp_path: Path) -> None:
    lender = _lender(tmp_path)
    packing = Packing(structures=("lungs", "heart"), grid=(32, 32), calibration_images=0, borrow="lender")
    pack(tmp_path / "borrower", segmenter=trained(SEGMENTER), packing=packing, train=films(32, 32))
    assert not (tmp_path / "borrower" / "denoiser.safetensors").exists()
    bundle = load_bundle(tmp_path / "borrower")
    lent = load_bundle(lender)
    assert bundle.networks["denoiser"] == lent.networks["denoiser"]
    assert bundle.weights_sha256["denoiser"] == lent.weights_sha256["denoiser"]
    for ours, theirs in zip(load_network(bundle, "denoiser").parameters(), load_network(lent, "denoiser").parameters(), strict=True):
        assert torch.equal(ours, theirs)
    card = (tmp_path / "borrower" / "MODEL_CARD.md").read_text()
    assert "borrowed from the bundle lender" in card
    assert "The denoiser is that of lender, whose card says what it was trained on." in card
    changed = (lender / "denoiser.safetensors").read_bytes()
    (lender / "denoiser.safetensors").write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
    with pytest.raises(BundleError, match="damaged"):
        load_network(load_bundle(tmp_path / "borrower"), "denoiser")


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"bundle": "nobody"}, "lies neither beside it nor is installed"),
        ({"bundle": "../lender"}, "the name of a bundle"),
        ({"bundle": "lender", "width": 3}, "alone"),
        ({"bundle": "second"}, "borrowed itself"),
    ],
)
def test_what_cannot_be_borrowed_is_told(tmp_path: Path, description: dict[str, object], said: str) -> None:
    lender = _lender(tmp_path)
    fields = json.loads((lender / "bundle.json").read_text())
    fields.pop("weights_sha256")
    for name, denoiser in (("second", {"bundle": "lender"}), ("borrower", description)):
        (tmp_path / name).mkdir()
        changed = {**fields, "networks": {**fields["networks"], "denoiser": denoiser}}
        (tmp_path / name / "bundle.json").write_text(json.dumps(changed))
        (tmp_path / name / "segmenter.safetensors").write_bytes((lender / "segmenter.safetensors").read_bytes())
    with pytest.raises(BundleError, match=said):
        load_bundle(tmp_path / "borrower")


def test_the_card_of_networks_that_say_nothing_asks_for_it(tmp_path: Path) -> None:
    bundle = load_bundle(_lender(tmp_path))
    card = model_card(bundle, records={"segmenter": {}, "denoiser": {}}, calibration_images=0)
    assert "state it here, with its terms" in card
    assert card.count("does not say how it was trained") == 2
    assert max(map(len, card.splitlines())) < 400
    own = {"steps": 3, "data": {"jsrt": {"train": 1, "val": 2}}, "began_with": {"note": "weights of a friend"}}
    told = {"segmenter": own, "denoiser": {}}
    card = model_card(bundle, records=told, calibration_images=0)
    assert "1. Weights of a friend." in card
    assert "no redistribution of the images; cite both" in card


def test_weights_without_floats_survive_the_disk(tmp_path: Path) -> None:
    """The counters of a batch norm stay whole numbers beyond what float16 can count."""
    network = build_network(SEGMENTER)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked.fill_(4099)
    structures = [{"label": label, "code": CODES[label]} for label in ("lungs", "heart")]
    description = {
        "name": "x",
        "grid": 32,
        "channels": 1,
        "structures": structures,
        "sigma_range": [0.1, 1],
        "networks": {"segmenter": SEGMENTER},
    }
    write_bundle(tmp_path, description=description, networks={"segmenter": network})
    state = load_network(load_bundle(tmp_path), "segmenter").state_dict()
    assert {int(value) for name, value in state.items() if name.endswith("num_batches_tracked")} == {4099}
    assert np.isfinite(sum(float(value.sum()) for value in state.values()))
