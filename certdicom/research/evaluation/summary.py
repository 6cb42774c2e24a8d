"""Means over images, with bootstrap intervals over patients or videos."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from certdicom.research.evaluation.models import CLEAN
from certdicom.research.evaluation.outcome import RADII_PER_SIGMA
from certdicom.research.evaluation.rows import MEASURES, READINGS, Row

RESAMPLES = 2000
LEVEL = 0.95
FEWEST_GROUPS = 10
"""Patients or videos below which no interval is given."""


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its 95 % bootstrap interval, NaN for few patients or videos; all NaN where no image has a score."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Summary:
    """One model at one noise level on one data set.

    `scores`: (measure, reading) → an estimate a structure; `abstain`: share of pixels where any structure abstains, and
    `abstain_by` where each does; `fallback`: for each union the share where it alone is certified present; `curve`: mean certified
    Dice per structure at 0, 0.1 … 2 sigma, empty without noise and for unions; `draws` and `seconds`: means over images.
    """

    bundle: str
    bundle_sha256: str
    method: str
    sigma: float
    radius: float
    native_radius: float
    images: int
    structures: tuple[str, ...]
    scores: dict[tuple[str, str], tuple[Estimate, ...]]
    abstain: Estimate
    abstain_by: tuple[float, ...]
    fallback: dict[str, float]
    curve: dict[str, tuple[float, ...]]
    draws: float
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Without noise: the segmenter alone."""
        return self.method == CLEAN

    def dice(self, reading: str = "certified") -> tuple[Estimate, ...]:
        return self.scores["dice", reading]

    def iou(self, reading: str = "certified") -> tuple[Estimate, ...]:
        return self.scores["iou", reading]


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """One summary for each (bundle, method, sigma), in the order of the rows."""
    found: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row.bundle_sha256, row.method, row.sigma), []).append(row)
    return [_summary(group) for group in found.values()]


def _summary(rows: Sequence[Row]) -> Summary:
    structures = tuple(dict.fromkeys(row.structure for row in rows))
    by = {name: [row for row in rows if row.structure == name] for name in structures}
    images = by[structures[0]]
    first = rows[0]
    return Summary(
        bundle=first.bundle,
        bundle_sha256=first.bundle_sha256,
        method=first.method,
        sigma=first.sigma,
        radius=first.radius,
        native_radius=float(np.mean([row.native_radius for row in images])),
        images=len(images),
        structures=structures,
        scores={
            (measure, reading): tuple(_estimate(by[name], _reader(measure, reading)) for name in structures)
            for measure in MEASURES
            for reading in READINGS
        },
        abstain=_estimate(images, lambda row: row.abstain_image),
        abstain_by=tuple(float(np.mean([row.abstain for row in by[name]])) for name in structures),
        fallback={name: float(np.mean([row.fallback for row in by[name]])) for name in structures if not math.isnan(by[name][0].fallback)},
        curve={name: _curve(by[name]) for name in structures},
        draws=float(np.mean([row.draws for row in images])),
        seconds=float(np.mean([row.seconds for row in images])),
    )


def _reader(measure: str, reading: str) -> Callable[[Row], float]:
    return lambda row: row.score(measure, reading)


def _estimate(rows: Sequence[Row], value_of: Callable[[Row], float]) -> Estimate:
    pairs = [(row.group, value) for row in rows if not math.isnan(value := value_of(row))]
    return interval([value for _, value in pairs], [group for group, _ in pairs])


def interval(values: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> Estimate:
    """The mean and its 95 % interval when whole groups (patients, videos) are drawn again with replacement: BCa (Efron 1987).

    No interval below FEWEST_GROUPS: over 3 groups a bootstrap's "95 %" covers about three quarters of the time.
    """
    if not values:
        return Estimate(math.nan, math.nan, math.nan)
    _, place = np.unique(np.asarray(groups), return_inverse=True)
    sums, sizes = np.bincount(place, weights=values), np.bincount(place)
    mean = float(np.mean(values))
    if len(sums) < FEWEST_GROUPS:
        return Estimate(mean, math.nan, math.nan)
    if np.ptp(sums / sizes) == 0:
        return Estimate(mean, mean, mean)
    found = bootstrap(
        (sums, sizes), _ratio, paired=True, vectorized=True, n_resamples=RESAMPLES, confidence_level=LEVEL, method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return Estimate(mean, float(found.low), float(found.high))


def _ratio(sums: NDArray[np.float64], sizes: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(sums.sum(axis) / sizes.sum(axis))


def _curve(rows: Sequence[Row]) -> tuple[float, ...]:
    """The mean at each radius over the images that have a score there; NaN where none has."""
    series = [row.dice_series for row in rows if row.dice_at_radius]
    columns = ([value for value in column if not math.isnan(value)] for column in zip(*series, strict=True))
    return tuple(float(np.mean(column)) if column else math.nan for column in columns)


def curve_radii(summary: Summary) -> tuple[float, ...]:
    """The radii of a summary's curve, in the frame's units."""
    return tuple(summary.sigma * step for step in RADII_PER_SIGMA)
