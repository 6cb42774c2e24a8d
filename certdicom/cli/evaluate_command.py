"""`certdicom evaluate`: certified Dice, IoU and abstention of a bundle on films with masks."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.progress import progress_bar
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = SmoothingParameters()
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="images/, masks/STRUCTURE/, split.csv")
    parser.add_argument("--split", default="val", help="which part of it (default %(default)s)")
    parser.add_argument("--films", type=int, metavar="N", help="the first N films only")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|FOLDER", help="networks to use (default %(default)s)")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.072, 0.144, 0.289, 0.5], help="noise levels (default %(default)s)")
    parser.add_argument("--tau", type=float, default=defaults.tau, help="share of draws a certified decision exceeds (default %(default)s)")
    parser.add_argument("--n0", type=int, default=defaults.n0, help="draws that select the decisions (default %(default)s)")
    parser.add_argument("--n", type=int, default=defaults.n, help="draws that test them (default %(default)s)")
    parser.add_argument(
        "--alpha", type=float, default=defaults.alpha, help="chance of any wrong certificate in a film (default %(default)s)"
    )
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:i]", help="where to compute (default %(default)s)")
    parser.add_argument(
        "--precision", default="auto", metavar="auto|float32|bfloat16|float16", help="of the networks (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was run and what came out")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.evaluation.certified import evaluate_certified, evaluate_clean
    from certdicom.evaluation.tables import markdown_table, result_file
    from certdicom.training.data import load_films, take

    bundle = load_bundle(arguments.bundle)
    films = load_films(arguments.data, arguments.split, grid=bundle.grid)
    if arguments.films:
        films = take(films, arguments.films)
    clean = evaluate_clean(bundle, films)
    results = []
    for sigma in arguments.sigma:
        parameters = SmoothingParameters(sigma=sigma, tau=arguments.tau, n0=arguments.n0, n=arguments.n, alpha=arguments.alpha)
        started = time.perf_counter()
        with progress_bar(f"sigma {sigma:g}, films", quiet=not sys.stderr.isatty()) as progress:
            result = evaluate_certified(
                bundle, films, parameters, device=arguments.device, precision=arguments.precision, progress=progress
            )
        results.append((result, (time.perf_counter() - started) / len(films)))
        content = result_file(
            command=f"certdicom evaluate --data {arguments.data.name} --split {arguments.split}",
            data=arguments.data.name,
            split=arguments.split,
            films=len(films),
            bundle=bundle.name,
            bundle_sha256=bundle.sha256,
            labels=[structure.label for structure in bundle.structures],
            parameters={"tau": arguments.tau, "n0": arguments.n0, "n": arguments.n, "alpha": arguments.alpha},
            clean=clean,
            results=results,
            machine=_machine(),
        )
        if arguments.json:  # after every noise level, so that a run that is cut short leaves what it has
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    print(markdown_table(content))
    return 0


def _machine() -> str:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{torch.get_num_threads()} threads of {platform.machine()}, PyTorch {torch.__version__}"
