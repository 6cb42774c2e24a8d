"""What `certdicom info` says of a file: how it is encoded and shown, and whether it would be certified."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from certdicom.certification.certificate import Window
from certdicom.certification.window import WindowRule
from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.acceptance import is_photograph, modality_of, require_referable
from certdicom.imaging.grid import to_grid
from certdicom.imaging.plane import spacing_of
from certdicom.imaging.reading import Source, image_of, load, parse_quietly

_GRID = 256
"""The window of a header is the same on any grid; a displayed one hardly differs."""


@dataclass(frozen=True, kw_only=True)
class FilmDescription:
    """An image without anything about the patient; what the file does not say is None.

    `kind`: "colour photograph", which needs a bundle for such, or "radiograph", as which all else is judged; `bits`: (allocated,
    stored); `spacing`: (row, column) spacing in mm with the attribute that it was found in; `window`: under which it would be
    certified, by `rule` and on a grid of 256 × 256, known only for an accepted image; `reason`: why not accepted.
    """

    kind: str | None = None
    rows: int | None = None
    columns: int | None = None
    bits: tuple[int, int] | None = None
    photometric_interpretation: str | None = None
    transfer_syntax: str | None = None
    modality: str | None = None
    body_part: str | None = None
    view: str | None = None
    spacing: tuple[float, float, str] | None = None
    window: Window | None = None
    accepted: bool = False
    reason: str | None = None
    notes: tuple[str, ...] = ()


def describe(
    source: Source, *, accept_any: bool = False, body_parts: Collection[str] = (), rule: WindowRule | None = None
) -> FilmDescription:
    """The description of any file, judged as by `read_image`; UsageError only for a path that cannot be read."""
    try:
        data = load(source)
        parsed = parse_quietly(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the reading below counts them
            known = replace(_facts(parsed.dataset), transfer_syntax=parsed.transfer_syntax.name)
    except ImageRefusedError as refusal:
        return FilmDescription(reason=str(refusal))
    try:
        image = image_of(data, accept_any=accept_any, body_parts=body_parts)
        require_referable(image.dataset)
        window = to_grid(image, _GRID, rule).window
    except ImageRefusedError as refusal:
        return replace(known, reason=str(refusal))
    return replace(known, window=window, accepted=True, notes=image.notes)


def _facts(dataset: Dataset) -> FilmDescription:
    """The technical attributes that can be read; a damaged one counts as missing, the refusal will name it."""
    allocated, stored = _whole(dataset, "BitsAllocated"), _whole(dataset, "BitsStored")
    spacing = spacing_of(dataset)
    return FilmDescription(
        kind=_kind(dataset),
        rows=_whole(dataset, "Rows"),
        columns=_whole(dataset, "Columns"),
        bits=(allocated, stored) if allocated is not None and stored is not None else None,
        photometric_interpretation=_text(dataset, "PhotometricInterpretation"),
        modality=header.shown(modality_of(dataset), 16) or None,
        body_part=_text(dataset, "BodyPartExamined"),
        view=_text(dataset, "ViewPosition"),
        spacing=None if spacing.keyword is None else (float(spacing.row), float(spacing.column), spacing.keyword),
    )


def _kind(dataset: Dataset) -> str | None:
    try:
        return "colour photograph" if is_photograph(dataset) else "radiograph"
    except ImageRefusedError:
        return None


def _whole(dataset: Dataset, keyword: str) -> int | None:
    try:
        return header.whole(dataset, keyword)
    except ImageRefusedError:
        return None


def _text(dataset: Dataset, keyword: str) -> str | None:
    try:
        return header.shown(header.text(dataset, keyword)) or None
    except ImageRefusedError:
        return None
