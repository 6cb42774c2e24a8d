"""`certdicom train denoiser|segmenter|bundle`: networks from images with masks, and a bundle from networks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certdicom.cli.progress import progress_bar
from certdicom.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from certdicom.training.data import FilmSet
    from certdicom.training.loop import Recipe

_WHAT = {
    "denoiser": "the DDPM, on images alone",
    "segmenter": "a segmenter: on images as they are, with --noise as SegCertify does it, or behind --denoiser",
    "bundle": "pack --segmenter and --denoiser into a bundle folder",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=tuple(_WHAT), help="; ".join(f"{name}: {text}" for name, text in _WHAT.items()))
    parser.add_argument(
        "--data", action="append", required=True, type=Path, metavar="FOLDER", help="a data set with masks; may be given again"
    )
    parser.add_argument("--structures", nargs="+", metavar="NAME", help="in channel order (default: lungs heart clavicles)")
    parser.add_argument("--grid", type=_grid, default=(256, 256), metavar="ROWS[xCOLUMNS]", help="of the network (default 256)")
    parser.add_argument(
        "--split-list", type=Path, metavar="FILE", help="the parts train and val: CSV with id and split (default: the data's)"
    )
    parser.add_argument("--split-seed", type=int, metavar="N", help="draw the parts by this seed, 70/10/20, patients kept whole")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where weights, learning curves and checkpoint go")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights to begin with (default: new ones)")
    parser.add_argument(
        "--network", metavar="JSON|FILE", help='architecture and arguments, as {"architecture": "UNet", "width": 16} (default: the shipped)'
    )
    parser.add_argument("--steps", type=int, default=20_000, help="optimiser steps at most (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after so many; the learning rate follows whichever budget ends first")
    parser.add_argument("--batch-size", type=int, default=8, help="images per step and process (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--strength", type=float, nargs=2, default=[0.5, 0.3], metavar=("FIRST", "LAST"), help="of the augmentation")
    parser.add_argument("--noise", type=float, default=0.0, metavar="SIGMA", help="train under this noise on [0, 1] (SegCertify)")
    parser.add_argument("--denoiser", type=Path, metavar="FILE", help="denoiser weights, to train behind or to pack")
    parser.add_argument(
        "--denoiser-every", type=int, default=0, metavar="STEPS", help="how often the denoiser learns as well (default %(default)s: never)"
    )
    parser.add_argument("--segmenter", type=Path, metavar="FILE", help="segmenter weights to pack")
    parser.add_argument("--validate-every", type=int, default=250, metavar="STEPS", help="and save (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws of training (default %(default)s)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where to compute (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.what == "bundle" and arguments.segmenter is None:
        raise UsageError("train bundle needs --segmenter FILE (and --denoiser FILE, unless the segmenter was trained with --noise)")
    if arguments.noise and arguments.denoiser:
        raise UsageError("--noise and --denoiser are two ways to a smoothed model: give one of them")
    if arguments.denoiser_every and arguments.denoiser is None:
        raise UsageError("--denoiser-every says how often the denoiser learns: give --denoiser FILE as well")
    import torch

    from certdicom.models.runtime import choose_device
    from certdicom.training.chest import write_chest_bundle
    from certdicom.training.data import join
    from certdicom.training.loop import Plan, train

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "bundle":
        train_films = join(list(_films(arguments, "train", channels=1).values()))
        write_chest_bundle(arguments.out, denoiser=arguments.denoiser, segmenter=arguments.segmenter, train=train_films)
        return 0
    plan = Plan(
        out=arguments.out,
        steps=arguments.steps,
        minutes=arguments.minutes,
        peak_rate=arguments.rate,
        seed=arguments.seed,
        validate_every=arguments.validate_every,
        resume=arguments.resume,
    )
    torch.manual_seed(arguments.seed)
    recipe = _recipe(arguments, device=choose_device(arguments.device))
    with progress_bar(f"train {arguments.what}, %", quiet=not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0") as move:

        def show(progress: float, figures: Mapping[str, Any]) -> None:
            if move:
                move(int(100 * progress), 100)
            if len(figures) > 2:  # scores of a validation beside step and loss
                print(json.dumps(figures), flush=True)

        train(recipe, plan, show=show)
    return 0


def _recipe(arguments: argparse.Namespace, *, device: torch.device) -> Recipe:
    from certdicom.training.data import STRUCTURES, join
    from certdicom.training.denoiser import DENOISER, DenoiserRecipe
    from certdicom.training.segmenter import SEGMENTER, Denoising, SegmenterRecipe
    from certdicom.training.weights import load_network

    default = DENOISER if arguments.what == "denoiser" else {**SEGMENTER, "structures": len(arguments.structures or STRUCTURES)}
    network, description = load_network(arguments.weights) if arguments.weights else _new_network(arguments.network, default)
    network.to(device)
    films = join(list(_films(arguments, "train", channels=description["channels"]).values()))
    val = _films(arguments, "val", channels=description["channels"])
    if arguments.what == "denoiser":
        return DenoiserRecipe(
            network, description, train=films, val=join(list(val.values())), batch=arguments.batch_size, strength=arguments.strength[0]
        )
    denoising = None
    if arguments.denoiser is not None:
        denoiser, denoiser_description = load_network(arguments.denoiser)
        denoising = Denoising(denoiser.to(device), denoiser_description, every=arguments.denoiser_every)
    return SegmenterRecipe(
        network,
        description,
        train=films,
        val=val,
        batch=arguments.batch_size,
        strength=tuple(arguments.strength),
        noise=arguments.noise,
        denoising=denoising,
    )


def _films(arguments: argparse.Namespace, part: str, *, channels: int) -> dict[str, FilmSet]:
    """One part of every data set, by the name of its folder."""
    from certdicom.training.data import STRUCTURES, load_films

    return {
        folder.name: load_films(
            folder,
            part,
            grid=arguments.grid,
            structures=arguments.structures or STRUCTURES,
            channels=channels,
            listing=arguments.split_list,
            seed=arguments.split_seed,
        )
        for folder in arguments.data
    }


def _grid(text: str) -> tuple[int, int]:
    """ROWS or ROWSxCOLUMNS, multiples of 16."""
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) > 2 or any(side < 16 or side % 16 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: give ROWS or ROWSxCOLUMNS, multiples of 16")
    return sides[0], sides[-1]


def _new_network(request: str | None, default: Mapping[str, Any]) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network of random weights: `default`, or the JSON text or file of `request` laid over its channels and structures."""
    from certdicom.models.networks import build_network

    description = default
    if request is not None:
        try:
            text = request if request.lstrip().startswith("{") else Path(request).read_text()
            given = json.loads(text)
            description = {**{name: default[name] for name in ("channels", "structures") if name in default}, **given}
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"--network is neither JSON nor a file that holds some: {error}") from error
    return build_network(description), description
