"""Networks of the user's own: they compute here what they compute where they come from, and can do nothing else."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from monai.networks import nets
from torch import nn

from certdicom.certification.noise import noisy_batch
from certdicom.certification.schedule import LinearSchedule, ScaledLinearSchedule
from certdicom.errors import BundleError
from certdicom.models.bundle import load_bundle
from certdicom.models.description import Feeding, Reading
from certdicom.models.fitting import FittedSegmenter, margins
from certdicom.models.foreign.exported import read_exported_program
from certdicom.models.foreign.operators import TENSOR_OPERATORS, TOUCH_FILES
from certdicom.models.foreign.torchscript import read_torchscript
from certdicom.models.runtime import DenoisedSegmenter, load_network

LUNGS = {"label": "lungs", "code": ["39607008", "SCT", "Lung"]}
HEART = {"label": "heart", "code": ["80891009", "SCT", "Heart"]}
MARKER = "ran-by-a-network"


class Odd(nn.Module):
    """A segmenter with much of what such networks are made of: colour in, three classes out, slices, splits and sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.InstanceNorm2d(8), nn.GroupNorm(2, 8)])
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.LeakyReLU(0.1), nn.Dropout(0.5))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.head = nn.Conv2d(8, 3, 1)
        self.register_buffer("scale", torch.tensor([0.5, 2.0]), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.enter(x)
        for norm in self.norms:
            h = torch.relu(norm(h)) * self.scale[1]
        first, second = torch.split(h + self.up(self.down(h)), 4, dim=1)
        h = nn.functional.interpolate(torch.cat([second, first], 1), scale_factor=2.0, mode="bilinear")
        h = nn.functional.interpolate(h, size=x.shape[-2:], mode="nearest")
        return self.head(h * torch.sigmoid(h.mean((2, 3), keepdim=True)))


def network(kind: type[nn.Module] = Odd) -> nn.Module:
    torch.manual_seed(4)
    made = kind()
    for value in made.buffers():
        if value.is_floating_point() and value.ndim and len(value) == 8:
            value.uniform_(0.5, 1.5)  # running statistics that matter
    return made.eval()


def scripted(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def traced(module: nn.Module, example: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, example), buffer)
    return buffer.getvalue()


def exported(module: nn.Module, example: torch.Tensor, *, dynamic: bool = False) -> bytes:
    shapes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("rows", min=8, max=128) * 4},) if dynamic else None
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning"),  # when channels-last weights are exported
]

SAVED = {
    "TorchScript, scripted": lambda module: read_torchscript(scripted(module)),
    "TorchScript, traced": lambda module: read_torchscript(traced(module, torch.rand(1, 3, 32, 32))),
    "torch.export": lambda module: read_exported_program(exported(module, torch.rand(1, 3, 32, 32))),
    "torch.export, sizes left open": lambda module: read_exported_program(exported(module, torch.rand(2, 3, 64, 32), dynamic=True)),
}


@pytest.mark.parametrize("read", SAVED.values(), ids=SAVED)
def test_a_saved_program_computes_what_the_network_computes(read) -> None:
    module = network()
    program = read(module)
    image = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(program(image), module(image), atol=1e-5, rtol=1e-5)
        assert torch.equal(program.to(dtype=torch.bfloat16)(image), program(image)), "in the precision that it was saved in"


def test_programs_of_our_own_networks_are_read_too() -> None:
    from certdicom.models.networks import build_network

    for description in (
        {"architecture": "UNet", "channels": 1, "structures": 2, "width": 4, "depth": 2, "norm": "batch"},
        {"architecture": "ResUNet++", "channels": 1, "structures": 2, "width": 8},
        {"architecture": "DeepLabV2", "channels": 1, "structures": 2, "width": 8, "blocks": [1, 1, 1, 1]},
        {
            "architecture": "PatchSegmenter",
            "channels": 1,
            "structures": 2,
            "patch": 2,
            "init_filters": 8,
            "blocks_down": [1, 1],
            "blocks_up": [1],
        },
    ):
        module = build_network(description).eval()
        image = torch.rand(1, 1, 32, 32)
        with torch.inference_mode():
            expected = module(image)
        for program in (read_exported_program(exported(module, image)), read_torchscript(traced(module, image))):
            with torch.inference_mode():
                torch.testing.assert_close(program(image), expected, atol=1e-4, rtol=1e-4)


# What a hostile file would try.


class Saver(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "ran-by-a-network")
        return x


