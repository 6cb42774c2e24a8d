"""A description that says what is not so is refused, with what to do: nothing is certified that means something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from certdicom.errors import BundleError
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import load_bundle, shipped_bundles
from tests.tiny import write_tiny_bundle

from .foreign_networks import describe, exported


def changed(tmp_path: Path, **changes: object) -> Path:
    folder = write_tiny_bundle(tmp_path / "tiny").folder
    fields = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**fields, **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activtion": "sigmoid"}, r"unknown field 'activtion': did you mean 'activation'\?"),
        ({"threshold": 0.5}, r"unknown field 'threshold': did you mean 'thresholds'\?"),
        ({"colour": True}, "unknown field 'colour': use format, name"),
        ({"denoising": {"methd": "one-shot"}}, r"denoising: unknown field 'methd': did you mean 'method'\?"),
        ({"schedule": {"beta_strt": 1e-4}}, r"schedule: unknown field 'beta_strt': did you mean 'beta_start'\?"),
        ({"structures": [{"lable": "lungs", "code": ["1", "2", "3"]}]}, r"structures\.0: unknown field 'lable'"),
        ({"thresholds": [{"sigma": 0.1, "logits": [0.0]}]}, "1 thresholds at sigma 0.1 for 2 structures"),
        ({"channels": "one"}, "channels: input should be a valid integer, not 'one'"),
        ({"format": 3}, "unknown format 3: use 1 or 2"),
        ({"sigma_range": [0.1]}, "sigma_range: list should have at least 2 items"),
        ({"weights_sha256": {"segmenter": 5}}, "weights_sha256.segmenter: input should be a valid string"),
    ],
)
def test_a_field_that_nobody_reads_or_cannot_be_read_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load_bundle(changed(tmp_path, **changes))


@pytest.mark.parametrize("network", [{"architecture": "Mean", "inputs": {}}, {"format": "torch.export", "file": "n", "inputs": {}}])
def test_a_misspelt_field_of_a_network_is_named(tmp_path: Path, network: dict) -> None:
    with pytest.raises(BundleError, match=r"networks: segmenter: unknown field 'inputs': did you mean 'input'\?"):
        load_bundle(changed(tmp_path, networks={"segmenter": network}, denoising={"method": "segcertify"}))


def test_format_2_leaves_nothing_about_reading_to_a_default_and_format_1_is_read(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny").folder
    fields = json.loads((folder / "bundle.json").read_text())
    assert fields["format"] == 2
    for name in ("activation", "denoising"):
        (folder / "bundle.json").write_text(json.dumps({key: value for key, value in fields.items() if key != name}))
        with pytest.raises(BundleError, match=f"format 2 must say {name}"):
            load_bundle(folder)
    old = {key: value for key, value in fields.items() if key not in ("activation", "denoising")}
    (folder / "bundle.json").write_text(json.dumps({**old, "format": 1, "thresholds": [[0.1, -1.0], [0.2, [-2.0, -3.0]]]}))
    bundle = load_bundle(folder)
    assert (bundle.activation, bundle.denoising.method) == ("sigmoid", "one-shot")
    assert bundle.thresholds == ((0.1, (-1.0, -1.0)), (0.2, (-2.0, -3.0)))


class Says(nn.Module):
    """Two planes made of the image, brought to a range."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = torch.cat([4 * x - 2, 1 - 3 * x], 1)
        if self.kind == "sigmoid":
            return logits.sigmoid()
        if self.kind == "softmax":
            return logits.softmax(1)
        if self.kind == "constant":
            return 0 * logits - 1
        return logits / 0 if self.kind == "infinite" else logits


@pytest.mark.parametrize(
    ("kind", "output", "message"),
    [
        ("sigmoid", {}, 'applied its sigmoid itself.*declare {"output": {"kind": "probabilities"}}'),
        ("softmax", {}, "applied its softmax itself"),
        ("constant", {}, "gives the same for every image"),
        ("infinite", {}, "not finite"),
        ("logits", {"kind": "probabilities"}, 'no probabilities: remove {"output": {"kind": "probabilities"}}'),
        ("logits", {"channels": 3}, "promises"),
        ("logits", {}, None),
        ("sigmoid", {"kind": "probabilities"}, None),
    ],
)
def test_outputs_are_what_the_description_says(tmp_path: Path, kind: str, output: dict, message: str | None) -> None:
    (tmp_path / "net.pt2").write_bytes(exported(Says(kind), torch.rand(1, 1, 32, 32)))
    bundle = load_bundle(describe(tmp_path, segmenter={"format": "torch.export", "file": "net.pt2", "output": output}))
    if message is None:
        load_network(bundle, "segmenter")
    else:
        with pytest.raises(BundleError, match=message):
            load_network(bundle, "segmenter")


@pytest.mark.parametrize("name", shipped_bundles())
def test_no_shipped_bundle_is_refused(name: str) -> None:
    assert load_network(load_bundle(name), "segmenter") is not None


def test_reading_a_description_loads_neither_torch_nor_for_an_import_pydantic() -> None:
    import subprocess
    import sys

    code = "import sys, certdicom.models.bundle as b; print('pydantic' in sys.modules); b.load_bundle(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
