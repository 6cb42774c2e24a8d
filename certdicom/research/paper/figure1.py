"""Figure 1 of the paper: noisy input, reference, SegCertify and ours, a line a noise level; white is abstained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from certdicom.certification.certificate import PRESENT
from certdicom.certification.noise import noisy_image
from certdicom.certification.parameters import SmoothingParameters
from certdicom.errors import UsageError
from certdicom.models.backends.base import Backend
from certdicom.models.bundle import Bundle
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.splits import select
from certdicom.research.datasets.structures import match
from certdicom.research.evaluation.figures import PanelRow, paint, panel_figure, photograph
from certdicom.research.evaluation.models import ONE_SHOT, SEGCERTIFY, Candidate, base_segmenter
from certdicom.research.evaluation.protocol import SIGMAS, noise_grid_of
from certdicom.research.evaluation.run import certified_outcomes
from certdicom.research.paper.inventory import Missing, find_bundle, find_dataset, how_to_make, other_bundles
from certdicom.research.paper.paper import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = "jsrt"
MODEL = "ResUNet++"
"""The network of the paper's figure; for ours the best there is stands in when it is missing."""

COLUMNS = ("noisy input", "reference", "SegCertify", "ours")


@dataclass(frozen=True)
class FigureInventory:
    """What Figure 1 is drawn of: a film of a data set, a model for each method that has one, and what is missing."""

    dataset: Dataset
    sample: Sample
    shown: Mapping[str, Candidate]
    missing: tuple[Missing, ...]


def take_stock_of_figure1(*, data: Path, bundles: Sequence[Bundle], split: str, image: str | None = None) -> FigureInventory:
    """Find a film of JSRT and the models.

    `image`: the film's name, the first of `split` by default. UsageError when there is no film, or no model at all.
    """
    dataset = find_dataset(data, DATA, split=split)
    if isinstance(dataset, Missing):
        raise UsageError(f"no figure without a film: {dataset}")
    columns = {method: _candidate(bundles, method) for method in (SEGCERTIFY, ONE_SHOT)}
    missing = tuple(how_to_make(model=MODEL, method=method, data=DATA, folder=data) for method, found in columns.items() if found is None)
    shown = {method: candidate for method, candidate in columns.items() if candidate is not None}
    if not shown:
        raise UsageError(f"no figure without a model: {missing[-1]}")
    return FigureInventory(dataset, _sample(dataset, split, image), shown, missing)


def draw_figure1(
    stock: FigureInventory, *, backend: Backend, batch_size: int = 10, parameters: SmoothingParameters | None = None
) -> Figure:
    """The figure for one film of JSRT in the paper's setting; a missing model's column stays open."""
    asked = parameters or SmoothingParameters()
    rows = [_row(sigma, stock.sample, stock.dataset, stock.shown, backend, batch_size, asked) for sigma in SIGMAS["paper"]]
    names = ", ".join(f"{candidate.method}: {candidate.bundle.name}" for candidate in stock.shown.values())
    return panel_figure(COLUMNS, rows, note=f"white: abstained · {names}")


def _candidate(bundles: Sequence[Bundle], method: str) -> Candidate | None:
    found = [find_bundle(bundles, model=model, method=method, data=DATA) for model in (MODEL, *MODELS)]
    found += other_bundles(bundles, method=method, data=DATA, than=MODELS)
    return next((Candidate(bundle, method) for bundle in found if bundle is not None), None)


def _sample(dataset: Dataset, split: str, image: str | None) -> Sample:
    if image is None:
        return select(dataset, split)[0]
    found = next((sample for sample in dataset.samples if sample.name == image), None)
    if found is None:
        raise UsageError(f"{dataset.folder} has no image {image!r}; its first is {dataset.samples[0].name!r}")
    return found


def _row(
    sigma: float,
    sample: Sample,
    dataset: Dataset,
    shown: Mapping[str, Candidate],
    backend: Backend,
    batch_size: int,
    parameters: SmoothingParameters,
) -> PanelRow:
    at_sigma = replace(parameters, sigma=sigma)
    panels: dict[str, np.ndarray] = {}
    for method, candidate in shown.items():
        bundle = candidate.bundle
        frame = noise_grid_of("paper", bundle, dataset)
        labels = [structure.label for structure in bundle.structures]
        names = match(labels, dataset.structures, where=str(dataset.folder))
        view = sample.read().on_grid(frame.grid, channels=frame.channels, structures=[names.get(label, "") for label in labels])
        segmenter = base_segmenter(backend, candidate, frame, sigma=sigma)
        outcome = certified_outcomes([view.u], [segmenter], [at_sigma], names=[sample.name], batch_size=batch_size)[0][0]
        panels[method] = paint(outcome.decisions, bundle.structures)
        noisy = noisy_image(view.u, sigma, seed=sample.name.encode(), draw=0)
        panels["input"] = photograph(noisy[:1])
        panels["reference"] = paint((view.masks * PRESENT).astype(np.uint8), bundle.structures)
    order = ("input", "reference", SEGCERTIFY, ONE_SHOT)
    return PanelRow(title=f"σ = {sigma:g}", panels=tuple(panels.get(name) for name in order))
