"""`certdicom evaluate`: certified Dice, IoU and abstention of bundles on images with masks."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from certdicom.certification.window import WindowRule
from certdicom.cli.computing_options import add_computing_options, computing_fields
from certdicom.cli.smoothing_options import add_smoothing_arguments, smoothing_parameters
from certdicom.errors import UsageError
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle
from certdicom.pipeline import DEFAULT_BATCH
from certdicom.pool import usual_processes
from certdicom.progress import progress_bar

if TYPE_CHECKING:
    from certdicom.models.backends.base import Backend
    from certdicom.research.evaluation.plan import Plan
    from certdicom.research.evaluation.summary import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="a data set with masks; see docs/evaluation.md for layouts"
    )
    parser.add_argument("--split", default="val", help="which part of it: train, val, test or all (default %(default)s)")
    parser.add_argument("--split-list", type=Path, metavar="FILE", help="the split: a CSV file (id, split), or one name a line")
    parser.add_argument("--split-seed", type=int, metavar="N", help="draw the split, 70/10/20, patients and videos kept whole")
    add_subset_arguments(parser)
    parser.add_argument(
        "--bundle", nargs="+", default=[DEFAULT_BUNDLE], metavar="NAME|FOLDER", help=f"networks to use (default {DEFAULT_BUNDLE})"
    )
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="ways to a smoothed model: one-shot, multi-step[:STEPS], direct, segcertify (default: each bundle's own)",
    )
    parser.add_argument(
        "--protocol",
        default="native",
        choices=("native", "paper"),
        help="noise on the model's grid, or the paper's setting (default %(default)s)",
    )
    parser.add_argument(
        "--window",
        default="fixed",
        choices=("fixed", "displayed"),
        help="gray images: pictures by the full range of their format and films by their header, or all by the displayed window",
    )
    parser.add_argument(
        "--equal-radius",
        action="store_true",
        help="with --window displayed: as much noise on each image as gives sigma's radius in stored values under the fixed window",
    )
    parser.add_argument("--sigma", type=float, nargs="+", help="noise levels (default: 0.072 0.144 0.289 0.5; of the paper 0.25 0.5 1)")
    add_smoothing_arguments(parser.add_argument_group("certificate", "With anything but n0, n, tau and alpha, tables say so."))
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep per-image results, tables and figures; a second start goes on")
    parser.add_argument("--figures", action="store_true", help="also draw certified Dice over the radius (needs --out and matplotlib)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was run and what came out (one bundle, one method)")
    add_computing_arguments(parser)


def add_subset_arguments(parser: argparse.ArgumentParser) -> None:
    """Some of the images, for all commands that evaluate."""
    parser.add_argument("--images", type=int, metavar="N", help="only N images: the first ones, or by --images-seed")
    parser.add_argument("--images-seed", type=int, metavar="N", help="draw the images of --images at random; more images hold fewer ones")


def add_computing_arguments(parser: argparse.ArgumentParser) -> None:
    """How to compute, for all commands that evaluate."""
    add_computing_options(parser)
    parser.add_argument("--batch-size", type=int, metavar="N", help="noise images in memory at once (default: 10 on a CPU, 128 on a GPU)")
    parser.add_argument(
        "--images-at-once", type=int, metavar="N", help="images whose draws share batches (default: 1 on a CPU, 8 on a GPU)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="so many processes read and score while this one makes the draws; 1: this one alone (default: one a core, 2 to 16)",
    )


@dataclass(frozen=True)
class Sizes:
    """How many draws are in memory, how many images share them, and how many processes read and score."""

    batch_size: int
    images_at_once: int
    processes: int


def sizes(arguments: argparse.Namespace, backend: Backend) -> Sizes:
    """What was asked for, or suits the backend. UsageError below 1."""
    batch, images, jobs = arguments.batch_size, arguments.images_at_once, arguments.jobs
    if min(size for size in (batch, images, jobs, 1) if size is not None) < 1:
        raise UsageError("--batch-size, --images-at-once and --jobs must be at least 1")
    usual = 128 if str(backend.device).startswith("cuda") else DEFAULT_BATCH
    return Sizes(batch or usual * backend.devices, images or backend.images_at_once, jobs or usual_processes())


def run(arguments: argparse.Namespace) -> int:
    from certdicom.models.backends.choice import choose_backend
    from certdicom.research.evaluation.run import evaluate
    from certdicom.research.evaluation.summary import summarise
    from certdicom.research.evaluation.tables import summary_table

    if arguments.figures and arguments.out is None:
        raise UsageError("--figures needs --out FOLDER to put them into")
    if arguments.json and (len(arguments.bundle) > 1 or len(arguments.method or [""]) > 1):
        raise UsageError("--json describes one bundle and one method; use --out for several")
    plan = _plan(arguments)
    backend = choose_backend([candidate.denoised() for candidate in plan.candidates], **computing_fields(arguments))
    chosen = sizes(arguments, backend)
    for note in plan.dataset.notes:
        print(f"certdicom: {plan.dataset.folder}: {note}", file=sys.stderr)
    for bundle in {candidate.bundle for candidate in plan.candidates if candidate.bundle.notice}:
        print(f"certdicom: bundle {bundle.name}: {bundle.notice}", file=sys.stderr)
    with progress_bar("images × noise levels", quiet=not sys.stderr.isatty()) as progress:
        rows = evaluate(
            plan,
            backend=backend,
            folder=arguments.out,
            batch_size=chosen.batch_size,
            images_at_once=chosen.images_at_once,
            processes=chosen.processes,
            progress=progress,
        )
    summaries = summarise(rows)
    table = summary_table(summaries, caption=plan.caption)
    if arguments.json:
        _write_json(arguments, plan, summaries, backend)
    if arguments.out:
        from certdicom.research.evaluation.rows import parquet_is_installed, write_parquet

        for ending, text in ((".md", f"{table.caption}\n\n{table.markdown()}\n"), (".tex", table.latex() + "\n"), (".html", table.html())):
            (arguments.out / f"table{ending}").write_text(text, encoding="utf-8")
        if parquet_is_installed():
            write_parquet(rows, arguments.out / "per_image.parquet")
        if arguments.figures:
            from certdicom.research.evaluation.figures import curve_figure
            from certdicom.research.plots import save_figure

            save_figure(curve_figure(summaries), arguments.out / "certified_dice")
    print(f"{table.caption}\n\n{table.markdown()}")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from certdicom.research.datasets.loading import load_dataset
    from certdicom.research.datasets.splits import select
    from certdicom.research.evaluation.models import Candidate
    from certdicom.research.evaluation.plan import Plan, subset
    from certdicom.research.evaluation.protocol import SIGMAS

    bundles = [load_bundle(name) for name in arguments.bundle]
    if arguments.equal_radius and arguments.window != "displayed":
        raise UsageError("--equal-radius compares the displayed window with the fixed one: give --window displayed as well")
    dataset = load_dataset(arguments.data)
    samples = select(dataset, arguments.split, listing=arguments.split_list, seed=arguments.split_seed)
    sigmas = tuple(arguments.sigma or SIGMAS[arguments.protocol])
    return Plan(
        dataset=dataset,
        part=arguments.split,
        samples=subset(samples, arguments.images, seed=arguments.images_seed),
        candidates=tuple(Candidate(bundle, method) for bundle in bundles for method in arguments.method or [bundle.denoising.method]),
        sigmas=sigmas,
        protocol=arguments.protocol,
        parameters=smoothing_parameters(arguments, sigma=sigmas[0]),
        fallback=tuple(arguments.fallback),
        window=WindowRule("displayed" if arguments.window == "displayed" else "header-or-displayed"),
        equal_radius=arguments.equal_radius,
    )


def _write_json(arguments: argparse.Namespace, plan: Plan, summaries: Sequence[Summary], backend: Backend) -> None:
    from certdicom.research.evaluation.results import result_file
    from certdicom.research.evaluation.run import machine

    content = result_file(
        summaries,
        command=_command(arguments),
        data=plan.dataset.name,
        split=plan.part,
        parameters=plan.settings()["smoothing"],
        beyond=plan.beyond,
        protocol=plan.protocol,
        window=plan.shown,
        machine=machine(backend),
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


_SIZES = {"batch_size", "images_at_once", "jobs"}
_ELSEWHERE = {"command", "debug", "data", "out", "json", "figures", "backend", "device", "precision", *_SIZES}
"""Options that change nothing of the result, or are said otherwise."""


def _command(arguments: argparse.Namespace) -> str:
    """The command that gives these figures again; folders by their names."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = ["certdicom", "evaluate", "--data", arguments.data.name]
    for name, value in vars(arguments).items():
        if name in _ELSEWHERE or value == parser.get_default(name):
            continue
        option = f"--{name.replace('_', '-')}"
        if name == "fallback":
            words += [word for group in value for word in (option, group)]
        else:
            entries = value if isinstance(value, list) else [value]
            words += [option, *(Path(entry).name if name in ("bundle", "split_list") else str(entry) for entry in entries)]
    return shlex.join(words)
