"""What an evaluation is: candidates × images × noise levels, and what is tested of each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.options import unions_from
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.window import WindowRule
from certdicom.errors import UsageError
from certdicom.models.bundle import Bundle
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.structures import match
from certdicom.research.evaluation.models import CLEAN, Candidate
from certdicom.research.evaluation.protocol import NoiseGrid, ProtocolName, noise_grid_of
from certdicom.research.evaluation.rows import Key


@dataclass(frozen=True, eq=False)
class Plan:
    """What is evaluated: `samples` of `dataset` (its part `part`), by `candidates`, at every sigma of `sigmas`.

    `parameters`: the others of smoothing; its sigma and unions are not used. `fallback`: groups of structures ("lungs,heart"), whose
    unions are certified in the same family; `window`: by default that of the data set's files, which is the full range of their format;
    `equal_radius`: under another window, each image's noise is that which keeps the native radius that sigma has under the files' window,
    as far as the bundle's range of noise goes.
    """

    dataset: Dataset
    part: str
    samples: tuple[Sample, ...]
    candidates: tuple[Candidate, ...]
    sigmas: tuple[float, ...]
    protocol: ProtocolName = "native"
    parameters: SmoothingParameters = field(default_factory=SmoothingParameters)
    fallback: tuple[str, ...] = ()
    window: WindowRule = field(default_factory=WindowRule)
    equal_radius: bool = False

    def parameters_for(self, bundle: Bundle, *, sigma: float) -> SmoothingParameters:
        """What a bundle is asked for at one noise level. UsageError for a fallback to structures that it has not."""
        return replace(self.parameters, sigma=sigma, unions=self.unions_of(bundle))

    def unions_of(self, bundle: Bundle) -> tuple[tuple[int, ...], ...]:
        """The fallback in the bundle's structures. UsageError for one that it has not."""
        return unions_from(self.fallback, bundle.structures, bundle=bundle.name)

    def planes_of(self, bundle: Bundle) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Name and members of all that is scored: each structure, and after them each union, "lungs or heart"."""
        labels = [structure.label for structure in bundle.structures]
        unions = [(" or ".join(labels[index] for index in members), members) for members in self.unions_of(bundle)]
        return (*((label, (index,)) for index, label in enumerate(labels)), *unions)

    def noise_grid_of(self, candidate: Candidate) -> NoiseGrid:
        """Where the noise is drawn for a candidate."""
        return noise_grid_of(self.protocol, candidate.bundle, self.dataset)

    def names_of(self, bundle: Bundle) -> list[str]:
        """The data set's name of each of the bundle's structures, empty where it has no such masks. UsageError when it has none."""
        labels = [structure.label for structure in bundle.structures]
        names = match(labels, self.dataset.structures, where=str(self.dataset.folder))
        return [names.get(label, "") for label in labels]

    @property
    def beyond(self) -> list[str]:
        """What of the test goes beyond Holm at n draws, for people."""
        asked, said = self.parameters, []
        if asked.looks:
            target = f" until at most {asked.abstain_target:.3g} of the pixels abstain" if asked.abstain_target else ""
            said.append(f"looks at {', '.join(map(str, asked.looks))} draws, alpha split over them{target}")
        groups = (" or ".join(name.strip() for name in group.split(",")) for group in self.fallback)
        said += [f"fallback to {group} in the same family" for group in groups]
        return said

    @property
    def caption(self) -> str:
        """What a table of the results is of, in one line."""
        asked = self.parameters
        test = f"n0 = {asked.n0}, n = {asked.n}, alpha = {asked.alpha:g}, tau = {asked.tau:g}"
        what = f"{self.dataset.name} {self.part}, {len(self.samples)} images, protocol {self.protocol}"
        return "; ".join([what, test, *([self.shown] if self._rewindowed else []), *self.beyond])

    @property
    def shown(self) -> str:
        """The window under which gray images are shown, in words."""
        if not self._rewindowed:
            return "window of the files"
        return "displayed window" + self.equal_radius * ", at the native radius of the files' window"

    def settings(self) -> dict[str, Any]:
        """What rows in one file must have in common; images, models and noise levels may be added to them later."""
        smoothing = {name: value for name, value in asdict(self.parameters).items() if name != "sigma"}
        unions = sorted(sorted(name.strip() for name in group.split(",")) for group in self.fallback)
        asked = {**smoothing, "looks": list(self.parameters.looks), "unions": unions}
        common = {"data": self.dataset.name, "part": self.part, "protocol": self.protocol, "smoothing": asked}
        return {**common, "window": asdict(self.window), "equal_radius": self.equal_radius} if self._rewindowed else common

    @property
    def _rewindowed(self) -> bool:
        return self.window.kind == "displayed"

    def require_certifiable(self) -> None:
        """Raise UsageError, before any slow work, when something cannot be certified at all."""
        for candidate in self.candidates:
            bundle, noise_grid = candidate.bundle, self.noise_grid_of(candidate)
            self.names_of(bundle), self.unions_of(bundle)
            for sigma in self.sigmas:
                parameters = self.parameters_for(bundle, sigma=sigma)
                Hypotheses(len(bundle.structures), parameters.unions).require_certifiable(
                    parameters, cells=noise_grid.grid[0] * noise_grid.grid[1]
                )
                candidate.require_sigma(sigma, noise_grid)


@dataclass(frozen=True)
class Task:
    """One candidate at one noise level; sigma 0 is the segmenter without noise."""

    candidate: Candidate
    sigma: float

    def key(self, sample: Sample) -> Key:
        method = self.candidate.method if self.sigma else CLEAN
        return sample.name, self.candidate.bundle.sha256, method, self.sigma


def tasks_of(plan: Plan) -> list[Task]:
    """All tasks in order, each once; without noise one of each bundle, whatever the methods."""
    clean = {candidate.bundle.sha256: Task(candidate, 0.0) for candidate in plan.candidates}
    noisy = {(c.bundle.sha256, c.method, sigma): Task(c, sigma) for sigma in plan.sigmas for c in plan.candidates}
    return [*clean.values(), *noisy.values()]


def subset(samples: Sequence[Sample], count: int | None, *, seed: int | None) -> tuple[Sample, ...]:
    """`count` of the samples in their order, all for None: the first ones, or with a `seed` drawn at random.

    A larger count of the same seed holds a smaller one's, so that a run may be extended. UsageError below 1, or for a seed alone.
    """
    if count is None:
        if seed is not None:
            raise UsageError(f"--images-seed {seed} draws from the images: say how many with --images")
        return tuple(samples)
    if count < 1:
        raise UsageError(f"--images must be at least 1, not {count}")
    if seed is None:
        return tuple(samples[:count])
    order = sorted(samples, key=lambda sample: hashlib.sha256(f"subset {seed} {sample.name}".encode()).digest())
    drawn = {sample.name for sample in order[:count]}
    return tuple(sample for sample in samples if sample.name in drawn)
