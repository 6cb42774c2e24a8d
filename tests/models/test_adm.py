"""OpenAI's ADM networks: the converted network computes what the original's definition says."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import adm_reference as reference
import pytest
import torch
from safetensors.torch import load_file

from certdicom.errors import BundleError, OutputError
from certdicom.models.networks import build_network
from certdicom.models.networks.adm_checkpoint import NOTICE, convert_adm_checkpoint, converted_weights

UNCONDITIONAL = reference.Flags(256, 256, 2, (1, 1, 2, 2, 4, 4), (32, 16, 8), num_head_channels=64)
SMALL = reference.Flags(16, 32, 1, (1, 2, 2), (8, 4), num_head_channels=16)
VARIANTS = {
    "as the 256 × 256 network": SMALL,
    "new attention order": dataclasses.replace(SMALL, use_new_attention_order=True),
    "fixed number of heads": dataclasses.replace(SMALL, num_head_channels=None, num_heads=4),
    "plain up and down, shift only": dataclasses.replace(SMALL, resblock_updown=False, use_scale_shift_norm=False),
    "narrow first level": dataclasses.replace(SMALL, num_channels=64, channel_mult=(0.5, 1, 1), num_res_blocks=2),
    "no variances": dataclasses.replace(SMALL, learn_sigma=False),
}


def as_arguments(flags: reference.Flags) -> dict[str, object]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(flags).items()}


def random_state(flags: reference.Flags) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64) * (0.3 / max(1, torch.Size(shape[1:]).numel()) ** 0.5 + 0.05)
        for name, shape in reference.shapes(flags).items()
    }


@pytest.mark.parametrize("flags", VARIANTS.values(), ids=VARIANTS)
def test_the_converted_network_computes_what_the_definition_says(flags: reference.Flags) -> None:
    state = random_state(flags)
    network = build_network({"architecture": "ADMUNet", **as_arguments(flags)}).double().eval()
    network.load_state_dict(network.converted(state))
    x, t = torch.randn(2, 3, 16, 16, dtype=torch.float64), torch.tensor([73, 901])
    with torch.no_grad():
        whole = reference.forward(state, flags, x, t)
        found = network(x, t)
    assert whole.shape[1] == (6 if flags.learn_sigma else 3)
    assert found.shape == x.shape, "the variances are dropped"
    # Sines and cosines of the time are float32 in diffusers, whatever the network's precision.
    torch.testing.assert_close(found, whole[:, :3], rtol=1e-5, atol=1e-5)
    assert float(whole.std()) > 0.05, "a comparison that says something"


def test_the_plain_split_of_the_attention_weights_would_be_noticed() -> None:
    """Chunking q, k and v loads cleanly and computes something else: the comparison above must tell them apart."""
    state = random_state(SMALL)
    wrong = build_network({"architecture": "ADMUNet", **as_arguments(dataclasses.replace(SMALL, use_new_attention_order=True))})
    wrong = wrong.double().eval()
    wrong.load_state_dict(wrong.converted(state))
    x, t = torch.randn(1, 3, 16, 16, dtype=torch.float64), torch.tensor([73])
    with torch.no_grad():
        assert float((wrong(x, t) - reference.forward(state, SMALL, x, t)[:, :3]).abs().max()) > 1e-3


def test_the_full_size_network_takes_every_weight_of_the_checkpoint() -> None:
    """552,814,086 parameters (256x256_diffusion_uncond), not one missing, left over or of another shape; nothing is allocated."""
    state = {name: torch.empty(shape, device="meta") for name, shape in reference.shapes(UNCONDITIONAL).items()}
    assert sum(value.numel() for value in state.values()) == 552_814_086
    weights = converted_weights(state, flags=as_arguments(UNCONDITIONAL))
    assert sum(value.numel() for value in weights.values()) == 552_814_086
    with torch.device("meta"):
        network = build_network({"architecture": "ADMUNet"})
    assert {name: value.shape for name, value in network.state_dict().items()} == {name: value.shape for name, value in weights.items()}


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        (reference.Flags(128, 256, 2, (1, 1, 2, 3, 4), (32, 16, 8), num_heads=4), 128),
        (reference.Flags(64, 192, 3, (1, 2, 3, 4), (32, 16, 8), num_head_channels=64, use_new_attention_order=True), 64),
        (reference.Flags(512, 256, 2, (0.5, 1, 1, 2, 2, 4, 4), (32, 16, 8), num_head_channels=64), 512),
    ],
)
def test_the_other_networks_of_the_family_take_every_weight_but_the_classes(flags: reference.Flags, size: int) -> None:
    arguments = as_arguments(flags)
    del arguments["channel_mult"]
    state = {name: torch.empty(shape, device="meta") for name, shape in reference.shapes(flags).items()}
    assert len(converted_weights(state, flags=arguments)) > len(state), "q, k and v are three weights"
    state["label_emb.weight"] = torch.empty(1000, 4 * flags.num_channels, device="meta")
    with pytest.raises(BundleError, match=r"label_emb.weight.*does not have"):
        converted_weights(state, flags=arguments)


def test_a_checkpoint_becomes_safetensors_with_its_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {name: value.float() for name, value in random_state(SMALL).items()}
    torch.save(state, tmp_path / "small.pt")
    with caplog.at_level(logging.WARNING):
        description = convert_adm_checkpoint(tmp_path / "small.pt", tmp_path / "denoiser.safetensors", flags=as_arguments(SMALL))
    assert NOTICE in caplog.text
    network = build_network(description)
    network.load_state_dict({name: value.float() for name, value in load_file(tmp_path / "denoiser.safetensors").items()})
    with pytest.raises(OutputError, match="exists"):
        convert_adm_checkpoint(tmp_path / "small.pt", tmp_path / "denoiser.safetensors", flags=as_arguments(SMALL))


def test_checkpoints_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = {name: value.float() for name, value in random_state(SMALL).items()}
    flags = as_arguments(SMALL)
    lacking = {name: value for name, value in state.items() if name != "out.2.bias"}
    for wrong, message in (
        (lacking, "lacks 1 weights"),
        ({**state, "input_blocks.9.0.in_layers.0.weight": torch.zeros(3)}, "does not have"),
        ({**state, "out.2.bias": torch.zeros(7)}, r"conv_out.bias is \(7,\)"),
    ):
        with pytest.raises(BundleError, match=message):
            converted_weights(wrong, flags=flags)
    torch.save({"model": print}, tmp_path / "evil.pt")
    with pytest.raises(BundleError, match="no plain PyTorch state dict"):
        convert_adm_checkpoint(tmp_path / "evil.pt", tmp_path / "x.safetensors", flags=flags)


def test_a_checkpoint_whose_weights_are_not_finite_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    state = {name: value.float() for name, value in random_state(SMALL).items()}
    name = next(iter(state))
    torch.save({**state, name: torch.full_like(state[name], float("nan"))}, tmp_path / "damaged.pt")
    with pytest.raises(BundleError, match=r"damaged.pt is damaged: the weights .* not finite"):
        convert_adm_checkpoint(tmp_path / "damaged.pt", tmp_path / "denoiser.safetensors", flags=as_arguments(SMALL))
    assert not (tmp_path / "denoiser.safetensors").exists()


def test_a_network_that_wants_a_class_is_refused() -> None:
    with pytest.raises(BundleError, match="class_cond"):
        build_network({"architecture": "ADMUNet", "class_cond": True})
