"""`certdicom bundle check` tells whoever brings a network what works and what to fix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.foreign_networks import describe, exported
from tests.tiny import write_tiny_bundle


def lines(outcome) -> list[list[str]]:
    return [line.split("  ", 1) for line in outcome.out.splitlines()]


@pytest.fixture
def check(certdicom):
    return lambda folder, *options: certdicom("bundle", "check", folder, "--quiet", *options, bundle=None)


class Bright(nn.Module):
    """Bright is lungs, dark is heart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        smooth = nn.functional.avg_pool2d(x, 9, stride=1, padding=4) - 0.4
        return torch.cat([smooth, -smooth], dim=1)


def test_a_network_that_works_is_ok_in_every_line_and_leaves_a_picture(check, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(exported(Bright(), torch.rand(1, 1, 32, 32)))
    folder = describe(tmp_path, segmenter={"format": "torch.export", "file": "net.pt2"})
    outcome = check(folder, "--preview", tmp_path / "p.png", "--sigma", "0.1")
    assert outcome.code == 0, outcome.out + outcome.err
    assert [line[0].strip() for line in lines(outcome)[:-1]] == ["ok"] * 5
    assert "finite logits of lungs, heart on 32 × 32" in outcome.out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activtion": "softmax"}, "did you mean 'activation'"),
        ({"structures": [{"label": "lungs", "code": ["1", "2", "3"]}]}, "promises (1, 1, 16, 16)|not finite logits"),
        ({"weights_sha256": {"segmenter": "00"}}, "are damaged"),
    ],
)
def test_what_is_wrong_is_said_with_the_exit_code_of_a_wrong_bundle(check, tmp_path: Path, changes: dict, message: str) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny").folder
    fields = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**fields, **changes}))
    outcome = check(folder)
    assert outcome.code == 2
    assert lines(outcome)[-1][0] == "FAILED"
    assert any(part in outcome.out for part in message.split("|")), outcome.out
    assert outcome.err == ""


def test_a_segmenter_that_looks_across_the_batch_is_found(check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certdicom.models.backends.torch import TorchBackend

    whole = TorchBackend.base_segmenter

    def across(self, *arguments, **options):
        segmenter = whole(self, *arguments, **options)
        original = segmenter.logits
        object.__setattr__(segmenter, "logits", lambda noisy: original(noisy) - original(noisy).mean())
        return segmenter

    monkeypatch.setattr(TorchBackend, "base_segmenter", across)
    outcome = check(write_tiny_bundle(tmp_path / "tiny").folder)
    assert outcome.code == 2
    assert "no layer may look across the batch" in outcome.out


def test_a_denoiser_that_removes_no_noise_is_found(check, tmp_path: Path) -> None:
    outcome = check(write_tiny_bundle(tmp_path / "tiny").folder, "--sigma", "0.05")
    assert outcome.code == 2, "its networks are untrained"
    assert "schedule, prediction or the scale of its images" in outcome.out
