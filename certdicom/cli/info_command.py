"""`certdicom info FILE`: what a film is and whether it would be accepted; what a result of certdicom's certifies."""

from __future__ import annotations

import argparse
import json
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certdicom.certification.window import Moments, WindowRule
from certdicom.cli.films import add_body_part_option, add_window_option
from certdicom.errors import ImageRefusedError

if TYPE_CHECKING:
    from certdicom.imaging.describe import FilmDescription
    from certdicom.outputs.reading_back import ResultDescription

_WIDTH = 100
_TOLD_BEFORE = ("bundle", "bundle_sha256", "bundle SHA-256", "software", "norm")
"""Parameters that other lines have said already."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("film", type=Path, metavar="FILE", help="a DICOM file: an image, or what certdicom wrote of one")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    add_body_part_option(parser)
    add_window_option(parser)


def run(arguments: argparse.Namespace) -> int:
    from certdicom.imaging.describe import describe

    result = _result_in(arguments.film)
    if result is not None:
        _show(asdict(result), _result_lines(result), as_json=arguments.json)
        return 0
    rule = WindowRule.read(arguments.window, Moments()) if arguments.window else None
    film = describe(arguments.film, body_parts=arguments.body_part, rule=rule)
    _show(asdict(film), _film_lines(film), as_json=arguments.json)
    return 0 if film.accepted else ImageRefusedError.exit_code


def _result_in(path: Path) -> ResultDescription | None:
    """What the file says if it is a result; None for anything else, files that are no DICOM included."""
    from certdicom.imaging.reading import parse_quietly
    from certdicom.outputs.reading_back import describe_result

    try:
        dataset = parse_quietly(path).dataset
    except ImageRefusedError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values are converted as they are asked for, and warnings quote them
        return describe_result(dataset)


def _show(fields: Mapping[str, Any], lines: Iterable[tuple[str, str]], *, as_json: bool) -> None:
    """The fields as JSON, or the labels with their texts, long ones wrapped beside their label."""
    if as_json:
        print(json.dumps(fields, indent=2))
        return
    told = list(lines)
    label_width = max(len(label) for label, _ in told) + 2
    for label, text in told:
        for index, line in enumerate(textwrap.wrap(text, _WIDTH)):
            print(f"{'' if index else label:<{label_width}}{line}")


def _film_lines(film: FilmDescription) -> Iterator[tuple[str, str]]:
    yield "kind", film.kind or "not an image that can be read"
    yield "size", "not stated" if film.rows is None or film.columns is None else f"{film.columns} × {film.rows} pixels (columns × rows)"
    yield "bits", "not stated" if film.bits is None else f"{film.bits[1]} stored in {film.bits[0]}"
    for label, value in (
        ("photometric", film.photometric_interpretation),
        ("transfer syntax", film.transfer_syntax),
        ("modality", film.modality),
        ("body part", film.body_part),
        ("view", film.view),
    ):
        yield label, value or "not stated"
    if film.spacing is None:
        yield "spacing", "not stated"
    else:
        row, column, keyword = film.spacing
        yield "spacing", f"{row:g} × {column:g} mm (row × column), from {keyword}"
    if film.window:
        yield "window", f"{film.window.lo:g} to {film.window.hi:g}, {film.window.source}"
    for note in film.notes:
        yield "note", note
    yield "accepted", "yes, as far as the file tells; the picture is judged when it is certified" if film.accepted else "no"
    if film.reason:
        yield "reason", film.reason


def _result_lines(result: ResultDescription) -> Iterator[tuple[str, str]]:
    from certdicom.outputs import output_named

    yield "kind", output_named(result.kind).help
    yield "says", result.claim
    yield "software", result.software
    yield "bundle", f"{result.bundle}, SHA-256 {result.bundle_sha256}"
    yield "film", f"SOP Instance UID {result.film}"
    if result.rows and result.columns:
        yield "size", f"{result.columns} × {result.rows} pixels (columns × rows)"
    for label, share in result.shares.items():
        yield label, f"{share:.1%} of the image"
    if result.radii is not None:
        smallest, middle, largest = result.radii
        yield "radius", f"{smallest:.4f} to {largest:.4f} on the model grid, {middle:.4f} at half of the pixels or more"
    for name, value, unit in result.measurements:
        yield name, f"{value:,.10g} {unit}"
    for name, value in result.parameters.items():
        if name not in _TOLD_BEFORE:
            yield from _parameter_lines(name.replace("_", " "), value)


def _parameter_lines(name: str, value: object) -> Iterator[tuple[str, str]]:
    if name == "window" and isinstance(value, Mapping):
        yield name, f"{value.get('lo')} to {value.get('hi')}, {value.get('source')}"
    elif name == "notes" and isinstance(value, list):
        yield from (("note", str(note)) for note in value)
    elif isinstance(value, list):
        yield name, " × ".join(map(str, value)) if name == "grid" else ", ".join(map(str, value))
    elif name == "abstain fraction" and isinstance(value, float):
        yield "abstained on the grid", f"{value:.1%}"
    elif value not in (None, ""):
        yield name, str(value)
