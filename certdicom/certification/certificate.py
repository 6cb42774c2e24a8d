"""The result of certifying one film: decisions, what they rest on, and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.crop import Crop, Scalar
from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.rounding import rounded_down

ABSENT, PRESENT, ABSTAIN = 0, 1, 2
"""Values of a decision map: certified absent, certified present, not certified."""

SeedKind = Literal["site-key", "os-entropy"]

Medium = Literal["film", "photograph"]
"""What an image is called in sentences for people: a gray radiograph, or a colour photograph."""


@dataclass(frozen=True)
class Structure:
    """One anatomical structure that a bundle segments.

    `label`: its name for people ("lungs"); `code`: (value, coding scheme, meaning); `rgb`: its colour, 0 to 255.
    """

    label: str
    code: tuple[str, str, str]
    rgb: tuple[int, int, int]


@dataclass(frozen=True)
class Window:
    """The stored or modality values that the grid's 0 and 1 stand for, and where they were found.

    `displayed`: found from the image on the grid, and found anew in a changed one; any other is the same for both.
    """

    lo: float
    hi: float
    source: str
    displayed: bool = False


@dataclass(frozen=True)
class IntervalCount:
    """Guaranteed bounds of a number of pixels: certified present ≤ truth of the smoothed model ≤ not certified absent."""

    lower: int
    upper: int


@dataclass(frozen=True, eq=False)
class UnionLayer:
    """Decisions about unions of structures, which stand in one family with those about single structures.

    `members`: structure indices of each union; `decisions` (unions, H, W) uint8 of ABSENT, PRESENT, ABSTAIN: whether any member is
    present; `counts` (unions, H, W) int32, votes for the selected decision.
    """

    members: tuple[tuple[int, ...], ...]
    decisions: NDArray[np.uint8]
    counts: NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """A certified segmentation of one film, or photograph, on the model grid.

    With confidence 1 - alpha, at every entry of `decisions` that is not ABSTAIN the smoothed segmenter takes the same
    decision for every image within `radius` (L2, on the grid) of this one; and for every film within `native_radius`
    (L2, in `native_unit`, over all pixels as stored) of this one, on the terms of `statements.terms`. It says nothing about the decision
    being right.

    `decisions` (structures, H, W) uint8 of ABSENT, PRESENT, ABSTAIN; `counts` (structures, H, W) int32, votes among `draws` for the
    selected decision; `native_scale`: native radius per unit of grid radius, for the
    largest radius that so many draws can certify and all below; `draw_identity`: hex digest that is equal for two
    certificates only if they rest on the same draws; `backend`: what ran the networks, with its version; `unions`: decisions about
    unions of structures, if asked for; `stopped_at`: the look at which the test stopped before n; `medium`: what was certified;
    `notes`: what a reader should know; `seconds` per stage; `native_radius`
    is that of `native_scale` unless more is known of it; `padding_declared`: values of pixels say that they are no image;
    `crop`: the part of the image that was looked at, None for all of it.
    """

    decisions: NDArray[np.uint8]
    counts: NDArray[np.int32]
    parameters: SmoothingParameters
    structures: tuple[Structure, ...]
    native_scale: float
    native_unit: str
    window: Window
    bundle_name: str
    bundle_sha256: str
    seed_kind: SeedKind
    draw_identity: str
    backend: str
    device: str
    precision: str
    unions: UnionLayer | None = None
    stopped_at: int | None = None
    medium: Medium = "film"
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    native_radius: float = math.nan
    padding_declared: bool = False
    crop: Crop | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.native_radius):
            object.__setattr__(self, "native_radius", self.radius * self.native_scale)

    def __repr__(self) -> str:
        labels = ", ".join(structure.label for structure in self.structures)
        rows, columns = self.shape
        return f"Certificate({labels}; {rows} × {columns}; R = {rounded_down(self.radius)}, {self.abstain_fraction:.1%} abstained)"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the model grid."""
        rows, columns = self.decisions.shape[-2:]
        return int(rows), int(columns)

    @property
    def grid(self) -> int | tuple[int, int]:
        """Rows and columns of the model grid, one number for a square."""
        rows, columns = self.shape
        return rows if rows == columns else (rows, columns)

    @property
    def hypotheses(self) -> int:
        """K: how many decisions were tested in one family, those about unions included."""
        return Hypotheses(len(self.structures), self.parameters.unions).count(self.shape[0] * self.shape[1])

    @property
    def union_labels(self) -> tuple[str, ...]:
        """Names of the unions for people: "lungs or heart"."""
        return tuple(" or ".join(self.structures[index].label for index in members) for members in self.parameters.unions)

    @property
    def draws(self) -> int:
        """How many draws `counts` rests on: n, or fewer where the test stopped at an earlier look."""
        return self.stopped_at or self.parameters.n

    @property
    def family(self) -> str:
        """Over which decisions alpha bounds the chance of any wrong certificate, and by which test."""
        over = f"over all structures{', unions' if self.unions else ''} and pixels of the image"
        looks = len(self.parameters.planned_looks)
        split = f", alpha split over {looks} looks" if looks > 1 else ""
        return f"Holm-Bonferroni {over}{split}"

    @property
    def radius(self) -> float:
        """Certified L2 radius on the grid, whose values span [0, 1]."""
        return self.parameters.radius

    @property
    def unanimous_bound(self) -> float:
        """The lower bound of a decision's probability, for all decisions at once, where all draws agree: none is larger."""
        return float((self.parameters.look_alpha / self.counts.size) ** (1 / self.draws))

    @property
    def abstain(self) -> NDArray[np.bool_]:
        """(H, W): where at least one structure's decision is not certified."""
        return np.asarray((self.decisions == ABSTAIN).any(axis=0))

    @property
    def abstain_fraction(self) -> float:
        """Share of grid pixels at which at least one structure's decision is not certified."""
        return float(self.abstain.mean())

    def analysed(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """What of a map of the image, (…, rows, columns), lies in the part that was looked at; a view."""
        return array if self.crop is None else self.crop.of(array)

    def on_image(self, part: NDArray[Scalar], *, rows: int, columns: int, outside: int) -> NDArray[Scalar]:
        """A map of that part on the image, with the value `outside` where nothing was looked at."""
        return part if self.crop is None else self.crop.around(part, rows=rows, columns=columns, outside=outside)

    def area(self, structure: int) -> IntervalCount:
        """Bounds of the structure's area in the smoothed segmentation, in grid pixels."""
        plane = self.decisions[structure]
        return IntervalCount(int((plane == PRESENT).sum()), int((plane != ABSENT).sum()))
