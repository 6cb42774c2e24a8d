"""`certdicom train denoiser|segmenter|pseudo-labels`: networks from images with masks, and masks from networks."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certdicom.cli.data_options import add_data, add_structures, films_of
from certdicom.cli.training_display import TrainingDisplay
from certdicom.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from certdicom.research.training.data import FilmSet
    from certdicom.research.training.loop import Recipe
    from certdicom.research.training.segmenter import Denoising
    from certdicom.research.training.weights import Trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", required=True)
    denoiser = what.add_parser("denoiser", help="a DDPM, or a network for one noise level, on images alone")
    add_data(denoiser)
    _add_training(denoiser)
    denoiser.add_argument(
        "--sigma", type=float, metavar="SIGMA", help="a denoiser for this noise on [0, 1] alone (default: a diffusion model, for all)"
    )
    segmenter = what.add_parser("segmenter", help="a segmenter: on images as they are, under --noise as SegCertify, or behind --denoiser")
    add_data(segmenter)
    add_structures(segmenter)
    _add_training(segmenter)
    segmenter.add_argument("--noise", type=float, default=0.0, metavar="SIGMA", help="train under this noise on [0, 1] (SegCertify)")
    segmenter.add_argument(
        "--factor", type=int, metavar="K", help="the segmenter's grid is K times coarser than --grid (default: what --weights has, or 1)"
    )
    segmenter.add_argument("--denoiser", type=Path, metavar="FILE", help="denoiser weights, to train behind")
    segmenter.add_argument(
        "--denoiser-every", type=int, default=0, metavar="STEPS", help="how often the denoiser learns as well (default %(default)s: never)"
    )
    segmenter.add_argument(
        "--most-sigma",
        type=float,
        metavar="SIGMA",
        help="behind a denoiser, seven in eight noise levels are below this one on its grid (default 0.55)",
    )
    segmenter.add_argument(
        "--consistency",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="how much two draws of noise on one image must agree; half of the noised images are then drawn twice (default %(default)s)",
    )
    segmenter.add_argument(
        "--recount",
        action="store_true",
        help="let batch norms count their statistics over images that are not augmented (try it both ways)",
    )
    labels = what.add_parser("pseudo-labels", help="masks of the structures that data sets have none of, by bundles that have learnt them")
    add_data(labels, grid=False)
    add_structures(labels)
    labels.add_argument(
        "--teacher",
        action="append",
        required=True,
        metavar="BUNDLE",
        help="a bundle's name or folder, whose segmenter answers; the mean of several when given again",
    )


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="weights to begin with (default: new ones)")
    parser.add_argument(
        "--network",
        metavar="JSON|FILE",
        help='architecture and arguments, as {"architecture": "UNet", "width": 16} (default: see docs); with --weights of a U-Net: '
        "a wider one that begins by saying the same",
    )
    parser.add_argument("--steps", type=int, default=20_000, help="optimiser steps at most (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after so many; the learning rate follows whichever budget ends first")
    parser.add_argument("--batch-size", type=int, default=8, help="images per step and process (default %(default)s)")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate (default %(default)s)")
    parser.add_argument("--strength", type=float, nargs=2, default=[0.5, 0.3], metavar=("FIRST", "LAST"), help="of the augmentation")
    parser.add_argument("--validate-every", type=int, default=250, metavar="STEPS", help="and write the weights (default %(default)s)")
    parser.add_argument(
        "--save-minutes",
        type=float,
        default=5.0,
        metavar="M",
        help="write a checkpoint for --resume at least so often (default %(default)s)",
    )
    parser.add_argument(
        "--shares", type=float, nargs="+", metavar="S", help="how often each --data is drawn, in their order (default: by its images)"
    )
    parser.add_argument(
        "--windows",
        choices=("all", "full"),
        default="all",
        help="show gray images under their full range, the displayed window and ones such as headers have, a third each, or under the "
        "first alone (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws of training (default %(default)s)")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where to compute (default %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.research.training.workers import prepare_process

    labels = arguments.what == "pseudo-labels"
    prepare_process(threads=arguments.threads, seed=None if labels else arguments.seed)
    return _label(arguments) if labels else _train(arguments)


def _label(arguments: argparse.Namespace) -> int:
    from certdicom.models.bundle import load_bundle
    from certdicom.progress import progress_bar
    from certdicom.research.training.data import STRUCTURES
    from certdicom.research.training.pseudo_labels import write_pseudo_labels

    teachers = [load_bundle(name) for name in arguments.teacher]
    structures = tuple(arguments.structures or STRUCTURES)
    for folder in arguments.data:
        with progress_bar(f"pseudo-labels of {folder.resolve().name}", quiet=False) as bar:
            written = write_pseudo_labels(
                folder,
                arguments.out / folder.resolve().name,
                teachers=teachers,
                structures=structures,
                listing=arguments.split_list,
                seed=arguments.split_seed,
                progress=bar,
            )
        print(f"{written.folder}: {written.kept} images, {written.labelled} pseudo-labels, {written.dropped} images dropped as implausible")
    return 0


def _train(arguments: argparse.Namespace) -> int:
    if arguments.what == "segmenter" and arguments.noise and arguments.denoiser:
        raise UsageError("--noise and --denoiser are two ways to a smoothed model: give one of them")
    if arguments.what == "segmenter" and arguments.denoiser is None:
        if arguments.denoiser_every:
            raise UsageError("--denoiser-every says how often the denoiser learns: give --denoiser FILE as well")
        if arguments.most_sigma is not None:
            raise UsageError("--most-sigma is about the noise before the denoiser: give --denoiser FILE as well")
    from certdicom.models.backends.torch import choose_device
    from certdicom.research.training.loop import Plan, train

    device = choose_device(arguments.device)
    first = os.environ.get("RANK", "0") == "0"
    display = TrainingDisplay(f"train {arguments.what} on {device}", steps=arguments.steps, quiet=not first)
    with display.reading():
        stage = _stage(arguments, device=device)
    plan = Plan(
        out=arguments.out,
        steps=arguments.steps,
        minutes=arguments.minutes,
        peak_rate=arguments.rate,
        seed=arguments.seed,
        validate_every=arguments.validate_every,
        resume=arguments.resume,
        save_minutes=arguments.save_minutes,
        record=stage.record,
        began_with=stage.began_with,
    )
    display.say(f"{sum(sizes['train'] for sizes in stage.record['data'].values())} images to train on, {_size(stage.recipe)} weights")
    with display:
        train(stage.recipe, plan, show=display.show)
    if first:
        print("\n".join(str(arguments.out / f"{role}.safetensors") for role in stage.recipe.networks))
        _draw_curves(arguments.out)
    return 0


def _size(recipe: Recipe) -> str:
    return f"{sum(weight.numel() for network in recipe.networks.values() for weight in network.parameters()):,}"


def _draw_curves(folder: Path) -> None:
    from certdicom.research.plots import save_figure
    from certdicom.research.training.curves import CURVES, learning_figure, read_curves

    try:
        figure = learning_figure(read_curves(folder / CURVES))
    except UsageError as error:  # the weights are what was asked for
        print(f"certdicom: no picture of the learning curves: {error}", file=sys.stderr)
        return
    print("\n".join(str(path) for path in save_figure(figure, folder / "learning")))


@dataclass(frozen=True)
class _Stage:
    """What is trained, what its weight files will say of how, and by role what the files that it begins with say."""

    recipe: Recipe
    record: dict[str, Any]
    began_with: dict[str, dict[str, Any]]


def _stage(arguments: argparse.Namespace, *, device: torch.device) -> _Stage:
    from certdicom.certification.window import Moments
    from certdicom.research.training.data import STRUCTURES, join
    from certdicom.research.training.denoiser import DenoiserRecipe, DirectDenoiserRecipe
    from certdicom.research.training.segmenter import SegmenterRecipe
    from certdicom.research.training.weights import load_network

    segments = arguments.what == "segmenter"
    start = _start(arguments)
    begun = start.record if start else {}
    structures = (arguments.structures or begun.get("structures") or STRUCTURES) if segments else ()
    trained = start or _new_network(arguments.network, _default(arguments, structures=len(structures)))
    channels = trained.description["channels"]
    grid = arguments.grid or tuple(begun.get("grid", (256, 256)))
    films = films_of(arguments, "train", grid=grid, structures=structures, channels=channels)
    val = films_of(arguments, "val", grid=grid, structures=structures, channels=channels)
    moments = Moments() if arguments.windows == "all" and channels == 1 else None
    shown: dict[str, Any] = {
        "train": join(list(films.values())),
        "batch": arguments.batch_size,
        "moments": moments,
        "preference": _preference(arguments, films),
    }
    record = {
        "what": arguments.what,
        "data": {name: {"train": len(films[name]), "val": len(val[name]) if name in val else 0} for name in films},
        "shares": arguments.shares and ", ".join(f"{share:g}" for share in arguments.shares),
        "windows": "full range, displayed and random ones" if moments else "full range",
        "grid": list(grid),
        "structures": list(structures),
        "batch": arguments.batch_size * int(os.environ.get("WORLD_SIZE", "1")),
        "rate": arguments.rate,
        "strength": arguments.strength,
        "seed": arguments.seed,
        "device": str(device),
    }
    began_with = {arguments.what: begun}
    network = trained.network.to(device)
    if not segments:
        shown |= {"val": join(list(val.values())), "strength": arguments.strength[0]}
        if arguments.sigma is None:
            return _Stage(DenoiserRecipe(network, trained.description, **shown), record, began_with)
        recipe = DirectDenoiserRecipe(network, trained.description, sigma=arguments.sigma, **shown)
        return _Stage(recipe, record | {"sigma": arguments.sigma}, began_with)
    denoising = None
    if arguments.denoiser is not None:
        denoiser = load_network(arguments.denoiser)
        began_with["denoiser"] = denoiser.record
        denoising = _denoising(arguments, denoiser, device=device)
        record |= {"denoiser": True, "denoiser_every": denoising.every, "most_sigma": denoising.most_sigma}
    terms = {name: getattr(arguments, name) for name in ("noise", "recount", "consistency")}
    terms["factor"] = arguments.factor or begun.get("factor", 1)
    shown |= {"val": val, "strength": tuple(arguments.strength), "denoising": denoising}
    return _Stage(SegmenterRecipe(network, trained.description, **shown, **terms), record | terms, began_with)


def _start(arguments: argparse.Namespace) -> Trained | None:
    """The network of --weights, widened to --network where that differs."""
    from certdicom.research.training.weights import load_network
    from certdicom.research.training.widening import widened

    if not arguments.weights:
        return None
    start = load_network(arguments.weights)
    wanted = _described(arguments.network, start.description) if arguments.network else start.description
    return start if wanted == start.description else widened(start, wanted, seed=arguments.seed)


def _preference(arguments: argparse.Namespace, films: Mapping[str, FilmSet]) -> Tensor | None:
    """How often each film is drawn, by --shares; None leaves it to the recipe."""
    from certdicom.research.training.segmenter import drawn_by_shares

    if arguments.shares is None:
        return None
    if len(arguments.shares) != len(arguments.data) or min(arguments.shares) <= 0:
        raise UsageError(f"--shares wants a number above 0 for each of the {len(arguments.data)} --data folders")
    return drawn_by_shares(list(films.values()), arguments.shares)


def _denoising(arguments: argparse.Namespace, denoiser: Trained, *, device: torch.device) -> Denoising:
    """What --denoiser, --denoiser-every and --most-sigma ask for."""
    from certdicom.research.training.denoiser import MOST_SIGMA, SIGMA_RANGE
    from certdicom.research.training.segmenter import Denoising

    most_sigma = MOST_SIGMA if arguments.most_sigma is None else arguments.most_sigma
    if not SIGMA_RANGE[0] < most_sigma <= SIGMA_RANGE[1]:
        raise UsageError(f"--most-sigma must be above {SIGMA_RANGE[0]:g} and at most {SIGMA_RANGE[1]:g}, not {most_sigma:g}")
    return Denoising(denoiser.network.to(device), denoiser.description, every=arguments.denoiser_every, most_sigma=most_sigma)


def _default(arguments: argparse.Namespace, *, structures: int) -> dict[str, Any]:
    """The shipped network of the role, for the channels of the data: colour if any of it is."""
    from certdicom.research.datasets.loading import load_dataset
    from certdicom.research.training.denoiser import DENOISER, DIRECT
    from certdicom.research.training.segmenter import SEGMENTER

    channels = max(load_dataset(folder).channels for folder in arguments.data)
    if arguments.what == "segmenter":
        return {**SEGMENTER, "channels": channels, "structures": structures}
    return {**DENOISER, "channels": channels} if arguments.sigma is None else {**DIRECT, "channels": channels, "structures": channels}


def _new_network(request: str | None, default: Mapping[str, Any]) -> Trained:
    """A network of random weights: `default`, or what is asked for."""
    from certdicom.models.networks import build_network
    from certdicom.research.training.weights import Trained

    description = dict(default) if request is None else _described(request, default)
    return Trained(build_network(description), description, record={})


def _described(request: str, default: Mapping[str, Any]) -> dict[str, Any]:
    """The description in the JSON text or file of `request`, laid over the channels and structures of `default`."""
    try:
        text = request if request.lstrip().startswith("{") else Path(request).read_text()
        return {**{name: default[name] for name in ("channels", "structures") if name in default}, **json.loads(text)}
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"--network is neither JSON nor a file that holds some: {error}") from error
