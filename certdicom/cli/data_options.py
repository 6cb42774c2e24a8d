"""Options that say which images are trained on, for `certdicom train` and `certdicom bundle pack`, and the images themselves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certdicom.research.training.data import FilmSet


def add_data(parser: argparse.ArgumentParser, *, grid: bool = True) -> None:
    parser.add_argument(
        "--data", action="append", required=True, type=Path, metavar="FOLDER", help="a data set with masks; may be given again"
    )
    if grid:
        parser.add_argument("--grid", type=_grid, metavar="ROWS[xCOLUMNS]", help="of the networks (default 256, or what a given one has)")
    parser.add_argument(
        "--split-list", type=Path, metavar="FILE", help="the parts train and val: CSV with id and split (default: the data's)"
    )
    parser.add_argument("--split-seed", type=int, metavar="N", help="draw the parts by this seed, 70/10/20, patients kept whole")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")


def add_structures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--structures", nargs="+", metavar="NAME", help="in channel order (default: what a given network has, or lungs heart clavicles)"
    )


def films_of(arguments: argparse.Namespace, part: str, *, grid: tuple[int, int], structures: Any, channels: int) -> dict[str, FilmSet]:
    """One part of every data set that has it, by the name of its folder. UsageError when none has."""
    from certdicom.research.datasets.loading import load_dataset
    from certdicom.research.training.data import load_films

    redrawn = arguments.split_list is not None or arguments.split_seed is not None
    having = [folder for folder in arguments.data if redrawn or part in (load_dataset(folder).parts or [part])]
    return {
        folder.resolve().name: load_films(
            folder,
            part,
            grid=grid,
            structures=structures,
            channels=channels,
            listing=arguments.split_list,
            seed=arguments.split_seed,
        )
        for folder in having or arguments.data
    }


def _grid(text: str) -> tuple[int, int]:
    """ROWS or ROWSxCOLUMNS, multiples of 16."""
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) > 2 or any(side < 16 or side % 16 for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: give ROWS or ROWSxCOLUMNS, multiples of 16")
    return sides[0], sides[-1]
