"""An attack on a certificate, from the stored values on: the largest allowed change of a film that works against its certified decisions.

Gradients go through segmenter and denoiser under noise, through the window (a displayed one keeps its two moments, so that what they take
off is projected out) and back through the averaging to the stored values. The change is cut to whole numbers inside the L2 ball of the
certified radius, times a factor that a control may choose above 1. A certificate that holds is never turned round by it; the control says
whether the attack could have done so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.window import WindowRule
from certdicom.errors import UsageError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.image import Radiograph
from certdicom.imaging.resampling import box_matrix
from certdicom.models.backends.denoisers import clean_image
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import Bundle
from certdicom.models.description import DENOISER, SEGMENTER
from certdicom.outputs.result import Result

_WEAKEST = 0.05
"""The share of the certified decisions that is aimed at: those with the fewest votes."""


@dataclass(frozen=True)
class Outcome:
    """Decisions of both certificates, in grid pixels: turned round, silenced (certified, then abstained), and certified in the first."""

    flipped: int
    silenced: int
    certified: int


def compare(before: Result, after: Result) -> Outcome:
    """What became of the first result's certified decisions in the second."""
    first, second = before.certificate.decisions, after.certificate.decisions
    certified = first != ABSTAIN
    return Outcome(
        flipped=int((certified & (second != ABSTAIN) & (second != first)).sum()),
        silenced=int((certified & (second == ABSTAIN)).sum()),
        certified=int(certified.sum()),
    )


class Attack:
    """On the films of a one-shot bundle at one noise level."""

    def __init__(self, bundle: Bundle, *, sigma: float) -> None:
        """UsageError for a bundle of another kind."""
        if bundle.denoising.method != "one-shot" or bundle.denoising.factor != 1 or bundle.activation != "sigmoid":
            raise UsageError(f"bundle {bundle.name} cannot be attacked here: a one-shot bundle on its own grid can")
        self._bundle, self._sigma = bundle, sigma
        self._denoiser, self._segmenter = (load_network(bundle, role).requires_grad_(False) for role in (DENOISER, SEGMENTER))
        self._time = bundle.schedule.time_step(sigma)
        self._alpha_bar = float(bundle.schedule.alpha_bars()[self._time])
        self._thresholds = torch.tensor(bundle.threshold(sigma))[:, None, None]

    def changed(
        self, film: Radiograph, result: Result, *, times: float = 1.0, steps: int = 20, draws: int = 2, seed: int = 0
    ) -> NDArray[np.int32]:
        """Stored values within `times` the native radius of the film's, which work against its weakest certified decisions."""
        certificate = result.certificate
        window = certificate.window
        rule = WindowRule("displayed", moments=self._bundle.window.moments) if window.displayed else self._bundle.window
        left, right = (box_matrix(size, side) for size, side in zip((film.rows, film.columns), self._bundle.shape, strict=True))
        levels = film.presentation.levels
        if levels.table is not None or certificate.crop is not None:
            raise UsageError("films whose values go through a table, and parts of films, are not attacked here")
        against = self._against(result)
        reach = times * certificate.native_radius * (1 - 1e-9)
        largest = (1 << int(film.dataset.BitsStored)) - 1
        noise = np.random.default_rng(seed)
        change = np.zeros(film.stored_values.shape)
        whole = film.stored_values
        for _ in range(steps):
            image = to_grid(Radiograph(film.dataset, whole, film.presentation, ""), self._bundle.shape, rule)
            slope = self._slope(image.u[0], against, noise.normal(size=(draws, *image.u.shape)))
            slope = through_window(slope, image.u[0], displayed=window.displayed)
            direction = left.T @ (-slope if levels.inverted else slope) @ right
            if levels.hidden is not None:
                direction[levels.hidden] = 0
            change += 0.3 * reach * direction / max(float(np.linalg.norm(direction)), 1e-30)
            change *= min(1.0, reach / float(np.linalg.norm(change)))
            whole = np.clip(film.stored_values + np.trunc(change).astype(np.int32), 0, largest).astype(np.int32)
        return whole

    def _against(self, result: Result) -> Tensor:
        """(structures, H, W): +1 where "absent" is to become present, -1 where "present" is to vanish, 0 elsewhere."""
        decisions, counts = result.certificate.decisions, result.certificate.counts
        certified = decisions != ABSTAIN
        fewest = np.quantile(counts[certified], _WEAKEST)
        aimed = certified & (counts <= max(fewest, counts[certified].min()))
        return torch.from_numpy(np.where(aimed & (decisions == ABSENT), 1.0, np.where(aimed & (decisions == PRESENT), -1.0, 0.0)))

    def _slope(self, u: NDArray[np.float64], against: Tensor, noise: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient at u of how far the decisions are on their way to the opposite, on average over the draws."""
        image = torch.from_numpy(u.astype(np.float32))[None, None].requires_grad_(True)  # torch's own signature
        noisy = image + self._sigma * torch.from_numpy(noise.astype(np.float32))
        x_t = self._alpha_bar**0.5 * (2 * noisy - 1)
        predicted = self._denoiser(x_t, torch.full((len(x_t),), self._time))
        prediction = self._bundle.denoising.prediction
        clean = clean_image(
            x_t, predicted, root_alpha_bar=self._alpha_bar**0.5, root_rest=(1 - self._alpha_bar) ** 0.5, prediction=prediction
        )
        margins = self._segmenter((clean + 1) / 2) - self._thresholds
        (torch.tanh(margins / 4) * against.float()).sum().backward()
        if image.grad is None:
            raise RuntimeError("no gradient came back")
        return image.grad[0, 0].double().numpy()


def through_window(slope: NDArray[np.float64], u: NDArray[np.float64], *, displayed: bool) -> NDArray[np.float64]:
    """From the slope at u to that at the averages, but for the width: clipped cells move nothing, and moments that are kept take theirs."""
    inside = (u > 0) & (u < 1)
    moved = np.where(inside, slope, 0.0)
    if displayed:
        basis = np.stack([inside.ravel().astype(float), np.where(inside, u, 0.0).ravel()], axis=1)
        moved = moved - (basis @ np.linalg.lstsq(basis, moved.ravel(), rcond=None)[0]).reshape(u.shape)
    return moved
