"""`certdicom bundles`: what comes with this installation."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from certdicom.errors import UsageError
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle, shipped_bundles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--card", metavar="NAME", help="print the model card of a bundle")
    adm = parser.add_argument_group("a denoiser from one of OpenAI's ADM checkpoints (docs/models.md)")
    adm.add_argument("--convert-adm", type=Path, metavar="FILE.pt", help="write its weights as safetensors, and print their description")
    adm.add_argument("--out", type=Path, metavar="FILE", help="where to (default %(default)s)", default=Path("denoiser.safetensors"))
    adm.add_argument(
        "--adm-flags", default="{}", metavar="JSON", help="guided-diffusion's flags, if not those of 256x256_diffusion_uncond.pt"
    )
    adm.add_argument("--force", action="store_true", help="overwrite")


def run(arguments: argparse.Namespace) -> int:
    if arguments.convert_adm:
        return _convert(arguments)
    if arguments.card:
        print((load_bundle(arguments.card).folder / "MODEL_CARD.md").read_text(encoding="utf-8"))
        return 0
    bundles = [load_bundle(name) for name in shipped_bundles()]
    if arguments.json:
        entries = [
            {
                "name": bundle.name,
                "sha256": bundle.sha256,
                "grid": bundle.grid,
                "channels": bundle.channels,
                "method": bundle.denoising.method,
                "structures": [structure.label for structure in bundle.structures],
                "sigma_range": bundle.sigma_range,
                "summary": bundle.summary,
            }
            for bundle in bundles
        ]
        print(json.dumps(entries, indent=2))
        return 0
    for bundle in bundles:
        low, high = bundle.sigma_range
        print(f"{bundle.name}{' (default)' if bundle.name == DEFAULT_BUNDLE else ''}: {bundle.summary}")
        labels = ", ".join(structure.label for structure in bundle.structures)
        channels = "gray" if bundle.channels == 1 else "colour"
        print(f"  {labels} · {bundle.shape[0]} × {bundle.shape[1]}, {channels}, {bundle.denoising.method} · sigma {low:g} to {high:g}")
        print(f"  SHA-256 {bundle.sha256}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from certdicom.models.networks.adm_checkpoint import convert_adm_checkpoint

    try:
        flags = dict(json.loads(arguments.adm_flags))
    except (ValueError, TypeError) as error:
        raise UsageError(f"--adm-flags is no JSON object: {error}") from error
    print(json.dumps(convert_adm_checkpoint(arguments.convert_adm, arguments.out, flags=flags, force=arguments.force)))
    return 0
