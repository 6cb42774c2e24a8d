"""What a bundle says of a network of the user's own: how it is fed and read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_networks import (
    HEART,
    LUNGS,
    SAVING_WARNS,
    decide,
    describe,
    exported,
    network,
    noisy,
)
from torch import nn

from certdicom.errors import BundleError
from certdicom.models import schema
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import load_bundle
from certdicom.models.networks.adapter import SegmenterAdapter
from certdicom.models.specs import InputSpec, OutputSpec

pytestmark = SAVING_WARNS


def test_the_sidecar_says_how_a_network_is_fed_and_read(tmp_path: Path) -> None:
    """A colour network with softmax over three classes, heart before lungs, on a gray grid and a range of -1 to 1."""
    module = network()
    (tmp_path / "net.pt2").write_bytes(exported(module, torch.rand(1, 3, 32, 32)))
    folder = describe(
        tmp_path,
        segmenter={"format": "torch.export", "file": "net.pt2", "input": {"channels": 3, "range": [-1, 1]}, "output": {"channels": 3}},
        structures=[{**LUNGS, "channel": 2}, {**HEART, "channel": 0}],
        activation="softmax",
    )
    with torch.inference_mode():
        best = module((2 * noisy() - 1).expand(-1, 3, -1, -1)).argmax(1)
    assert torch.equal(decide(folder)(noisy()), torch.stack([best == 2, best == 0], dim=1))


def test_mean_and_std_are_per_channel() -> None:
    input_spec = InputSpec.of(schema.Input(mean=[0.1, 0.2, 0.3], std=[1, 2, 4]), channels=3)
    fitted = SegmenterAdapter(
        nn.Identity(),
        input_spec=input_spec,
        output_spec=OutputSpec.of(schema.Output(), structures=[schema.Structure(**LUNGS)] * 3, activation="sigmoid"),
        activation="sigmoid",
    )
    found = fitted(torch.full((1, 3, 2, 2), 0.5))[0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.4, 0.15, 0.05]))


def test_probabilities_are_turned_into_logits_and_united() -> None:
    """Two channels, the left and the right lung, make one structure: it is there where either is."""
    described = schema.Output(kind="probabilities", channels=2)
    output_spec = OutputSpec.of(described, structures=[schema.Structure(**LUNGS, channel=[0, 1])], activation="sigmoid")
    fitted = SegmenterAdapter(nn.Identity(), input_spec=InputSpec(2), output_spec=output_spec, activation="sigmoid")
    chances = torch.tensor([[0.2, 0.9, 1.0], [0.4, 0.1, 0.0]]).view(1, 2, 1, 3)
    expected = torch.tensor([0.4, 0.9, 1 - 1e-7]).logit()
    torch.testing.assert_close(fitted(chances)[0, 0, 0], expected, atol=1e-3, rtol=1e-3)


def test_a_gray_network_behind_colour_sees_the_mean(tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, -x], dim=1)

    (tmp_path / "net.pt2").write_bytes(exported(Same(), torch.rand(1, 1, 32, 32)))
    folder = describe(tmp_path, segmenter={"format": "torch.export", "file": "net.pt2", "input": {"channels": 1}}, channels=3)
    found = decide(folder).logits(noisy(3))
    torch.testing.assert_close(found[:, :1], noisy(3).mean(1, keepdim=True))


def test_a_network_that_is_no_fixed_function_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    class Forgetful(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.dropout(torch.cat([x, x], 1), 0.5, True)

    for module, channels, message in (
        (Forgetful(), 1, "in training mode, so that it is no fixed function"),
        (nn.Conv2d(1, 3, 1), 1, "on its own grid"),
        (nn.Conv2d(1, 2, 1, stride=2), 1, "on its own grid"),
        (nn.Conv2d(3, 2, 1), 3, "was not exported for images of 1 × 1 × 32 × 32"),
    ):
        (tmp_path / "net.pt2").write_bytes(exported(module, torch.rand(1, channels, 32, 32)))
        with pytest.raises(BundleError, match=message):
            decide(describe(tmp_path, segmenter={"format": "torch.export", "file": "net.pt2"}))


def test_files_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "outside.pt2").write_bytes(b"x")
    folder = describe(tmp_path / "mine", segmenter={"format": "torch.export", "file": "../outside.pt2"})
    with pytest.raises(BundleError, match="not inside the bundle's folder"):
        load_bundle(folder)
    (folder / "link.pt2").symlink_to(tmp_path / "outside.pt2")
    with pytest.raises(BundleError, match="lie outside the bundle's folder"):
        load_bundle(describe(folder, segmenter={"format": "torch.export", "file": "link.pt2"}))


def test_other_weights_make_another_bundle(tmp_path: Path) -> None:
    """The digest that stands in every certificate covers the weights, also where the description has no digests of its own."""
    folder = describe(tmp_path, segmenter={"format": "torch.export", "file": "net.pt2"})
    (folder / "net.pt2").write_bytes(exported(nn.Conv2d(1, 2, 1), torch.rand(1, 1, 32, 32)))
    first = load_bundle(folder)
    (folder / "net.pt2").write_bytes(exported(nn.Conv2d(1, 2, 3, padding=1), torch.rand(1, 1, 32, 32)))
    assert load_bundle(folder).sha256 != first.sha256
    with pytest.raises(BundleError, match="are damaged"):
        load_network(first, "segmenter")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "tanh"}, "unknown activation 'tanh'"),
        ({"segmenter": {"input": {"rage": [0, 1]}}}, r"segmenter: input: unknown field 'rage': did you mean 'range'\?"),
        ({"segmenter": {"input": {"range": [1, 0]}}}, "range must rise"),
        ({"segmenter": {"input": {"range": [0, 1], "mean": [0]}}}, "either range or mean"),
        ({"segmenter": {"input": {"channels": 3}}, "channels": 2}, "does not fit images of 2"),
        ({"segmenter": {"output": {"kind": "votes"}}}, "output: unknown kind 'votes'"),
        ({"structures": [{**LUNGS, "channel": 5}]}, "read from channel 5 of 1"),
        ({"activation": "softmax", "segmenter": {"output": {"channels": 1}}, "structures": [{**LUNGS, "channel": 0}]}, "the background"),
        ({"grid": [32, 0]}, "grid must be"),
        ({"segmenter": {"format": "torchscript", "file": "net.pt2"}}, "TorchScript archive, which .* no longer reads: export the network"),
        ({"segmenter": {"format": "onnx", "file": "net.pt2"}}, "unknown network format 'onnx'"),
        ({"sigma_range": None}, "bundle description"),
    ],
)
def test_sidecars_that_say_nonsense_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    (tmp_path / "net.pt2").write_bytes(b"")
    segmenter = {"format": "torch.export", "file": "net.pt2", **changes.pop("segmenter", {})}
    with pytest.raises(BundleError, match=message):
        load_bundle(describe(tmp_path, segmenter=segmenter, **changes))


def test_a_grid_need_not_be_square(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(exported(nn.Conv2d(1, 2, 1), torch.rand(1, 1, 32, 32)))
    bundle = load_bundle(describe(tmp_path, segmenter={"format": "torch.export", "file": "net.pt2"}, grid=[24, 32]))
    assert (bundle.shape, bundle.cells) == ((24, 32), 24 * 32)


def test_a_film_is_certified_end_to_end_with_a_network_of_the_users_own(tmp_path: Path) -> None:
    """Bright is lung: an exported network that thresholds, as SegCertify, through the command line."""
    from pydicom import dcmread

    from certdicom.cli.main import main
    from certdicom.imaging.synthetic import synthetic_film, write_film

    class Bright(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            smooth = nn.functional.avg_pool2d(x, 9, stride=1, padding=4)
            return torch.cat([smooth, -smooth], dim=1)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "net.pt2").write_bytes(exported(Bright(), torch.rand(1, 3, 32, 32)[:, :1]))
    segmenter = {"format": "torch.export", "file": "net.pt2", "input": {"range": [-1, 1]}}
    describe(tmp_path / "mine", segmenter=segmenter, notice="made for a test")
    write_film(synthetic_film(rows=320, columns=256)[0], tmp_path / "film.dcm")
    code = main(
        [
            str(tmp_path / "film.dcm"),
            *("-o", str(tmp_path / "seg.dcm"), "--report", str(tmp_path / "report.json")),
            *("--bundle", str(tmp_path / "mine"), "--sigma", "0.1", "--quiet", "--accept-any"),
        ]
    )
    assert code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["bundle"]["name"] == "mine"
    assert "made for a test" in report["notes"]
    assert any("precision in which it was saved" in note for note in report["notes"])
    planes = dcmread(tmp_path / "seg.dcm").pixel_array.astype(bool)
    assert len(planes) == 3, "two structures and abstain"
    assert 0.02 < planes[0].mean() < 0.98
    assert not (planes[0] & planes[1]).any()
    assert np.logical_or.reduce(planes).mean() > 0.9
