"""Figures by matplotlib, as PNG and SVG. Needs the extra `figures`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from certdicom.errors import OutputError, UsageError
from certdicom.extras import how_to_get

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")


def blank_figure(width: float, height: float) -> Figure:
    """A figure of so many inches, without a window. UsageError when matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(f"figures need matplotlib: {how_to_get('matplotlib')}") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.svg; returns their paths. OutputError when a place cannot be written to."""
    import matplotlib as mpl

    paths = [stem.with_name(stem.name + ending) for ending in FORMATS]
    for path in paths:
        try:
            with mpl.rc_context({"svg.hashsalt": "certdicom"}):  # the same figure gives the same file
                figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place") from error
    return paths
