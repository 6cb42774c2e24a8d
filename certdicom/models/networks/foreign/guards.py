"""For which shapes a `torch.export` program was made: sizes, ranges and guards, checked before it runs.

PyTorch writes the conditions as text and would evaluate it. Here a text is parsed, and only arithmetic on sizes is computed.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from certdicom.errors import BundleError

_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARED: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"max": max, "min": min, "Max": max, "Min": min, "abs": abs}
_LEAST_CHECKED: Final = 2
"""PyTorch traces with sizes of at least 2 and writes that as a range, which it does not enforce."""


class ShapeGuards:
    """The shapes (B, channels, rows, columns) that a program takes."""

    def __init__(self, sizes: Sequence[Mapping[str, Any]], ranges: Mapping[str, Mapping[str, Any]], guards: Sequence[str]) -> None:
        """`sizes` of the image, fixed or expressions of symbols; `ranges` of expressions; `guards` over sizes; all as PyTorch writes them.

        BundleError for a condition that is no arithmetic on sizes.
        """
        self._sizes = [(size["as_int"], "") if "as_int" in size else (None, size["as_expr"]["expr_str"]) for size in sizes]
        self._ranges = {text: (limits.get("min_val"), limits.get("max_val")) for text, limits in ranges.items()}
        self._guards = [(text, _parsed(text)) for text in guards]
        self._expressions = [_parsed(text) if text else None for _, text in self._sizes]

    def require(self, shape: Sequence[int]) -> None:
        """BundleError, saying what was expected, for another shape."""
        reason = self._objection(tuple(shape))
        if reason is not None:
            given = " × ".join(map(str, shape))
            raise BundleError(
                f"the .pt2 program was not exported for images of {given} (batch, channels, rows, columns): {reason}; "
                "export it for a batch of one on the bundle's grid"
            )

    def _objection(self, shape: tuple[int, ...]) -> str | None:
        if len(shape) != len(self._sizes):
            return f"it takes {len(self._sizes)} dimensions"
        symbols: dict[str, int] = {}
        for dimension, (size, (fixed, text), expression) in enumerate(zip(shape, self._sizes, self._expressions, strict=True)):
            if fixed is not None and size != fixed:
                return f"dimension {dimension} must be {fixed}"
            if expression is not None and not _solved(expression, size, symbols):
                return f"dimension {dimension} must be {text}"
        for text, (least, most) in self._ranges.items():
            value = symbols.get(text)
            if value is not None and ((least or 0) > max(value, _LEAST_CHECKED) or (most is not None and value > most)):
                return f"{text} = {value} is outside {least} … {most}"
        return next((f"it holds only where {text}" for text, parsed in self._guards if not _value(parsed, shape)), None)


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _unknown(text) from error


def _unknown(text: str) -> BundleError:
    return BundleError(f"the .pt2 program holds only under {text[:80]!r}, which certdicom cannot check; export it for one grid")


def _solved(expression: ast.expr, size: int, symbols: dict[str, int]) -> bool:
    """Whether a size can be what its expression says, a symbol or a multiple of one; the symbol's value is kept in `symbols`."""
    match expression:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            return symbols.setdefault(name, size) == size
        case ast.Call(func=ast.Name(id="Mul"), args=[ast.Call(func=ast.Name(id="Integer"), args=[ast.Constant(value=int(factor))]), rest]):
            return factor > 0 and size % factor == 0 and _solved(rest, size // factor, symbols)
    raise _unknown(ast.unparse(expression))


def _value(node: ast.expr, shape: tuple[int, ...]) -> Any:  # noqa: PLR0911  # one line a kind
    """The value of a guard over the sizes of the image, which it writes as L['x'].size()[2]."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Subscript(
            value=ast.Call(func=ast.Attribute(value=ast.Subscript(value=ast.Name(id="L")), attr="size"), args=[]),
            slice=ast.Constant(value=int(dimension)),
        ) if 0 <= dimension < len(shape):
            return shape[dimension]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, shape), _value(right, shape))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, shape)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, shape)
        case ast.BoolOp(op=op, values=values):
            return (all if isinstance(op, ast.And) else any)([_value(value, shape) for value in values])
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARED for op in ops):
            terms = [_value(term, shape) for term in (left, *others)]
            return all(_COMPARED[type(op)](*pair) for op, pair in zip(ops, pairwise(terms), strict=True))
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, shape) for argument in arguments))
    raise _unknown(ast.unparse(node))