class Reader(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8).sum()


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def rewritten(content: bytes, change) -> bytes:
    """An archive with each file's content passed through `change(name, content)`; None leaves the file out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if (changed := change(name, old.read(name))) is not None:
                new.writestr(name, changed)
    return buffer.getvalue()


def evil_pickle(folder: Path) -> bytes:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (folder / MARKER,))

    return pickle.dumps(Evil(), protocol=2)


@pytest.mark.parametrize("kind", [Reader, Random])
def test_a_torchscript_program_can_neither_read_files_nor_draw_random_numbers(kind: type[nn.Module]) -> None:
    with pytest.raises(BundleError, match=r"uses (torch\.)?(from_file|rand_like), which no network may do here"):
        read_torchscript(scripted(kind()))


def test_a_torchscript_program_can_not_write_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not under another name, and not in the code that PyTorch runs while it loads an archive."""
    monkeypatch.chdir(tmp_path)
    honest = scripted(network())
    lines = ('torch.save(x, "MARK")', 'ops.aten.save(x, "MARK")', "f = torch.save", 'x.save("MARK")', 'torch.add(x, 1).save("MARK")')
    for line in (text.replace("MARK", MARKER).encode() for text in lines):

        def insert(name: str, content: bytes, line: bytes = line) -> bytes:
            start = content.find(b"def forward")
            if not name.endswith("test_foreign.py") or start < 0:
                return content
            body = content.index(b"\n", content.index(b"->", start)) + 1
            return content[:body] + b"    " + line + b"\n" + content[body:]

        with pytest.raises(BundleError, match="save, which no network may do here"):
            read_torchscript(rewritten(honest, insert))
    assert not list(tmp_path.iterdir())


def test_a_second_file_of_the_same_name_does_not_slip_through() -> None:
    """PyTorch's reader of archives takes the first of two and ignores case; Python's takes the last."""
    honest = scripted(network())
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("test_foreign.py"))
    for twin in (name, name.upper().replace("ARCHIVE/CODE", "archive/code")):
        buffer = io.BytesIO(honest)
        with zipfile.ZipFile(buffer, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(twin, b"")
        with pytest.raises(BundleError, match="has no place in a TorchScript archive, or not twice"):
            read_torchscript(buffer.getvalue())


def test_no_operator_that_takes_a_file_is_unknown() -> None:
    """Of all that this PyTorch would let a program call; a new one must be looked at."""
    takes_files = {
        schema.name.removeprefix("aten::")
        for schema in torch._C._jit_get_all_schemas()
        if any("file" in argument.name for argument in schema.arguments) and schema.name.startswith("aten::")
    }
    assert takes_files == TOUCH_FILES
    assert not TOUCH_FILES & TENSOR_OPERATORS


def test_pickles_in_a_torchscript_archive_may_name_nothing_but_tensors(tmp_path: Path) -> None:
    honest = scripted(network())
    evil = rewritten(honest, lambda name, content: evil_pickle(tmp_path) if name.endswith("data.pkl") else content)
    with pytest.raises(BundleError, match="asks for '__builtin__ getattr'"):
        read_torchscript(evil)
    modern = rewritten(honest, lambda name, content: pickle.dumps(Path("x"), protocol=4) if name.endswith("constants.pkl") else content)
    with pytest.raises(BundleError, match="pickle instruction STACK_GLOBAL"):
        read_torchscript(modern)
    assert not (tmp_path / MARKER).exists()


def test_pickles_in_an_exported_program_are_never_opened(tmp_path: Path) -> None:
    """PyTorch's own reader runs the example inputs' pickle; ours does not look at it."""
    module, image = network(), torch.rand(1, 3, 32, 32)
    evil = rewritten(exported(module, image), lambda name, content: evil_pickle(tmp_path) if "sample_inputs" in name else content)
    program = read_exported_program(evil)
    with torch.inference_mode():
        torch.testing.assert_close(program(image), module(image), atol=1e-5, rtol=1e-5)
    assert not (tmp_path / MARKER).exists()

    def pickled(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith("weights_config.json") else content

    with pytest.raises(BundleError, match="as a pickle, which is never opened"):
        read_exported_program(rewritten(evil, pickled))


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.rand_like.default",
        "torch.ops.mine.evil.default",
        "torch.hub.load",
        "_operator.call",
        "os.system",
    ],
)
def test_an_exported_program_can_do_nothing_but_arithmetic(target: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"torch.ops.aten.relu.default", target.encode(), 1) if name.endswith("models/model.json") else content

    with pytest.raises(BundleError, match="which no network may do here"):
        read_exported_program(rewritten(exported(network(), torch.rand(1, 3, 32, 32)), change))


