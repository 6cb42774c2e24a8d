"""Does what was found look like a chest? A sanity check of the picture, apart from the certificate.

The rules are intervals of a few plain measurements of the selected masks, learnt from the segmentations of training films
(with margins) and kept in the bundle. They refuse hands, legs and noise; they are no proof that a film is a chest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from certdicom.errors import UsageError

MEASUREMENTS = {
    "lung_area": "the lungs' share of the picture",
    "heart_area": "the heart's share of the picture",
    "clavicle_area": "the clavicles' share of the picture",
    "lung_balance": "the smaller lung's area over the larger one's",
    "lung_rest": "the share of lung pixels outside the two largest pieces",
    "lung_separation": "the horizontal distance of the two lungs over their joint width",
    "lung_level": "the vertical distance of the two lungs over their joint height",
    "lung_aspect": "the lungs' joint height over their joint width",
    "heart_rest": "the share of heart pixels outside its largest piece",
    "heart_column": "the heart's horizontal position between the lungs' outer edges",
    "heart_row": "the heart's vertical position between the lungs' tops and bottoms",
    "heart_width": "the heart's width over the lungs' joint width",
    "clavicle_row": "the clavicles' vertical position between the lungs' tops and bottoms",
    "heart_over_lung": "the heart's mean brightness above the lungs'",
    "lung_edge": "the picture's edge strength along the lungs' outline over that elsewhere",
    "lung_contrast": "the brightness step from the lungs to their surroundings over the picture's contrast",
}
"""What is measured, in words; all are dimensionless."""

EVIDENCE = ("lung_edge", "lung_contrast")
"""Measurements of the picture that may be as large as they like."""

TOLERATED_EXCESS = 0.4
"""Sum of excesses, in interval lengths, up to which a picture passes for a chest film."""


def measure(masks: NDArray[np.bool_], image: NDArray[np.float32]) -> dict[str, float]:
    """The MEASUREMENTS of `masks` (lungs, heart, clavicles; (3, G, G)) on `image` (G, G) in [0, 1].

    What cannot be measured, because a structure is missing, is NaN.
    """
    lungs, heart, clavicles = masks
    values = {name: float("nan") for name in MEASUREMENTS}
    values["lung_area"], values["heart_area"], values["clavicle_area"] = (float(mask.mean()) for mask in masks)
    pieces = _pieces(lungs)
    if len(pieces) < 2 or not heart.any():
        return values
    (first, first_area), (second, second_area) = pieces[:2]
    rows, columns = np.nonzero(first | second)
    top, bottom = np.percentile(rows, (1, 99))
    left, right = np.percentile(columns, (1, 99))
    height, width = max(bottom - top, 1.0), max(right - left, 1.0)
    (row_1, column_1), (row_2, column_2) = _centre(first), _centre(second)
    heart_row, heart_column = _centre(heart)
    heart_columns = np.percentile(np.nonzero(heart)[1], (1, 99))
    values |= {
        "lung_balance": second_area / first_area,
        "lung_rest": 1 - (first_area + second_area) / float(lungs.sum()),
        "lung_separation": abs(column_1 - column_2) / width,
        "lung_level": abs(row_1 - row_2) / height,
        "lung_aspect": height / width,
        "heart_rest": 1 - _pieces(heart)[0][1] / float(heart.sum()),
        "heart_column": (heart_column - left) / width,
        "heart_row": (heart_row - top) / height,
        "heart_width": float(heart_columns[1] - heart_columns[0]) / width,
        "heart_over_lung": float(image[heart].mean() - image[lungs].mean()),
        **_evidence(lungs, image),
    }
    if clavicles.any():
        values["clavicle_row"] = (_centre(clavicles)[0] - top) / height
    return values


def _evidence(lungs: NDArray[np.bool_], image: NDArray[np.float32]) -> dict[str, float]:
    """Whether the picture shows an outline where the network drew one: networks imagine lungs on plain pictures as well."""
    edges = ndimage.gaussian_gradient_magnitude(image, 1.5)
    near = ndimage.binary_dilation(lungs, iterations=2)
    outline = near & ~ndimage.binary_erosion(lungs, iterations=2)
    around = ndimage.binary_dilation(near, iterations=10) & ~near
    tiny = 1e-6
    return {
        "lung_edge": float(edges[outline].mean() / (edges[~outline].mean() + tiny)),
        "lung_contrast": float(abs(image[lungs].mean() - image[around].mean()) / (image.std() + tiny)) if around.any() else 0.0,
    }


def _pieces(mask: NDArray[np.bool_]) -> list[tuple[NDArray[np.bool_], float]]:
    """Connected pieces of a mask with their areas, largest first."""
    labels, count = ndimage.label(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return [(labels == index + 1, float(areas[index])) for index in np.argsort(-areas)[:2]]


def _centre(mask: NDArray[np.bool_]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(rows.mean()), float(columns.mean())


@dataclass(frozen=True)
class AnatomyModel:
    """`limits`: for each measurement, the interval in which it lies on chest films; no upper end (None) for evidence."""

    limits: Mapping[str, tuple[float, float | None]]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> AnatomyModel:
        unknown = set(fields) - set(MEASUREMENTS)
        if unknown:
            raise ValueError(f"unknown measurements {sorted(unknown)}")
        return cls({name: (float(low), None if high is None else float(high)) for name, (low, high) in fields.items()})

    @classmethod
    def fit(cls, samples: list[dict[str, float]], *, margin: float = 0.25, least_slack: float = 0.05) -> AnatomyModel:
        """Intervals that hold all but the outer 0.5 % on each side of `samples`, widened on both sides.

        They are widened by `margin` of their length; those of ratios by at least `least_slack`. Of the EVIDENCE only a low
        end is kept. UsageError where nothing can be measured.
        """
        limits: dict[str, tuple[float, float | None]] = {}
        for name in MEASUREMENTS:
            values = np.array([sample[name] for sample in samples])
            values = values[np.isfinite(values)]
            if not values.size:
                raise UsageError(
                    f"{name} cannot be measured on any training film, since a structure is found on none: train the segmenter longer"
                )
            low, high = (float(end) for end in np.percentile(values, (0.5, 99.5)))
            slack = max(margin * (high - low), 0.0 if name.endswith("_area") else least_slack)
            limits[name] = (round(0.8 * low, 4), None) if name in EVIDENCE else (round(low - slack, 4), round(high + slack, 4))
        return cls(limits)

    def judge(self, masks: NDArray[np.bool_], image: NDArray[np.float32]) -> Judgement:
        """How far `masks` (3, G, G) on `image` (G, G) are from those of chest films."""
        values = measure(masks, image)
        found: list[tuple[float, str]] = []
        for name, (low, high) in self.limits.items():
            value = values[name]
            if np.isnan(value):
                found.append((1.0, f"{MEASUREMENTS[name]} cannot be measured"))
            elif high is None and value < low:
                found.append(((low - value) / low, f"{MEASUREMENTS[name]} is {value:.2f} (at least {low:.2f} on chest films)"))
            elif high is not None and not low <= value <= high:
                excess = max(low - value, value - high) / (high - low)
                found.append((excess, f"{MEASUREMENTS[name]} is {value:.2f} ({low:.2f} to {high:.2f} on chest films)"))
        found.sort(reverse=True)
        return Judgement(excess=sum(excess for excess, _ in found), objections=tuple(text for _, text in found))


@dataclass(frozen=True)
class Judgement:
    """`excess`: by how much the measurements leave their intervals, in interval lengths, summed; `objections` in words, worst first."""

    excess: float
    objections: tuple[str, ...]

    @property
    def plausible(self) -> bool:
        """Chest films of the validation sets stay at 0, also when augmented; other pictures are mostly far above."""
        return self.excess <= TOLERATED_EXCESS
