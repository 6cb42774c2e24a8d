"""`certdicom train denoiser|segmenter|joint|bundle`: the recipe of the shipped bundle, from images with masks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from certdicom.errors import UsageError

STEPS = {
    "denoiser": "the DDPM, on films alone",
    "segmenter": "the segmenter, on films as they are",
    "joint": "both, going on from --denoiser and --segmenter (a new one if not given); --out is a folder",
    "bundle": "pack --denoiser and --segmenter into a bundle folder",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(STEPS), help="; ".join(f"{name}: {text}" for name, text in STEPS.items()))
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="images/, masks/STRUCTURE/, split.csv; may be given again",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE|FOLDER", help="weights to write (.safetensors), or a folder")
    parser.add_argument("--steps", type=int, default=20_000, help="optimiser steps at most (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after so many; the learning rate follows whichever budget ends first")
    parser.add_argument("--batch-size", type=int, default=8, help="films per step (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to go on from (denoiser, segmenter)")
    parser.add_argument("--denoiser", type=Path, metavar="FILE", help="denoiser weights (joint, bundle)")
    parser.add_argument("--segmenter", type=Path, metavar="FILE", help="segmenter weights (joint, bundle)")
    parser.add_argument(
        "--strength", type=float, nargs=2, default=[0.8, 0.4], metavar=("FIRST", "LAST"), help="of the augmentation (joint)"
    )
    parser.add_argument("--denoiser-every", type=int, default=2, metavar="STEPS", help="how often the denoiser learns; 0: never (joint)")
    parser.add_argument(
        "--validate-every", type=int, default=250, metavar="STEPS", help="also when weights are saved (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws of training (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")


def run(arguments: argparse.Namespace) -> int:
    needed = {"joint": ("denoiser",), "bundle": ("denoiser", "segmenter")}.get(arguments.what, ())
    if missing := [f"--{name} FILE" for name in needed if getattr(arguments, name) is None]:
        raise UsageError(f"train {arguments.what} needs {' and '.join(missing)}")
    import torch

    from certdicom.training.chest import write_chest_bundle
    from certdicom.training.data import join, load_films
    from certdicom.training.denoiser import train_denoiser
    from certdicom.training.joint import train_jointly
    from certdicom.training.loop import Budget
    from certdicom.training.segmenter import train_segmenter

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train = join([load_films(folder, "train", grid=256) for folder in arguments.data])
    if arguments.what == "bundle":
        write_chest_bundle(arguments.out, denoiser=arguments.denoiser, segmenter=arguments.segmenter, train=train)
        return 0
    val = {folder.name: load_films(folder, "val", grid=256) for folder in arguments.data}
    common: dict[str, Any] = {
        "budget": Budget(arguments.steps, arguments.minutes),
        "batch": arguments.batch_size,
        "peak_rate": arguments.rate,
        "seed": arguments.seed,
        "validate_every": arguments.validate_every,
    }
    if arguments.what == "denoiser":
        train_denoiser(train, join(list(val.values())), weights=arguments.out, start=arguments.start, **common)
    elif arguments.what == "segmenter":
        train_segmenter(train, val, weights=arguments.out, start=arguments.start, **common)
    else:
        train_jointly(
            train,
            val,
            segmenter_weights=(arguments.segmenter, arguments.out / "segmenter.safetensors"),
            denoiser_weights=(arguments.denoiser, arguments.out / "denoiser.safetensors"),
            strength=tuple(arguments.strength),
            denoiser_every=arguments.denoiser_every,
            **common,
        )
    return 0
