"""`certdicom reproduce`: the paper's tables and figure with the data sets and bundles that are there, beside its own figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from certdicom.cli.computing_options import computing_fields
from certdicom.cli.evaluate_command import add_computing_arguments, add_subset_arguments, sizes
from certdicom.errors import UsageError
from certdicom.progress import progress_bar

if TYPE_CHECKING:
    from certdicom.certification.sampling import Progress
    from certdicom.models.bundle import Bundle

WHAT = ("table1", "table2", "table3", "s1", "s2", "s3", "fig1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=WHAT, help="which table or figure of Laousy et al. 2023")
    parser.add_argument(
        "--data", required=True, type=Path, metavar="FOLDER", help="holds jsrt/, montgomery/, shenzhen/, isic2018/, cvc_clinicdb/"
    )
    parser.add_argument("--split", default="test", help="which part of each data set (default %(default)s)")
    parser.add_argument("--bundles", type=Path, metavar="FOLDER", help="holds bundle folders, besides those that are shipped")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/reproduce"), metavar="FOLDER", help="results; a second start goes on (default %(default)s)"
    )
    add_subset_arguments(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="of s1: so many network calls, spread evenly (default: every step)")
    parser.add_argument("--image", metavar="NAME", help="the image of fig1 (default: the first)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table's cells, as docs/results/reproduce/*.json")
    parser.add_argument("--check", action="store_true", help="only say what is missing and which command fills it")
    add_computing_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from certdicom.models.backends.choice import choose_backend
    from certdicom.research.evaluation.run import machine
    from certdicom.research.paper.inventory import known_bundles
    from certdicom.research.paper.reproduce import reproduce, reproduction_file, reproduction_table, take_stock

    if not arguments.data.is_dir():
        raise UsageError(f"no folder {arguments.data}: give the one that holds jsrt/, isic2018/ and the others")
    bundles = known_bundles(arguments.bundles)
    if arguments.what == "fig1":
        return _figure(arguments, bundles)
    stock = take_stock(arguments.what, data=arguments.data, bundles=bundles, split=arguments.split, steps=arguments.steps)
    for missing in stock.missing:
        print(f"missing: {missing}", file=sys.stderr)
    if arguments.check:
        return 0
    if not any(entry.candidate and entry.cell.data in stock.datasets for entry in stock.entries):
        raise UsageError(f"nothing of {arguments.what} can be run: {stock.missing[0]}")
    needed = [entry.candidate.denoised() for entry in stock.entries if entry.candidate]
    backend = choose_backend(needed, **computing_fields(arguments))
    chosen = sizes(arguments, backend)
    with _bars() as bar:
        lines = reproduce(
            stock,
            split=arguments.split,
            backend=backend,
            out=arguments.out,
            images=arguments.images,
            images_seed=arguments.images_seed,
            batch_size=chosen.batch_size,
            images_at_once=chosen.images_at_once,
            processes=chosen.processes,
            progress=bar,
        )
    told = ("images", "images_seed", "steps")
    some = "".join(f" --{name.replace('_', '-')} {value}" for name in told if (value := getattr(arguments, name)) is not None)
    command = f"certdicom reproduce {arguments.what} --split {arguments.split}{some}"
    content = reproduction_file(stock, lines, command=command, split=arguments.split, machine=machine(backend))
    table = reproduction_table(content)
    for ending, text in ((".md", f"{table.caption}\n\n{table.markdown()}\n"), (".tex", table.latex() + "\n"), (".html", table.html())):
        (arguments.out / f"{arguments.what}{ending}").write_text(text, encoding="utf-8")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{table.caption}\n\n{table.markdown()}")
    return 0


def _figure(arguments: argparse.Namespace, bundles: tuple[Bundle, ...]) -> int:
    from certdicom.models.backends.choice import choose_backend
    from certdicom.research.paper.figure1 import draw_figure1, take_stock_of_figure1
    from certdicom.research.plots import save_figure

    stock = take_stock_of_figure1(data=arguments.data, bundles=bundles, split=arguments.split, image=arguments.image)
    for lack in stock.missing:
        print(f"missing: {lack}", file=sys.stderr)
    if arguments.check:
        return 0
    backend = choose_backend(bundles, **computing_fields(arguments))
    figure = draw_figure1(stock, backend=backend, batch_size=sizes(arguments, backend).batch_size)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print("\n".join(str(path) for path in save_figure(figure, arguments.out / "fig1")))
    return 0


@contextmanager
def _bars() -> Iterator[Callable[[str], Progress | None]]:
    """A progress bar for each data set, one after the other."""
    with ExitStack() as stack:

        def bar(name: str) -> Progress | None:
            stack.close()
            return stack.enter_context(progress_bar(f"{name}, images × noise levels", quiet=not sys.stderr.isatty()))

        yield bar
