"""How a guaranteed radius is written: never larger than it is."""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal


def rounded_down(radius: float, digits: int = 4) -> str:
    """A radius of at least 0 to so many significant digits, rounded down, without an exponent: 0.1686, 37490."""
    return format(Context(prec=digits, rounding=ROUND_DOWN).create_decimal(Decimal(radius)), "f")
