"""SegCertify with Holm's correction (Fischer et al., ICML 2021, Algorithm 2; Laousy et al., MICCAI 2023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.noise import noisy_batch
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import holm_reject, require_attainable
from certdicom.errors import UsageError

Decide = Callable[[Tensor], Tensor]
"""A base segmenter: noisy images (B, channels, H, W) float32 → bool (B, structures, H, W). One fixed function."""

Progress = Callable[[int, int], None]
"""Called with (draws done, draws in all) after every batch."""


@dataclass(frozen=True, eq=False)
class GridResult:
    """`decisions` uint8 (structures, H, W) of 0 absent, 1 present, 2 abstain; `counts` int32 of that shape, votes among n
    for the selected decision; `selected` bool, the decision that n0 draws selected."""

    decisions: NDArray[np.uint8]
    counts: NDArray[np.int32]
    selected: NDArray[np.bool_]


def certify_grid(
    u: NDArray[np.float32] | Tensor,
    decide: Decide,
    parameters: SmoothingParameters,
    *,
    seed: bytes,
    batch_size: int = 16,
    structures: int | None = None,
    after_selection: Callable[[NDArray[np.bool_]], None] | None = None,
    progress: Progress | None = None,
) -> GridResult:
    """Certify every decision that `decide` takes on `u` with noise of `parameters.sigma`.

    `u`: (channels, H, W) float32; `seed`: secret bytes, see `noise.derive_seed`; every batch has exactly
    `batch_size` images (the last is filled up and the surplus dropped), so that `decide` runs the same kernels in every
    draw. `after_selection` sees the selected decisions, bool (structures, H, W), before the long count and may raise.
    UsageError for parameters under which nothing can be certified: before the first draw when `structures` is given,
    otherwise after the first batch.
    """
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, not {batch_size}")
    image = torch.as_tensor(u)
    if image.dtype != torch.float32 or image.ndim != 3:
        raise UsageError(f"u must be float32 of shape (channels, H, W), not {image.dtype} of shape {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise UsageError("u holds values that are not finite")

    def attainable(structures: int) -> None:
        hypotheses = structures * image.shape[-2] * image.shape[-1]
        require_attainable(n=parameters.n, hypotheses=hypotheses, tau=parameters.tau, alpha=parameters.alpha)

    if structures is not None:
        attainable(structures)
    total = parameters.n0 + parameters.n

    def votes(draws: range) -> Tensor:
        """How often `decide` said "present" among `draws`: int32 (structures, H, W)."""
        count: Tensor | None = None
        for first in range(draws.start, draws.stop, batch_size):
            wanted = min(batch_size, draws.stop - first)
            batch = noisy_batch(image, parameters.sigma, seed=seed, draws=range(first, first + wanted))
            filled = torch.cat([batch, batch[:1].expand(batch_size - wanted, -1, -1, -1)]) if wanted < batch_size else batch
            decisions = decide(filled)
            if decisions.dtype != torch.bool or decisions.ndim != 4 or len(decisions) != batch_size:
                raise UsageError(f"decide must return bool (B, structures, H, W), not {decisions.dtype} {tuple(decisions.shape)}")
            summed = decisions[:wanted].sum(0, dtype=torch.int32)
            if count is None:
                attainable(len(summed))
            count = summed if count is None else count + summed
            if progress is not None:
                progress(first + wanted, total)
        assert count is not None
        return count

    selected = 2 * votes(range(parameters.n0)) > parameters.n0  # a tie goes to "absent"
    chosen = selected.cpu().numpy()
    if after_selection is not None:
        after_selection(chosen)
    present = votes(range(parameters.n0, total))
    counts = torch.where(selected, present, parameters.n - present).cpu().numpy()
    certified = holm_reject(counts, n=parameters.n, tau=parameters.tau, alpha=parameters.alpha)
    decisions = np.where(certified, np.where(chosen, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)
    return GridResult(decisions=decisions, counts=counts, selected=chosen)
