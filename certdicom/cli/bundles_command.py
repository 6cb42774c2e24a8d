"""`certdicom bundles`: what comes with this installation."""

from __future__ import annotations

import argparse
import json

from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle, shipped_bundles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable")
    parser.add_argument("--card", metavar="NAME", help="print the model card of a bundle")


def run(arguments: argparse.Namespace) -> int:
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
        print(f"  {labels} · {bundle.grid} × {bundle.grid}, {bundle.channels} channel · sigma {low:g} to {high:g}")
        print(f"  SHA-256 {bundle.sha256}")
    return 0