def test_training_mode_is_no_fixed_function() -> None:
    with pytest.raises(BundleError, match=r"changes its own state|in training mode"):
        read_exported_program(exported(network().train(), torch.rand(2, 3, 32, 32)))


@pytest.mark.parametrize("read", [read_torchscript, read_exported_program])
@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04"])
def test_other_files_are_refused_in_one_line(read, content: bytes) -> None:
    with pytest.raises(BundleError, match=r"is no (TorchScript|\.pt2) archive"):
        read(content)


def test_an_archive_without_a_program_is_refused() -> None:
    empty = rewritten(exported(network(), torch.rand(1, 3, 32, 32)), lambda name, content: None if "/models/" in name else content)
    with pytest.raises(BundleError, match="holds 0 programs"):
        read_exported_program(empty)


# Bundles of them.


def describe(folder: Path, *, segmenter: dict[str, object], **changes: object) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    fields = {
        "format": 1,
        "name": "mine",
        "grid": 32,
        "channels": 1,
        "structures": [LUNGS, HEART],
        "sigma_range": [0.01, 1.0],
        "networks": {"segmenter": segmenter},
        **changes,
    }
    (folder / "bundle.json").write_text(json.dumps(fields))
    return folder


def decide(folder: Path, **options: object) -> DenoisedSegmenter:
    return DenoisedSegmenter(load_bundle(folder), sigma=0.25, device=torch.device("cpu"), precision="float32", **options)


def noisy(channels: int = 1) -> torch.Tensor:
    return noisy_batch(torch.full((channels, 32, 32), 0.5), 0.25, seed=b"foreign", draws=range(3))


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
    feeding = Feeding.parse({"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]}, channels=3)
    fitted = FittedSegmenter(
        nn.Identity(),
        feeding=feeding,
        reading=Reading.parse({}, structures=[LUNGS, HEART, LUNGS], activation="sigmoid"),
        activation="sigmoid",
    )
    found = fitted(torch.full((1, 3, 2, 2), 0.5))[0, :, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.4, 0.15, 0.05]))


def test_probabilities_are_turned_into_logits_and_united() -> None:
    """Two channels, the left and the right lung, make one structure: it is there where either is."""
    reading = Reading.parse({"kind": "probabilities", "channels": 2}, structures=[{**LUNGS, "channel": [0, 1]}], activation="sigmoid")
    fitted = FittedSegmenter(nn.Identity(), feeding=Feeding(2), reading=reading, activation="sigmoid")
    chances = torch.tensor([[0.2, 0.9, 1.0], [0.4, 0.1, 0.0]]).view(1, 2, 1, 3)
    expected = torch.tensor([0.4, 0.9, 1 - 1e-7]).logit()
    torch.testing.assert_close(fitted(chances)[0, 0, 0], expected, atol=1e-3, rtol=1e-3)


def test_margins_are_above_zero_where_a_class_is_best_alone() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 2.0, 2.0]])[..., None]
    assert (margins(logits) > 0)[..., 0].tolist() == [[False, True], [False, False], [False, False], [False, False]]
    assert margins(logits)[0, :, 0].tolist() == [-1.0, 1.0]


def test_a_gray_network_behind_colour_sees_the_mean(tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, -x], dim=1)

    (tmp_path / "net.ts").write_bytes(scripted(Same()))
    folder = describe(tmp_path, segmenter={"format": "torchscript", "file": "net.ts", "input": {"channels": 1}}, channels=3)
    found = decide(folder).logits(noisy(3))
    torch.testing.assert_close(found[:, :1], noisy(3).mean(1, keepdim=True))


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
    (tmp_path / "net.ts").write_bytes(scripted(nn.Conv2d(1, 2, 1)))
    networks = {"segmenter": {"format": "torchscript", "file": "net.ts"}, "denoiser": {"format": "diffusers"}}
    folder = describe(tmp_path, segmenter={}, networks=networks, schedule={"kind": "cosine"}, denoising={"prediction": "v_prediction"})
    x_t, t = torch.randn(1, 1, 32, 32), torch.tensor([144])
    with torch.inference_mode():
        torch.testing.assert_close(load_network(load_bundle(folder), "denoiser")(x_t, t), unet(x_t, t).sample[:, :1])
    clean = decide(folder).denoise(noisy())
    assert clean.shape == (3, 1, 32, 32)
    for change, message in (({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"), ({"num_class_embeds": 10}, "told a class")):
        path = tmp_path / "denoiser" / "config.json"
        kept = path.read_text()
        path.write_text(json.dumps({**json.loads(kept), **change}))
        with pytest.raises(BundleError, match=message):
            load_network(load_bundle(folder), "denoiser")
        path.write_text(kept)


def test_a_diffusers_pipeline_brings_its_schedule(tmp_path: Path) -> None:
    (tmp_path / "net.ts").write_bytes(scripted(nn.Conv2d(1, 2, 1)))
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
    networks = {"segmenter": {"format": "torchscript", "file": "net.ts"}, "denoiser": {"format": "diffusers", "folder": "ddpm"}}
    bundle = load_bundle(describe(tmp_path, segmenter={}, networks=networks))
    assert bundle.schedule == ScaledLinearSchedule(2e-4, 1e-2, 500)
    assert (bundle.denoising.method, bundle.denoising.prediction) == ("one-shot", "sample")
    assert decide(tmp_path).denoise(noisy()).shape == (3, 1, 32, 32)
    said = load_bundle(describe(tmp_path, segmenter={}, networks=networks, schedule={"steps": 7}, denoising={"prediction": "epsilon"}))
    assert (said.schedule, said.denoising.prediction) == (LinearSchedule(steps=7), "epsilon")
    path = tmp_path / "ddpm" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "beta_schedule": "sigmoid"}))
    with pytest.raises(BundleError, match="beta_schedule is 'sigmoid'"):
        load_bundle(describe(tmp_path, segmenter={}, networks=networks))


