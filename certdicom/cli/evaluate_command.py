"""`certdicom evaluate`: certified Dice, IoU and abstention of a bundle on films with masks."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.progress import progress_bar
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="a data set (images/, masks/STRUCTURE/, split.csv)")
    parser.add_argument("--split", default="val", help="which part of it (default %(default)s)")
    parser.add_argument("--films", type=int, metavar="N", help="the first N films only")
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|FOLDER")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.072, 0.144, 0.289, 0.5], help="noise levels (default: %(default)s)")
    parser.add_argument("--tau", type=float, default=0.75)
    parser.add_argument("--n0", type=int, default=10)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--alpha", type=float, default=1e-3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON as well")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.evaluation.certified import evaluate_certified, evaluate_clean
    from certdicom.training.data import load_films, take

    bundle = load_bundle(arguments.bundle)
    films = load_films(arguments.data, arguments.split, grid=bundle.grid)
    if arguments.films:
        films = take(films, arguments.films)
    labels = [structure.label for structure in bundle.structures]
    clean = evaluate_clean(bundle, films)
    print(f"| {arguments.data.name} {arguments.split}, {len(films)} films | {' | '.join(labels)} | abstain | s/film |")
    print("| --- |" + " --- |" * (len(labels) + 2))
    print(f"| clean, no noise | {_cells(clean)} | | |", flush=True)
    results = []
    for sigma in arguments.sigma:
        parameters = SmoothingParameters(sigma=sigma, tau=arguments.tau, n0=arguments.n0, n=arguments.n, alpha=arguments.alpha)
        started = time.perf_counter()
        with progress_bar(f"sigma {sigma:g}, films", quiet=not sys.stderr.isatty()) as progress:
            result = evaluate_certified(
                bundle, films, parameters, device=arguments.device, precision=arguments.precision, progress=progress
            )
        results.append(asdict(result))
        seconds = (time.perf_counter() - started) / len(films)
        print(
            f"| certified, sigma {sigma:g} | {_cells(result.dice['certified'])} | {result.abstain_fraction:.1%} | {seconds:.1f} |",
            flush=True,
        )
    if arguments.json:
        content = {"bundle": bundle.name, "sha256": bundle.sha256, "labels": labels, "clean_dice": clean, "certified": results}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


def _cells(values: list[float]) -> str:
    return " | ".join("" if math.isnan(value) else f"{value:.3f}" for value in values)
