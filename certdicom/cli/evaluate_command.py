"""`certdicom evaluate`: certified Dice, IoU and abstention of bundles on images with masks."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.progress import progress_bar
from certdicom.errors import UsageError
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle

if TYPE_CHECKING:
    from certdicom.evaluation.run import Plan
    from certdicom.evaluation.summary import Summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = SmoothingParameters()
    parser.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="a data set with masks; see docs/evaluation.md for layouts"
    )
    parser.add_argument("--split", default="val", help="which part of it: train, val, test or all (default %(default)s)")
    parser.add_argument("--split-list", type=Path, metavar="FILE", help="the split: a CSV file (id, split), or one name a line")
    parser.add_argument("--split-seed", type=int, metavar="N", help="draw the split, 70/10/20, patients and videos kept whole")
    parser.add_argument("--images", "--films", type=int, metavar="N", help="the first N images only")
    parser.add_argument(
        "--bundle", nargs="+", default=[DEFAULT_BUNDLE], metavar="NAME|FOLDER", help=f"networks to use (default {DEFAULT_BUNDLE})"
    )
    parser.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="ways to a smoothed model: one-shot, multi-step, direct, segcertify (default: each bundle's own)",
    )
    parser.add_argument(
        "--protocol",
        default="native",
        choices=("native", "paper"),
        help="noise on the model's grid, or the paper's setting (default %(default)s)",
    )
    parser.add_argument("--sigma", type=float, nargs="+", help="noise levels (default: 0.072 0.144 0.289 0.5; of the paper 0.25 0.5 1)")
    parser.add_argument("--tau", type=float, default=defaults.tau, help="share of draws a certified decision exceeds (default %(default)s)")
    parser.add_argument("--n0", type=int, default=defaults.n0, help="draws that select the decisions (default %(default)s)")
    parser.add_argument("--n", type=int, default=defaults.n, help="draws that test them (default %(default)s)")
    parser.add_argument(
        "--alpha", type=float, default=defaults.alpha, help="chance of any wrong certificate in an image (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep per-image results, tables and figures; a second start goes on")
    parser.add_argument("--figures", action="store_true", help="also draw certified Dice over the radius (needs --out and matplotlib)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was run and what came out (one bundle, one method)")
    add_computing_arguments(parser)


def add_computing_arguments(parser: argparse.ArgumentParser) -> None:
    """How to compute, for all commands that evaluate."""
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where to compute (default %(default)s)")
    parser.add_argument(
        "--precision", default="auto", metavar="auto|float32|bfloat16|float16", help="of the networks (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="noise images at once (default: 10 on a CPU, 128 on a GPU)")
    parser.add_argument(
        "--images-at-once", type=int, metavar="N", help="images whose draws share batches (default: 1 on a CPU, 8 on a GPU)"
    )


def sizes(arguments: argparse.Namespace, *, cuda: bool) -> tuple[int, int]:
    """(batch size, images at once). UsageError below 1."""
    batch, images = arguments.batch_size, arguments.images_at_once
    chosen = (128 if cuda else 10) if batch is None else batch, (8 if cuda else 1) if images is None else images
    if min(chosen) < 1:
        raise UsageError(f"--batch-size and --images-at-once must be at least 1, not {chosen[0]} and {chosen[1]}")
    return chosen


def run(arguments: argparse.Namespace) -> int:
    from certdicom.evaluation.models import Loader
    from certdicom.evaluation.run import evaluate
    from certdicom.evaluation.summary import summarise
    from certdicom.evaluation.tables import summary_table

    if arguments.figures and arguments.out is None:
        raise UsageError("--figures needs --out FOLDER to put them into")
    if arguments.json and (len(arguments.bundle) > 1 or len(arguments.method or [""]) > 1):
        raise UsageError("--json describes one bundle and one method; use --out for several")
    plan = _plan(arguments)
    loader = Loader(device=arguments.device, precision=arguments.precision)
    batch, together = sizes(arguments, cuda=loader.device.type == "cuda")
    for note in plan.dataset.notes:
        print(f"certdicom: {plan.dataset.folder}: {note}", file=sys.stderr)
    for bundle in {candidate.bundle for candidate in plan.candidates if candidate.bundle.notice}:
        print(f"certdicom: bundle {bundle.name}: {bundle.notice}", file=sys.stderr)
    with progress_bar("images × noise levels", quiet=not sys.stderr.isatty()) as progress:
        rows = evaluate(plan, loader=loader, folder=arguments.out, batch_size=batch, images_at_once=together, progress=progress)
    summaries = summarise(rows)
    caption = f"{plan.dataset.name} {plan.part}, {len(plan.samples)} images, protocol {plan.protocol}"
    table = summary_table(summaries, caption=caption)
    if arguments.json:
        _write_json(arguments, plan, summaries)
    if arguments.out:
        from certdicom.evaluation.rows import parquet_is_installed, write_parquet

        for ending, text in ((".md", f"{table.caption}\n\n{table.markdown()}\n"), (".tex", table.latex() + "\n"), (".html", table.html())):
            (arguments.out / f"table{ending}").write_text(text, encoding="utf-8")
        if parquet_is_installed():
            write_parquet(rows, arguments.out / "per_image.parquet")
        if arguments.figures:
            from certdicom.evaluation.figures import curve_figure
            from certdicom.presentation.figures import save_figure

            save_figure(curve_figure(summaries), arguments.out / "certified_dice")
    print(f"{table.caption}\n\n{table.markdown()}")
    return 0


def _plan(arguments: argparse.Namespace) -> Plan:
    from certdicom.datasets.loading import load_dataset
    from certdicom.datasets.splits import select
    from certdicom.evaluation.models import Candidate
    from certdicom.evaluation.protocol import SIGMAS
    from certdicom.evaluation.run import Plan

    if arguments.images is not None and arguments.images < 1:
        raise UsageError(f"--images must be at least 1, not {arguments.images}")
    bundles = [load_bundle(name) for name in arguments.bundle]
    dataset = load_dataset(arguments.data)
    samples = select(dataset, arguments.split, listing=arguments.split_list, seed=arguments.split_seed)
    sigmas = tuple(arguments.sigma or SIGMAS[arguments.protocol])
    return Plan(
        dataset=dataset,
        part=arguments.split,
        samples=samples[: arguments.images],
        candidates=tuple(Candidate(bundle, method) for bundle in bundles for method in arguments.method or [bundle.denoising.method]),
        sigmas=sigmas,
        protocol=arguments.protocol,
        parameters=SmoothingParameters(sigma=sigmas[0], tau=arguments.tau, n0=arguments.n0, n=arguments.n, alpha=arguments.alpha),
    )


def _write_json(arguments: argparse.Namespace, plan: Plan, summaries: Sequence[Summary]) -> None:
    from certdicom.evaluation.results import result_file
    from certdicom.evaluation.run import machine

    bundle = "" if arguments.bundle == [DEFAULT_BUNDLE] else f" --bundle {shlex.quote(Path(arguments.bundle[0]).name)}"
    protocol = "" if plan.protocol == "native" else f" --protocol {plan.protocol}"
    content = result_file(
        summaries,
        command=f"certdicom evaluate --data {arguments.data.name} --split {plan.part}{bundle}{protocol}",
        data=plan.dataset.name,
        split=plan.part,
        parameters={name: getattr(arguments, name) for name in ("tau", "n0", "n", "alpha")},
        protocol=plan.protocol,
        machine=machine(),
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
