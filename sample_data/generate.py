"""Writes synthetic chest films and their masks: python -m sample_data.generate --out DIR."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from certdicom.errors import UsageError
from certdicom.imaging.synthetic import ENCODINGS, compress, synthetic_film, write_film

VARIANTS: dict[str, dict[str, Any]] = {
    "dx": {},
    "dx-monochrome1": {"photometric": "MONOCHROME1"},
    "dx-8-bit": {"bits_stored": 8},
    "dx-10-bit": {"bits_stored": 10},
    "dx-16-bit": {"bits_stored": 16},
    "dx-linear-exact": {"window": "LINEAR_EXACT"},
    "dx-sigmoid": {"window": "SIGMOID"},
    "dx-voi-lut": {"voi_lut_bits": 12},
    "dx-padding": {"padding": 24},
    "dx-collimation": {"collimation": 32},
    "cr": {"modality": "CR"},
    "cr-signed": {"modality": "CR", "signed": True},
    "cr-rescale": {"modality": "CR", "rescale": (2.0, -1000.0)},
    "cr-modality-lut": {"modality": "CR", "modality_lut": True},
    "cr-no-window": {"modality": "CR", "window": None, "collimation": 32},
    "cr-no-spacing": {"modality": "CR", "spacing": None},
}
"""The films that are written, by file name; each is a valid object."""


def generate(out: Path, *, rows: int, columns: int, seed: int) -> list[Path]:
    """Writes every variant, one film in every encoding, and the masks of the chest; returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, arguments in VARIANTS.items():
        film, masks = synthetic_film(rows=rows, columns=columns, seed=seed, **arguments)
        write_film(film, out / f"{name}.dcm")
        written.append(out / f"{name}.dcm")
    film, masks = synthetic_film(rows=rows, columns=columns, seed=seed, bits_stored=8)
    for encoding in ENCODINGS:
        write_film(compress(film, encoding), out / f"encoding-{encoding}.dcm")
        written.append(out / f"encoding-{encoding}.dcm")
    for structure, mask in masks.items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(out / f"mask-{structure}.png")
        written.append(out / f"mask-{structure}.png")
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sample_data.generate", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; it is made if it does not exist")
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=896)
    parser.add_argument("--seed", type=int, default=0, help="varies the build of the chest")
    options = parser.parse_args(arguments)
    try:
        written = generate(options.out, rows=options.rows, columns=options.columns, seed=options.seed)
    except (UsageError, OSError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return UsageError.exit_code
    print(f"{len(written)} files in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
