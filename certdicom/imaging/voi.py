"""From a film's header and pixels to its `Rendering`: Modality LUT, VOI LUT or window, polarity (PS3.3 C.11.1, C.11.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.certification.certificate import Window
from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.rendering import Levels, LevelTable, Presentation, Rendering

LEAST_SHOWN = 0.05
"""A rendering shows something if at least this share of the pixels is neither black nor white, and their display values span
at least as much; one that does not is not certified, and not what the reader sees."""

_AFTER_TABLE = " after the Modality LUT sequence"

_HISTOGRAM_ROWS = 512

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class LookupTable:
    """`entries` (N,) float64 for the inputs `first`, `first + 1`, …; inputs outside take the nearest end.

    `maximum`: the largest value that an entry of the declared number of bits can have; `reached`: that of as many bits as the largest
    entry needs, which is another number where the descriptor and the entries contradict each other.
    """

    first: int
    entries: NDArray[np.float64]
    maximum: int
    reached: int

    def __call__(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry of each input; a fractional input takes the entry at or below it."""
        index = np.clip(np.floor(inputs) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[index])


@dataclass(frozen=True)
class StoredRange:
    """The values that a pixel can hold, by BitsStored and PixelRepresentation."""

    lowest: int
    highest: int


@dataclass(frozen=True)
class _Modality:
    """The Modality LUT: `slope · x + intercept`, or a table."""

    slope: float
    intercept: float
    table: LookupTable | None

    def __call__(self, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.table(stored) if self.table is not None else self.slope * stored + self.intercept


@dataclass(frozen=True)
class _Voi:
    """A VOI transformation in modality values: `linear` (lo, hi) alone, or a curve to [0, 1].

    `ends`: the modality values that stand for black and white, None for a table, whose ends are where it stops changing;
    `slope`: the steepest slope of the curve at modality values, None where only the table's steps are known.
    """

    source: str
    linear: bool
    ends: tuple[float, float] | None
    curve: Curve
    centre: float = 0.0
    width: float = 0.0
    note: str = ""


def presentation_of(
    dataset: Dataset, stored: NDArray[np.int32], *, limits: StoredRange, hidden: NDArray[np.bool_] | None, little_endian: bool
) -> tuple[Presentation, tuple[str, ...]]:
    """How a film can be shown and what there is to note about it.

    The order of PS3.3: a VOI LUT Sequence is preferred over a window, and the first of several windows is taken. ImageRefusedError for
    a header that makes no sense and for a constant image.
    """
    histogram = _histogram(stored, limits=limits, hidden=hidden)
    present = np.flatnonzero(histogram)
    if len(present) == 0:
        raise ImageRefusedError("every pixel of the film is padding or lies behind the display shutter: there is nothing to certify")
    if len(present) == 1:
        raise ImageRefusedError(f"all pixels have the same value ({present[0] + limits.lowest}): there is nothing to certify")
    modality = _modality(dataset, limits=limits, little_endian=little_endian)
    domain = np.arange(limits.lowest, limits.highest + 1, dtype=np.float64)
    with np.errstate(over="ignore"):
        outputs = modality(domain)
    if not np.isfinite(outputs).all() or outputs.min() == outputs.max():
        raise ImageRefusedError("RescaleSlope and RescaleIntercept leave no usable values: correct the header")
    inverted, notes = _polarity(dataset)
    notes = (*notes, *_commas(dataset))
    levels = _levels(modality, domain=domain, outputs=outputs, inverted=inverted, hidden=hidden)
    try:
        voi = _voi(dataset, lowest=float(outputs.min()), highest=float(outputs.max()), little_endian=little_endian)
    except _UnusableWindowError as unusable:
        voi, notes = None, (*notes, f"{unusable}; the window was not used")
    fixed, objection = None, ""
    if voi is not None:
        shown = voi.curve(outputs)
        fixed = _fixed(modality, voi, levels, domain=domain, shown=shown, inverted=inverted)
        notes = (*notes, voi.note) if voi.note else notes
        if not _shows_something(shown, histogram):
            objection = f"the {voi.source} in the header shows next to nothing of this film"
    rescale = (modality.slope, modality.intercept)
    return Presentation(levels=levels, fixed=fixed, objection=objection, rescale=rescale), notes


def _levels(
    modality: _Modality, *, domain: NDArray[np.float64], outputs: NDArray[np.float64], inverted: bool, hidden: NDArray[np.bool_] | None
) -> Levels:
    """What a window is applied to: the stored values, or modality values where those come from a table."""
    if modality.table is None:
        dark = inverted != (modality.slope < 0)
        return Levels(inverted=dark, hidden=hidden, black=float(domain[-1] if dark else domain[0]))
    table = LevelTable(int(domain[0]), outputs, float(np.abs(np.diff(outputs)).max()))
    return Levels(table=table, inverted=inverted, hidden=hidden, black=float(outputs.max() if inverted else outputs.min()))


def _commas(dataset: Dataset) -> tuple[str, ...]:
    """A note for each number that is written with a decimal comma."""
    keywords = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
    found = [keyword for keyword in keywords if header.has_decimal_comma(dataset, keyword)]
    return (f"{', '.join(found)} written with a decimal comma, which was read as a point",) if found else ()


def _histogram(stored: NDArray[np.int32], *, limits: StoredRange, hidden: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """How many pixels that are not hidden hold each value from `limits.lowest` to `limits.highest`."""
    size = limits.highest - limits.lowest + 1
    counts = np.zeros(size, dtype=np.int64)
    for first in range(0, len(stored), _HISTOGRAM_ROWS):  # in strips, because bincount copies its input as int64
        counts += np.bincount((stored[first : first + _HISTOGRAM_ROWS] - limits.lowest).ravel(), minlength=size)
    if hidden is not None:
        counts = counts - np.bincount(stored[hidden] - limits.lowest, minlength=size)
    return counts


def _shows_something(shown: NDArray[np.float64], histogram: NDArray[np.int64]) -> bool:
    between = histogram[(shown > 0) & (shown < 1)].sum() / histogram.sum()
    present = shown[histogram > 0]
    return bool(between >= LEAST_SHOWN and present.max() - present.min() >= LEAST_SHOWN)


def _modality(dataset: Dataset, *, limits: StoredRange, little_endian: bool) -> _Modality:
    sequence = header.items(dataset, "ModalityLUTSequence")
    if sequence:
        table = read_table(sequence[0], name="Modality LUT", lowest=limits.lowest, highest=limits.highest, little_endian=little_endian)
        return _Modality(1.0, 0.0, table)
    slope = header.number(dataset, "RescaleSlope")
    intercept = header.number(dataset, "RescaleIntercept")
    if slope == 0:
        raise ImageRefusedError("RescaleSlope is 0, which makes the film constant: correct the header")
    return _Modality(1.0 if slope is None else slope, intercept or 0.0, None)


def _voi(dataset: Dataset, *, lowest: float, highest: float, little_endian: bool) -> _Voi | None:
    sequence = header.items(dataset, "VOILUTSequence")
    if sequence:
        table = read_table(sequence[0], name="VOI LUT", lowest=lowest, highest=highest, little_endian=little_endian)
        declared, used = table.maximum.bit_length(), table.reached.bit_length()
        note = f"the VOI LUT declares {declared} bits an entry and uses {used}; it was scaled by what it uses" if declared != used else ""
        return _Voi("VOI LUT sequence", False, None, lambda modality: table(modality) / table.reached, note=note)
    return _window(dataset)


class _UnusableWindowError(Exception):
    """Why the header's window cannot be used; the film is then shown as one without a window."""


def _window(dataset: Dataset) -> _Voi | None:
    """The header's first window; None where there is none. _UnusableWindowError for one that means nothing."""
    try:
        centre, width = (_first_number(dataset, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    except ImageRefusedError as error:
        raise _UnusableWindowError(error.public.partition(":")[0]) from error
    if centre is None and width is None:
        return None
    if centre is None or width is None:
        missing, given = ("WindowCenter", "WindowWidth") if centre is None else ("WindowWidth", "WindowCenter")
        raise _UnusableWindowError(f"the header has {given} but no {missing}")
    function = header.text(dataset, "VOILUTFunction") or "LINEAR"
    if function == "LINEAR":
        # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5), and w is at least 1.
        if width < 1:
            raise _UnusableWindowError(f"WindowWidth {width:g} is below 1, which LINEAR does not allow")
        middle, span = centre - 0.5, width - 1
    elif function in ("LINEAR_EXACT", "SIGMOID"):
        if width <= 0:
            raise _UnusableWindowError(f"WindowWidth {width:g} is not above 0, which {function} needs")
        middle, span = centre, width
    else:
        raise _UnusableWindowError(f"VOILUTFunction {header.told(function)} is not known; LINEAR, LINEAR_EXACT and SIGMOID are")
    if function == "SIGMOID":
        ends = (middle - span / 2, middle + span / 2)
        return _Voi("SIGMOID window", False, ends, lambda modality: _sigmoid(modality, middle, span), middle, span)
    return _linear_voi(f"WindowCenter/WindowWidth ({function})", middle - span / 2, middle + span / 2)


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    """The first value that is there: some devices leave the first of several windows empty."""
    return next(iter(header.numbers(dataset, keyword, skip_empty=True)), None)


def _linear_voi(source: str, lo: float, hi: float) -> _Voi:
    def curve(modality: NDArray[np.float64]) -> NDArray[np.float64]:
        if hi <= lo:  # LINEAR of width 1: a step (PS3.3 C.11.2.1.2.1)
            return (modality > lo).astype(np.float64)
        return np.clip((modality - lo) / (hi - lo), 0.0, 1.0)

    return _Voi(source, True, (lo, hi), curve)


def _sigmoid(modality: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    """PS3.3 C.11.2.1.3.1: 1 / (1 + exp(-4 (x - c) / w)), as tanh, which does not overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(2.0 * (modality - centre) / width)))


def _polarity(dataset: Dataset) -> tuple[bool, tuple[str, ...]]:
    """Whether low display values are white, by PhotometricInterpretation and PresentationLUTShape, which should agree."""
    monochrome1 = header.text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    shape = header.text(dataset, "PresentationLUTShape")
    if monochrome1 and shape == "IDENTITY":
        return True, ("MONOCHROME1 with PresentationLUTShape IDENTITY contradict each other; the film was taken as MONOCHROME1",)
    if not monochrome1 and shape == "INVERSE":
        return True, ("MONOCHROME2 with PresentationLUTShape INVERSE contradict each other; the film was taken as inverted",)
    return monochrome1, ()


def _fixed(
    modality: _Modality, voi: _Voi, levels: Levels, *, domain: NDArray[np.float64], shown: NDArray[np.float64], inverted: bool
) -> Rendering:
    """By the header: a window of the levels where that is linear, else a table of what is `shown` over the `domain`, averaged after."""
    if voi.linear and voi.ends is not None:
        ends = voi.ends
        if modality.table is None:
            at_lo, at_hi = ((end - modality.intercept) / modality.slope for end in ends)
            ends = (min(at_lo, at_hi), max(at_lo, at_hi))
        if ends[0] < ends[1]:
            source = voi.source if modality.table is None else f"{voi.source}{_AFTER_TABLE}"
            return Rendering(window=Window(*ends, source), levels=levels)
    steps = np.abs(np.diff(shown))
    steepest = float(steps.max())
    if modality.table is None and voi.ends is not None:
        at_lo, at_hi = ((end - modality.intercept) / modality.slope for end in voi.ends)
        ends = (min(at_lo, at_hi), max(at_lo, at_hi))
    else:
        changing = np.flatnonzero(steps)
        ends = (float(domain[changing[0]]), float(domain[changing[-1] + 1])) if len(changing) else (float(domain[0]), float(domain[-1]))
    if modality.table is None and voi.width:
        steepest = _steepest_sigmoid(modality, voi, domain)
    table = LevelTable(int(domain[0]), shown, steepest)
    source = voi.source if modality.table is None else f"{voi.source}{_AFTER_TABLE}"
    return Rendering(window=Window(*ends, source), levels=replace(levels, table=table, inverted=inverted), shown=(0.0, 1.0))


def _steepest_sigmoid(modality: _Modality, voi: _Voi, domain: NDArray[np.float64]) -> float:
    """The largest derivative of the sigmoid per stored value: |slope| / w at its centre, less if no pixel reaches it."""
    at_centre = float(np.clip((voi.centre - modality.intercept) / modality.slope, domain[0], domain[-1]))
    value = modality.slope * at_centre + modality.intercept
    return abs(modality.slope) / voi.width / float(np.cosh(min(2.0 * abs(value - voi.centre) / voi.width, 300.0))) ** 2


def read_table(item: Dataset, *, name: str, lowest: float, highest: float, little_endian: bool) -> LookupTable:
    """The table of one sequence item.

    `name` for messages; `lowest`, `highest`: the range of inputs that can occur, which tells whether the first input
    mapped was meant signed. ImageRefusedError for a table that is missing, empty or shorter than it says.
    """
    descriptor = header.numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        raise ImageRefusedError(f"the {name} has {len(descriptor)} values in LUTDescriptor instead of 3: correct the header")
    count = int(descriptor[0]) & 0xFFFF or 65536
    bits = int(descriptor[2]) & 0xFFFF
    if not 8 <= bits <= 16:
        raise ImageRefusedError(f"the {name} has {bits} bits for each entry; 8 to 16 can be read: correct LUTDescriptor")
    entries = _entries(item, count=count, bits=bits, name=name, little_endian=little_endian)
    first = _first_input(int(descriptor[1]), count=count, lowest=lowest, highest=highest)
    needed = max(int(entries.max()).bit_length(), 1)
    return LookupTable(first, entries.astype(np.float64), (1 << bits) - 1, (1 << needed) - 1)


def _first_input(stated: int, *, count: int, lowest: float, highest: float) -> int:
    """The first input mapped; its 16 bits may have been written signed or unsigned (VR "US or SS").

    The reading as stated wins; the other one is taken if only it reaches inputs that can occur.
    """
    other = stated - 65536 if stated >= 32768 else stated + 65536 if stated < 0 else stated
    for first in (stated, other):
        if first <= highest and first + count - 1 >= lowest:
            return first
    return stated


def _entries(item: Dataset, *, count: int, bits: int, name: str, little_endian: bool) -> NDArray[np.int64]:
    """The `count` entries of LUTData, which may be US values or the bytes of an OW."""
    data = header.raw(item, "LUTData")
    if isinstance(data, (bytes, bytearray)):
        words = np.frombuffer(bytes(data[: len(data) // 2 * 2]), dtype="<u2" if little_endian else ">u2").astype(np.int64)
        size = len(data)
    else:
        words = np.asarray([int(word) & 0xFFFF for word in header.numbers(item, "LUTData")], dtype=np.int64)
        size = 2 * len(words)
    # 8-bit entries are packed two to a word; some writers give each a word of its own, which only the length tells.
    if bits == 8 and size < 2 * count:
        words = np.stack([words & 0xFF, words >> 8], axis=1).ravel()
    if len(words) < count:
        raise ImageRefusedError(f"the {name} has {len(words)} entries instead of the {count} that LUTDescriptor says: correct the header")
    return words[:count]
