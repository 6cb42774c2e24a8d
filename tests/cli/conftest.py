"""A bundle so small that a whole run takes a second, and films for it."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from certdicom.cli.main import main
from certdicom.imaging.synthetic import synthetic_film, write_film


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained networks on a 64 × 64 grid; the segmenter's logits are spread so that some decisions are certified."""
    import torch

    from certdicom.models.networks import build_network
    from certdicom.research.training.bundle import write_bundle
    from tests.tiny import DENOISER

    torch.manual_seed(5)
    segmenter = {
        "architecture": "PatchSegmenter",
        "channels": 1,
        "structures": 3,
        "patch": 2,
        "init_filters": 8,
        "blocks_down": [1, 1],
        "blocks_up": [1],
    }
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    codes = {"lungs": "39607008", "heart": "80891009", "clavicles": "51299004"}
    write_bundle(
        folder,
        description={
            "name": "tiny",
            "summary": "untrained, for tests",
            "grid": 64,
            "channels": 1,
            "structures": [{"label": label, "code": [code, "SCT", label], "rgb": [0, 158, 115]} for label, code in codes.items()],
            "schedule": {"beta_start": 1e-4, "beta_end": 2e-2, "steps": 1000},
            "sigma_range": [0.03, 1.0],
            "networks": {"segmenter": segmenter, "denoiser": DENOISER},
        },
        networks={"segmenter": build_network(segmenter), "denoiser": build_network(DENOISER)},
    )
    return folder


@pytest.fixture(scope="session")
def openvino_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with programs, which a process loads in a moment."""
    from certdicom.models.backends.export import export_bundle

    folder = tmp_path_factory.mktemp("exported") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    export_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.dcm"
    write_film(synthetic_film(rows=320, columns=256)[0], path)
    return path


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def certdicom(tiny_bundle: Path):
    """Run the command in this process with the tiny bundle (unless another is named)."""

    def run(*words: object, bundle: Path | str | None = tiny_bundle) -> Outcome:
        arguments = [str(word) for word in words]
        if bundle is not None:
            arguments += ["--bundle", str(bundle)]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        return Outcome(code, out.getvalue(), err.getvalue())

    return run
