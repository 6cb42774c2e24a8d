"""SegCertify with Holm's correction (Fischer et al., ICML 2021, Algorithm 2; Laousy et al., MICCAI 2023).

Beyond it, where asked for: several looks, unions of structures, k - 1 wrong certificates allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.looks import LookByLook, require_certifiable
from certdicom.certification.noise import noisy_batch
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.unions import UnionLayer
from certdicom.errors import UsageError

Decide = Callable[[Tensor], Tensor]
"""A base segmenter: noisy images (B, channels, H, W) float32 → bool (B, structures, H, W). One fixed function."""

Progress = Callable[[int, int], None]
"""Called with (draws done, draws in all) after every batch."""


@dataclass(frozen=True, eq=False)
class GridResult:
    """What was decided at every structure and pixel, arrays of shape (structures, H, W).

    `decisions` uint8 of 0 absent, 1 present, 2 abstain; `counts` int32, votes among `draws` for the selected decision;
    `selected` bool, the decision that n0 draws selected; `draws`: n, or the look at which the test stopped; `unions`: the same
    about the unions of structures that the parameters name, None where they name none.
    """

    decisions: NDArray[np.uint8]
    counts: NDArray[np.int32]
    selected: NDArray[np.bool_]
    draws: int
    unions: UnionLayer | None = None


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
    It stops at a look after which too little abstains to go on, or no further look could certify anything.
    UsageError for parameters under which nothing can be certified: before the first draw when `structures` is given,
    otherwise after the first batch.
    """
    image = _checked_image(u)
    vote = _Voting(image, decide, parameters, seed=seed, batch_size=batch_size, progress=progress)
    if structures is not None:
        vote.require_certifiable(structures)
    selected = 2 * vote.count_present(range(parameters.n0)) > parameters.n0  # a tie goes to "absent"
    chosen = selected.cpu().numpy()
    leaves = len(chosen) - len(parameters.unions)  # unions come last
    if after_selection is not None:
        after_selection(chosen[:leaves])
    present, test = torch.zeros_like(selected, dtype=torch.int32), LookByLook(parameters, structures=leaves)
    for draws in parameters.planned_looks:
        present += vote.count_present(range(parameters.n0 + test.draws, parameters.n0 + draws))
        if test.look(torch.where(selected, present, draws - present).cpu().numpy(), n=draws):
            break
    decisions = decisions_of(chosen, test.certified)
    unions = UnionLayer(parameters.unions, decisions[leaves:], test.counts[leaves:]) if parameters.unions else None
    return GridResult(decisions=decisions[:leaves], counts=test.counts[:leaves], selected=chosen[:leaves], draws=test.draws, unions=unions)


def decisions_of(selected: NDArray[np.bool_], certified: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The selected decisions where they are certified, ABSTAIN elsewhere."""
    return np.where(certified, np.where(selected, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)


def with_unions(decisions: Tensor, unions: tuple[tuple[int, ...], ...]) -> Tensor:
    """Decisions (B, structures, H, W) and, after them, whether any member of each union is present. UsageError for unknown members."""
    if not unions:
        return decisions
    unknown = [index for members in unions for index in members if index >= decisions.shape[1]]
    if unknown:
        raise UsageError(f"unions must name structures 0 … {decisions.shape[1] - 1}, not {unknown[0]}")
    return torch.cat([decisions, *(decisions[:, list(members)].any(1, keepdim=True) for members in unions)], 1)


def _checked_image(u: NDArray[np.float32] | Tensor) -> Tensor:
    image = torch.as_tensor(u)
    if image.dtype != torch.float32 or image.ndim != 3:
        raise UsageError(f"u must be float32 of shape (channels, H, W), not {image.dtype} of shape {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise UsageError("u holds values that are not finite")
    return image


class _Voting:
    """Runs the base segmenter on keyed draws and keeps running counts on its device."""

    def __init__(
        self, image: Tensor, decide: Decide, parameters: SmoothingParameters, *, seed: bytes, batch_size: int, progress: Progress | None
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch size must be at least 1, not {batch_size}")
        self._image = image
        self._decide = decide
        self._parameters = parameters
        self._seed = seed
        self._batch_size = batch_size
        self._progress = progress

    def require_certifiable(self, structures: int) -> None:
        require_certifiable(self._parameters, structures=structures, cells=self._image.shape[-2] * self._image.shape[-1])

    def count_present(self, draws: range) -> Tensor:
        """How often the base segmenter said "present" among `draws`: int32 (structures + unions, H, W), unions last."""
        batches = [draws[first : first + self._batch_size] for first in range(0, len(draws), self._batch_size)]
        count = self._run(batches[0])
        self.require_certifiable(len(count) - len(self._parameters.unions))
        for batch in batches[1:]:
            count += self._run(batch)
        return count

    def _run(self, draws: range) -> Tensor:
        noisy = noisy_batch(self._image, self._parameters.sigma, seed=self._seed, draws=draws)
        surplus = self._batch_size - len(draws)
        if surplus:
            noisy = torch.cat([noisy, noisy[:1].expand(surplus, -1, -1, -1)])
        decisions = self._decide(noisy)
        if decisions.dtype != torch.bool or decisions.ndim != 4 or len(decisions) != self._batch_size:
            raise UsageError(f"decide must return bool (B, structures, H, W), not {decisions.dtype} {tuple(decisions.shape)}")
        if self._progress is not None:
            self._progress(draws.stop, self._parameters.n0 + self._parameters.n)
        return with_unions(decisions[: len(draws)], self._parameters.unions).sum(0, dtype=torch.int32)
