"""A chest seen from the front, drawn from soft shapes: enough anatomy to segment, and no two sides alike.

Coordinates run from 0 to 1, x from the left of the image (the patient's right) and y from the top. The organs are drawn
on one reference grid and interpolated, so that a film of any size shows the same chest; noise is added per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

REFERENCE = 512
"""Rows and columns on which the organs are drawn."""

Field = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Phantom:
    """`density` (rows, columns) float32 in [0, 1], 0 for air and 1 for the densest; `masks` by structure, bool, same size."""

    density: Field
    masks: dict[str, NDArray[np.bool_]]


def chest_phantom(rows: int, columns: int, *, seed: int = 0, noise: float = 0.012) -> Phantom:
    """A chest of `rows` × `columns` pixels; `seed` varies its build, `noise` is its standard deviation in density."""
    density, organs = _organs(seed)
    film = _interpolate(density, rows, columns)
    if noise:
        film += np.random.default_rng([seed, 1]).normal(0.0, noise, film.shape).astype(np.float32)
    masks = {structure: _interpolate(member, rows, columns) > 0.5 for structure, member in organs.items()}
    masks["lungs"] &= ~masks["heart"]
    return Phantom(np.clip(film, 0.0, 1.0), masks)


@lru_cache(maxsize=8)
def _organs(seed: int) -> tuple[Field, dict[str, Field]]:
    """Density and memberships in [0, 1] on the reference grid, without noise."""
    draw = np.random.default_rng(seed)
    y, x = (axis.astype(np.float32) for axis in np.meshgrid(_centres(REFERENCE), _centres(REFERENCE), indexing="ij"))
    build = [float(trait) for trait in draw.normal(0.0, 1.0, 8).clip(-1.5, 1.5)]

    body = _soft(1.0 - _ellipse(x, y, (0.5, 0.78), (0.47 + 0.01 * build[0], 0.66)), 0.06)
    neck = _soft(1.0 - _ellipse(x, y, (0.5, 0.02), (0.13, 0.22)), 0.12)
    shoulders = _soft(1.0 - _ellipse(x, y, (0.5, 0.46), (0.56, 0.36), power=3.0), 0.10)
    torso = np.maximum(np.maximum(body, neck), shoulders)
    lungs, heart = _lungs_and_heart(x, y, build)
    clavicles, clavicle_shine = _clavicles(x, y, build)
    cage = _soft(1.0 - _ellipse(x, y, (0.5, 0.58), (0.43, 0.56)), 0.05)

    density = 0.03 + 0.52 * torso * np.sqrt(np.clip(1.15 - np.abs(x - 0.5) * 1.2, 0.05, None))
    density += 0.20 * _liver(x, y, build) * torso * cage
    density -= 0.34 * lungs * (1.0 - 0.9 * heart) * (0.85 + 0.15 * np.sin(np.pi * y))
    density += 0.20 * heart * torso
    density += 0.16 * _mediastinum(x, y) * torso
    density += 0.08 * _vessels(draw, x, y) * lungs * (1.0 - 0.7 * heart)
    density += 0.13 * _ribs(x, y, build) * cage
    density += 0.17 * clavicle_shine
    density -= 0.10 * _soft(1.0 - _ellipse(x, y, (0.69, 0.90), (0.085, 0.045)), 0.3)  # gas in the stomach, under the left dome
    density[(_inside(x, 0.90, 0.908) & _inside(y, 0.05, 0.10)) | (_inside(x, 0.90, 0.93) & _inside(y, 0.092, 0.10))] = 0.97  # L

    return density.astype(np.float32), {"lungs": lungs, "heart": heart, "clavicles": clavicles}


def _lungs_and_heart(x: Field, y: Field, build: list[float]) -> tuple[Field, Field]:
    """Memberships in [0, 1]; the right lung (on the left) is shorter and wider, the heart lies to the right of the image."""
    edge = 0.035
    right = 1.0 - _ellipse(x, y, (0.305 - 0.008 * build[1], 0.50), (0.175, 0.40), power=2.4)
    left = 1.0 - _ellipse(x, y, (0.700 + 0.008 * build[1], 0.50), (0.165, 0.41), power=2.4)
    right_dome = 0.76 + 0.012 * build[2] + 0.9 * (x - 0.33) ** 2 * 4.0
    left_dome = 0.80 + 0.012 * build[3] + 0.9 * (x - 0.70) ** 2 * 4.0
    lungs = _soft(right, edge) * _soft((right_dome - y) * 5.0, edge) + _soft(left, edge) * _soft((left_dome - y) * 5.0, edge)
    turn = 0.55 + 0.05 * build[4]
    u = (x - 0.565) * np.cos(turn) + (y - 0.655) * np.sin(turn)
    v = -(x - 0.565) * np.sin(turn) + (y - 0.655) * np.cos(turn)
    heart = _soft(1.0 - np.sqrt((u / (0.168 + 0.012 * build[5])) ** 2 + (v / 0.128) ** 2), 0.06)
    # The heart ends on the diaphragm.
    heart = heart * _soft((0.805 - y) * 5.0, edge)
    return np.clip(lungs, 0.0, 1.0).astype(np.float32), heart.astype(np.float32)


def _clavicles(x: Field, y: Field, build: list[float]) -> tuple[Field, Field]:
    """Membership in [0, 1], and how brightly each bone shines (its rim is denser than its middle)."""
    member, shine = np.zeros_like(x), np.zeros_like(x)
    for side, top in ((-1.0, 0.175 + 0.006 * build[6]), (1.0, 0.190 + 0.006 * build[7])):
        along = (side * (x - 0.5) - 0.045) / 0.31  # 0 at the sternum, 1 at the shoulder
        middle = top + 0.035 - 0.075 * along - 0.016 * np.sin(2.0 * np.pi * along)
        half = 0.014 + 0.007 * np.abs(along - 0.4)
        ends = _soft(along * 6.0, 0.2) * _soft((1.0 - along) * 6.0, 0.2)
        across = np.abs(y - middle) / half
        bone = _soft(1.0 - across, 0.15) * ends
        member += bone
        shine += bone * (0.7 + 0.3 * np.clip(across, 0.0, 1.0))
    return member, shine


def _ribs(x: Field, y: Field, build: list[float]) -> Field:
    """Nine pairs of posterior ribs falling outwards, and fainter anterior ones falling inwards."""
    shine = np.zeros_like(x)
    out = np.abs(x - 0.5) / 0.42
    for rib in range(9):
        height = 0.10 + 0.078 * rib + 0.004 * build[0]
        back = height + 0.02 * (x > 0.5) - 0.05 * np.sin(np.pi * np.clip(out, 0.0, 1.0)) + 0.13 * out**2
        front = height + 0.17 - 0.10 * out**2
        shine += np.exp(-(((y - back) / 0.011) ** 2)) * _soft((out - 0.12) * 8.0, 0.3)
        shine += 0.35 * np.exp(-(((y - front) / 0.014) ** 2)) * _soft((out - 0.45) * 8.0, 0.3)
    return np.asarray(np.clip(shine, 0.0, 1.3))


def _mediastinum(x: Field, y: Field) -> Field:
    spine = np.exp(-(((x - 0.495) / 0.055) ** 4)) * (0.85 + 0.15 * np.cos(2.0 * np.pi * y * 16.0))
    vessels = np.exp(-(((x - 0.51) / 0.085) ** 4)) * _soft((y - 0.16) * 6.0, 0.3)
    knob = _soft(1.0 - _ellipse(x, y, (0.60, 0.36), (0.055, 0.05)), 0.2)
    trachea = np.exp(-(((x - 0.485) / 0.022) ** 4)) * _soft((0.36 - y) * 8.0, 0.2)
    return np.asarray(0.7 * spine + 0.5 * vessels + 0.7 * knob - 0.6 * trachea)


def _liver(x: Field, y: Field, build: list[float]) -> Field:
    dome = np.where(x < 0.5, 0.76 + 0.012 * build[2] + 3.6 * (x - 0.33) ** 2, 0.80 + 0.012 * build[3] + 3.6 * (x - 0.70) ** 2)
    return _soft((y - np.minimum(dome, 0.88)) * 5.0, 0.05)


def _vessels(draw: np.random.Generator, x: Field, y: Field) -> Field:
    """Cloudy markings, denser towards the two hila."""
    clouds = sum(_interpolate(draw.normal(0.0, 1.0, (size, size)).astype(np.float32), *x.shape) for size in (24, 60))
    hila = np.exp(-(((x - 0.36) / 0.12) ** 2 + ((y - 0.47) / 0.16) ** 2)) + np.exp(-(((x - 0.64) / 0.12) ** 2 + ((y - 0.45) / 0.16) ** 2))
    return np.asarray(clouds * (0.25 + 0.4 * hila) + 0.7 * hila, dtype=np.float32)


def _centres(size: int) -> NDArray[np.float64]:
    return (np.arange(size) + 0.5) / size


def _inside(axis: Field, lower: float, upper: float) -> NDArray[np.bool_]:
    return (axis >= lower) & (axis < upper)


def _ellipse(x: Field, y: Field, centre: tuple[float, float], half: tuple[float, float], *, power: float = 2.0) -> Field:
    """1 on the ellipse, 0 in its centre, growing outwards."""
    return np.asarray((np.abs((x - centre[0]) / half[0]) ** power + np.abs((y - centre[1]) / half[1]) ** power) ** (1.0 / power))


def _soft(inside: Field, edge: float) -> Field:
    """0 where `inside` is well below zero, 1 where well above, over about `edge`."""
    return np.asarray(0.5 * (1.0 + np.tanh(inside / edge)))


def _interpolate(field: Field, rows: int, columns: int) -> Field:
    """`field` at the pixel centres of a (rows, columns) image, bilinear, constant beyond its own outer centres."""
    return np.asarray(_linear(field.shape[0], rows) @ field @ _linear(field.shape[1], columns).T, dtype=np.float32)


def _linear(source: int, target: int) -> Field:
    position = np.clip(_centres(target) * source - 0.5, 0.0, source - 1.0)
    lower = np.minimum(position.astype(np.int64), max(source - 2, 0))
    weights = np.zeros((target, source), dtype=np.float32)
    rows = np.arange(target)
    weights[rows, lower] = 1.0 - (position - lower)
    weights[rows, np.minimum(lower + 1, source - 1)] += position - lower
    return weights
