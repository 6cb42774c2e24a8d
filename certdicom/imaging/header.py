"""Reading single attributes of a header that may hold anything.

pydicom converts a value when it is asked for, and raises whatever the conversion raises. These functions turn that
into ImageRefusedError, and leave a value out of the message wherever it could be private.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from certdicom.errors import ImageRefusedError
from certdicom.imaging.terms import is_term


def shown(value: str, limit: int = 32) -> str:
    """The start of a header value as it may stand in a message to who has the file: one line of printable ASCII."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in value[:limit])


def told(value: str) -> str:
    """A header value as it may stand in notes, logs and pages: known terms as they are, and of others that they are not repeated."""
    return shown(value) if is_term(value) else "(a value that is not repeated here)"


def refusal(reason: str, /, **quoted: str) -> ImageRefusedError:
    """A refusal that quotes values of the header, `{name}` in the reason: as `shown` for who has the file, as `told` for all others."""
    return ImageRefusedError(
        reason.format(**{name: shown(value) for name, value in quoted.items()}),
        public=reason.format(**{name: told(value) for name, value in quoted.items()}),
    )


def raw(dataset: Dataset, keyword: str) -> object:
    """The value of an attribute as pydicom gives it, None if absent; ImageRefusedError if it cannot be converted."""
    try:
        return dataset.get(keyword)
    except Exception as problem:
        # Any exception type may come out of a damaged value; all mean that this header cannot be trusted.
        raise ImageRefusedError(f"{keyword} in the header cannot be read: the file is damaged") from problem


def values(dataset: Dataset, keyword: str) -> tuple[object, ...]:
    """All values of an attribute; empty if it is absent or empty."""
    value = raw(dataset, keyword)
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    if isinstance(value, (MultiValue, list, tuple)):
        return tuple(value)
    return (value,)


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """All values of an attribute as text without blanks around it, in capitals; empty if absent."""
    return tuple(str(value).strip(" \0").upper() for value in values(dataset, keyword))


def text(dataset: Dataset, keyword: str) -> str:
    """The first value of an attribute as text without blanks around it, in capitals; "" if absent."""
    return next(iter(texts(dataset, keyword)), "")


def numbers(dataset: Dataset, keyword: str, *, skip_empty: bool = False) -> tuple[float, ...]:
    """All values of a numeric attribute, with `skip_empty` but for empty ones; ImageRefusedError for one that is no finite number."""
    found = []
    for value in values(dataset, keyword):
        if skip_empty and str(value).strip() == "":
            continue
        try:
            number = float(decimal(value))  # type: ignore[arg-type]  # whatever the value is, float() says whether it is a number
        except (TypeError, ValueError, OverflowError) as problem:
            raise refusal(f"{keyword} {{value}} is not a number: correct the header", value=str(value)) from problem
        if not math.isfinite(number):
            raise ImageRefusedError(f"{keyword} {number} is not a finite number: correct the header")
        found.append(number)
    return tuple(found)


def decimal(value: object) -> object:
    """A value with the decimal comma that some devices write as the point that DICOM wants (PS3.5 6.2, DS)."""
    return value.replace(",", ".") if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d+,\d+\s*", value) else value


def has_decimal_comma(dataset: Dataset, keyword: str) -> bool:
    """Whether a value of a numeric attribute is written with a decimal comma."""
    return any(decimal(value) != value for value in values(dataset, keyword))


def number(dataset: Dataset, keyword: str) -> float | None:
    """The first value of a numeric attribute, None if absent or empty."""
    return next(iter(numbers(dataset, keyword)), None)


def whole(dataset: Dataset, keyword: str) -> int | None:
    """The only value of a whole-number attribute, None if absent or empty; ImageRefusedError if several or fractional."""
    found = numbers(dataset, keyword)
    if not found:
        return None
    if len(found) > 1 or found[0] != int(found[0]):
        raise ImageRefusedError(f"{keyword} must be one whole number, not {'/'.join(f'{value:g}' for value in found[:4])}")
    return int(found[0])


def items(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    """The items of a sequence attribute; empty if absent or empty."""
    value = raw(dataset, keyword)
    if not value:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not all(isinstance(item, Dataset) for item in value):
        raise ImageRefusedError(f"{keyword} in the header is not a sequence: the file is damaged")
    return value