def test_a_network_that_is_no_fixed_function_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    class Forgetful(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.dropout(torch.cat([x, x], 1), 0.5, True)

    for module, message in (
        (Forgetful(), "different logits for the same image"),
        (nn.Conv2d(1, 3, 1), "on its own grid"),
        (nn.Conv2d(1, 2, 1, stride=2), "on its own grid"),
        (nn.Conv2d(3, 2, 1), "was it saved for this grid"),
    ):
        (tmp_path / "net.ts").write_bytes(scripted(module))
        with pytest.raises(BundleError, match=message):
            decide(describe(tmp_path, segmenter={"format": "torchscript", "file": "net.ts"}))


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
    folder = describe(tmp_path, segmenter={"format": "torchscript", "file": "net.ts"})
    (folder / "net.ts").write_bytes(scripted(nn.Conv2d(1, 2, 1)))
    first = load_bundle(folder)
    (folder / "net.ts").write_bytes(scripted(nn.Conv2d(1, 2, 3, padding=1)))
    assert load_bundle(folder).sha256 != first.sha256
    with pytest.raises(BundleError, match="are damaged"):
        load_network(first, "segmenter")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "tanh"}, "unknown activation 'tanh'"),
        ({"segmenter": {"input": {"rage": [0, 1]}}}, "unknown fields"),
        ({"segmenter": {"input": {"range": [1, 0]}}}, "range must rise"),
        ({"segmenter": {"input": {"range": [0, 1], "mean": [0]}}}, "either range or mean"),
        ({"segmenter": {"input": {"channels": 3}}, "channels": 2}, "does not fit images of 2"),
        ({"segmenter": {"output": {"kind": "votes"}}}, "unknown output kind"),
        ({"structures": [{**LUNGS, "channel": 5}]}, "read from channel 5 of 1"),
        ({"activation": "softmax", "segmenter": {"output": {"channels": 1}}, "structures": [{**LUNGS, "channel": 0}]}, "the background"),
        ({"grid": [32, 0]}, "grid must be"),
        ({"segmenter": {"format": "onnx", "file": "net.ts"}}, "unknown network format 'onnx'"),
        ({"sigma_range": None}, "bundle description"),
    ],
)
def test_sidecars_that_say_nonsense_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    (tmp_path / "net.ts").write_bytes(b"")
    segmenter = {"format": "torchscript", "file": "net.ts", **changes.pop("segmenter", {})}
    with pytest.raises(BundleError, match=message):
        load_bundle(describe(tmp_path, segmenter=segmenter, **changes))


def test_a_grid_need_not_be_square(tmp_path: Path) -> None:
    (tmp_path / "net.ts").write_bytes(scripted(nn.Conv2d(1, 2, 1)))
    bundle = load_bundle(describe(tmp_path, segmenter={"format": "torchscript", "file": "net.ts"}, grid=[24, 32]))
    assert (bundle.shape, bundle.hypotheses) == ((24, 32), 2 * 24 * 32)


def test_a_film_is_certified_end_to_end_with_a_network_of_the_users_own(tmp_path: Path) -> None:
    """Bright is lung: a TorchScript network that thresholds, as SegCertify, through the command line."""
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
