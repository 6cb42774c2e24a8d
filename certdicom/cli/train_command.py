"""`certdicom train denoiser|segmenter|bundle`: the recipe of the shipped bundle, from images with masks."""

from __future__ import annotations

import argparse
from pathlib import Path

from certdicom.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", choices=("denoiser", "segmenter", "bundle"), help="which network to train; bundle packs both and measures them"
    )
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="a data set (images/, masks/STRUCTURE/, split.csv); may be given again",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE|FOLDER", help="weights to write (.safetensors), or the bundle's folder"
    )
    parser.add_argument("--steps", type=int, default=20_000, help="optimiser steps at most (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the learning rate follows whichever budget ends first")
    parser.add_argument("--batch-size", type=int, default=8, help="films per step (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to go on from")
    parser.add_argument(
        "--denoiser", type=Path, metavar="FILE", help="denoiser weights: train the segmenter on denoised films; needed for a bundle"
    )
    parser.add_argument("--segmenter", type=Path, metavar="FILE", help="segmenter weights, for a bundle")
    parser.add_argument("--seed", type=int, default=0, help="of the draws of training (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")


def run(arguments: argparse.Namespace) -> int:
    import torch

    from certdicom.training.chest import write_chest_bundle
    from certdicom.training.data import join, load_films
    from certdicom.training.denoiser import train_denoiser
    from certdicom.training.loop import Budget
    from certdicom.training.segmenter import train_segmenter

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train = join([load_films(folder, "train", grid=256) for folder in arguments.data])
    val = {folder.name: load_films(folder, "val", grid=256) for folder in arguments.data}
    budget = Budget(arguments.steps, arguments.minutes)
    common = {
        "weights": arguments.out,
        "budget": budget,
        "batch": arguments.batch_size,
        "peak_rate": arguments.rate,
        "start": arguments.start,
        "seed": arguments.seed,
    }
    if arguments.what == "denoiser":
        train_denoiser(train, join(list(val.values())), **common)
    elif arguments.what == "segmenter":
        train_segmenter(train, val, denoiser_weights=arguments.denoiser, **common)
    else:
        if arguments.denoiser is None or arguments.segmenter is None:
            raise UsageError("a bundle needs --denoiser FILE and --segmenter FILE")
        write_chest_bundle(arguments.out, denoiser=arguments.denoiser, segmenter=arguments.segmenter, train=train)
    return 0
