"""The per-image results: one row an image, model, noise level and structure, in a CSV file that survives being cut short."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from certdicom.certification.scores import Score
from certdicom.errors import OutputError, UnreadableError, UsageError
from certdicom.extras import how_to_get
from certdicom.files import write_atomically

READINGS = ("certified", "answered", "worst_case")
"""The three definitions of Dice and IoU under abstention, see `certification.scores`."""

MEASURES = ("dice", "iou")

Key = tuple[str, str, str, float]
"""(image, bundle's SHA-256, method, sigma): what is computed at once."""


@dataclass(frozen=True)
class Row:
    """The result for one structure of one image.

    `group`: patient or video; `sigma` 0 and method "clean": without noise; `structure`: or union, "lungs or heart"; `radius` in the
    frame's units, `native_radius` in the image's stored values; scores are NaN where there is no reference or the structure is in
    neither mask; `abstain`: share of pixels where this structure abstains, `abstain_image`: where any does, unions left out;
    `fallback`: share where the union alone is certified present, NaN for a structure; `draws` that tested; `dice_at_radius`:
    certified Dice at 0, 0.1 … 2 sigma, separated by blanks; `seconds`: the image's share of the computing, without reading it.
    """

    image: str
    group: str
    bundle: str
    bundle_sha256: str
    method: str
    sigma: float
    structure: str
    radius: float
    native_radius: float
    dice_certified: float
    iou_certified: float
    dice_answered: float
    iou_answered: float
    dice_worst_case: float
    iou_worst_case: float
    abstain: float
    abstain_image: float
    fallback: float
    draws: int
    dice_at_radius: str
    seconds: float

    @property
    def key(self) -> Key:
        return self.image, self.bundle_sha256, self.method, self.sigma

    def score(self, measure: str, reading: str) -> float:
        """Dice or IoU in one of READINGS; NaN without a score."""
        return float(getattr(self, f"{measure}_{reading}"))

    @property
    def dice_series(self) -> tuple[float, ...]:
        """`dice_at_radius` as numbers; empty without a score."""
        return tuple(float(value) for value in self.dice_at_radius.split())


COLUMNS = tuple(field.name for field in fields(Row))
_READ: Mapping[str, Callable[[str], str | int | float]] = {"str": str, "int": int, "float": lambda value: float(value or "nan")}
"""How a column's text is read, by the type of its field."""


def score_columns(score: Score | None) -> dict[str, Any]:
    """Dice and IoU in all readings, NaN where there is none."""
    columns = {}
    for reading in READINGS:
        pair = getattr(score, reading) if score is not None else None
        for measure, value in zip(MEASURES, pair or (math.nan, math.nan), strict=True):
            columns[f"{measure}_{reading}"] = value
    return columns


class RowFile:
    """A CSV file of rows, appended to image by image; what a kill cut off is dropped when it is opened again.

    `planes`: how many rows belong to one key, by the bundle's SHA-256.
    """

    def __init__(self, path: Path, *, planes: Mapping[str, int]) -> None:
        self.path = path
        there = read_rows(path, cut_short=True) if path.exists() else []
        counts = Counter(row.key for row in there)
        self.rows = [row for row in there if counts[row.key] == planes.get(row.bundle_sha256, counts[row.key])]
        text = ",".join(COLUMNS) + "\n" + "".join(_line(row) for row in self.rows)
        write_atomically(path, text.encode(), force=True)  # or a kill at this moment would lose what there is

    def append(self, rows: Sequence[Row]) -> None:
        """Add the rows of one key; they are on the disk when this returns."""
        try:
            with self.path.open("a", encoding="utf-8", newline="") as stream:
                stream.write("".join(_line(row) for row in rows))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}; the run goes on where it stopped when started again") from error
        self.rows += rows


def _line(row: Row) -> str:
    text = io.StringIO()
    values = (getattr(row, name) for name in COLUMNS)
    csv.writer(text, lineterminator="\n").writerow("" if isinstance(v, float) and math.isnan(v) else v for v in values)
    return text.getvalue()


def read_rows(path: Path, *, cut_short: bool = False) -> list[Row]:
    """The rows of a CSV file. UnreadableError for a file of something else. `cut_short`: a last line without its end is dropped."""
    try:
        content = path.read_bytes()
        text = (content[: content.rfind(b"\n") + 1] if cut_short else content).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"cannot read {path}: {error}") from error
    table = list(csv.reader(io.StringIO(text, newline="")))
    if table and tuple(table[0]) != COLUMNS:
        raise UnreadableError(f"{path} holds no results of this version: its columns are others; choose another folder")
    return [_row(path, values) for values in table[1:]]


def _row(path: Path, values: Sequence[str]) -> Row:
    try:
        columns: dict[str, Any] = {field.name: _READ[str(field.type)](value) for field, value in zip(fields(Row), values, strict=True)}
    except ValueError as error:
        raise UnreadableError(f"{path} has a damaged line that begins {','.join(values)[:60]!r}; remove it and run again") from error
    return Row(**columns)


def parquet_is_installed() -> bool:
    """Whether `write_parquet` has what it needs."""
    return find_spec("pyarrow") is not None


def write_parquet(rows: Iterable[Row], path: Path) -> None:
    """The same rows as a Parquet file, scores without a value null. UsageError when pyarrow is not installed."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(f"Parquet needs pyarrow: {how_to_get('pyarrow')}") from error
    table: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for row in rows:
        for name in COLUMNS:
            table[name].append(_or_null(getattr(row, name)))
        table["dice_at_radius"][-1] = [_or_null(value) for value in row.dice_series]
    parquet.write_table(pa.table(table), path)


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
