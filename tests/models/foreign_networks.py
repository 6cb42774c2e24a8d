"""Networks of a user's own, saved as users save them, bundles of them, and files that mean harm."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from certdicom.models.bundle import load_bundle
from tests.drawing import Segmenter, noisy_batch

LUNGS = {"label": "lungs", "code": ["39607008", "SCT", "Lung"]}
HEART = {"label": "heart", "code": ["80891009", "SCT", "Heart"]}
MARKER = "ran-by-a-network"

SAVING_WARNS = [pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning")]  # when channels-last weights are exported


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


def exported(module: nn.Module, example: torch.Tensor, *, dynamic: bool = False) -> bytes:
    shapes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("rows", min=8, max=128) * 4},) if dynamic else None
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), buffer)
    return buffer.getvalue()


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


def decide(folder: Path) -> Segmenter:
    return Segmenter(load_bundle(folder), sigma=0.25)


def noisy(channels: int = 1) -> torch.Tensor:
    return noisy_batch(torch.full((channels, 32, 32), 0.5), 0.25, seed=b"foreign", draws=range(3))
