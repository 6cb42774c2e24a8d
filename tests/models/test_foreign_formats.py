"""MONAI bundles and diffusers folders, read without running anything of theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from foreign_networks import (
    MARKER,
    SAVING_WARNS,
    decide,
    describe,
    evil_pickle,
    exported,
    noisy,
)
from monai.networks import nets
from torch import nn

from certdicom.certification.schedule import LinearSchedule, ScaledLinearSchedule
from certdicom.errors import BundleError
from certdicom.models.backends.torch import load_denoiser, load_network
from certdicom.models.bundle import load_bundle

pytestmark = SAVING_WARNS
ON_CPU = {"sigma": 0.25, "device": torch.device("cpu"), "precision": "float32"}


def test_a_monai_bundle_is_read_without_its_parser(tmp_path: Path) -> None:
    arguments = {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "channels": [4, 8],
        "strides": [2],
        "norm": ["batch", {"eps": 1e-4}],
    }
    module = nets.UNet(**arguments).eval()
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    configuration = {"imports": ["$import os"], "classes": 2, "network_def": {"_target_": "UNet", **arguments, "out_channels": "@classes"}}
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(configuration))
    torch.save({"model": module.state_dict()}, tmp_path / "models" / "model.pt")
    folder = describe(tmp_path, segmenter={"format": "monai-bundle"})
    with torch.inference_mode():
        torch.testing.assert_close(decide(folder).logits(noisy()), module(noisy()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"_target_": "os.system", "command": "true"}, "the MONAI network is 'os.system'"),
        ({"_target_": "monai.bundle.run", "x": 1}, "the MONAI network is 'monai.bundle.run'"),
        ({"_target_": "evil.UNet"}, "the MONAI network is 'evil.UNet'"),
        ({"_target_": "UNet", "_mode_": "debug"}, "with plain arguments"),
        ({"_target_": "UNet", "spatial_dims": "$__import__('os').system('true')"}, "runs no expressions"),
        ({"_target_": "UNet", "act": {"_target_": "subprocess.run"}}, "an object of its own"),
        ({"_target_": "UNet", "spatial_dims": 2}, "cannot build UNet"),
        ({"_target_": "UNet", "spatial_dims": "@network_def#spatial_dims"}, "no readable 'network_def'"),
        ("@nothing", "no readable 'network_def'"),
    ],
)
def test_a_monai_configuration_can_build_nothing_but_networks(tmp_path: Path, definition: object, message: str) -> None:
    (tmp_path / "net.json").write_text(json.dumps({"network_def": definition}))
    (tmp_path / "net.pt").write_bytes(b"")
    folder = describe(tmp_path, segmenter={"format": "monai-bundle", "config": "net.json", "weights": "net.pt"})
    with pytest.raises(BundleError, match=message):
        decide(folder)


def test_monai_weights_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    (tmp_path / "net.json").write_text(json.dumps({"network_def": {"_target_": "UNet", **arguments}}))
    folder = describe(tmp_path, segmenter={"format": "monai-bundle", "config": "net.json", "weights": "net.pt"})
    for content, message in ((evil_pickle(tmp_path), "no plain state dict"), (b"", "no plain state dict")):
        (tmp_path / "net.pt").write_bytes(content)
        with pytest.raises(BundleError, match=message):
            decide(folder)
    torch.save({"weights": "no"}, tmp_path / "net.pt")
    with pytest.raises(BundleError, match="something else than named tensors"):
        decide(folder)
    assert not (tmp_path / MARKER).exists()


def test_a_diffusers_folder_denoises(tmp_path: Path) -> None:
    torch.manual_seed(6)
    unet = UNet2DModel(
        in_channels=1,
        out_channels=2,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
    ).eval()
    unet.save_pretrained(tmp_path / "denoiser")
    (tmp_path / "net.pt2").write_bytes(exported(nn.Conv2d(1, 2, 1), torch.rand(1, 1, 32, 32)))
    networks = {"segmenter": {"format": "torch.export", "file": "net.pt2"}, "denoiser": {"format": "diffusers"}}
    folder = describe(tmp_path, segmenter={}, networks=networks, schedule={"kind": "cosine"}, denoising={"prediction": "v_prediction"})
    x_t, t = torch.randn(1, 1, 32, 32), torch.tensor([144])
    with torch.inference_mode():
        torch.testing.assert_close(load_network(load_bundle(folder), "denoiser")(x_t, t), unet(x_t, t).sample[:, :1])
    clean = load_denoiser(load_bundle(folder), **ON_CPU)(noisy())
    assert clean.shape == (3, 1, 32, 32)
    for change, message in (({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"), ({"num_class_embeds": 10}, "told a class")):
        path = tmp_path / "denoiser" / "config.json"
        kept = path.read_text()
        path.write_text(json.dumps({**json.loads(kept), **change}))
        with pytest.raises(BundleError, match=message):
            load_network(load_bundle(folder), "denoiser")
        path.write_text(kept)


def test_a_diffusers_pipeline_brings_its_schedule(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(exported(nn.Conv2d(1, 2, 1), torch.rand(1, 1, 32, 32)))
    unet = UNet2DModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        add_attention=False,
    )
    scheduler = DDPMScheduler(500, beta_start=2e-4, beta_end=1e-2, beta_schedule="scaled_linear", prediction_type="sample")
    DDPMPipeline(unet, scheduler).save_pretrained(tmp_path / "ddpm")
    networks = {"segmenter": {"format": "torch.export", "file": "net.pt2"}, "denoiser": {"format": "diffusers", "folder": "ddpm"}}
    bundle = load_bundle(describe(tmp_path, segmenter={}, networks=networks))
    assert bundle.schedule == ScaledLinearSchedule(2e-4, 1e-2, 500)
    assert (bundle.denoising.method, bundle.denoising.prediction) == ("one-shot", "sample")
    assert load_denoiser(bundle, **ON_CPU)(noisy()).shape == (3, 1, 32, 32)
    said = load_bundle(describe(tmp_path, segmenter={}, networks=networks, schedule={"steps": 7}, denoising={"prediction": "epsilon"}))
    assert (said.schedule, said.denoising.prediction) == (LinearSchedule(steps=7), "epsilon")
    path = tmp_path / "ddpm" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "beta_schedule": "sigmoid"}))
    with pytest.raises(BundleError, match="beta_schedule is 'sigmoid'"):
        load_bundle(describe(tmp_path, segmenter={}, networks=networks))
