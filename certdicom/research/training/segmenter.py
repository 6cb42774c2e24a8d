"""Train a segmenter: on films as they are, under noise (SegCertify), or behind a denoiser, which may learn as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from certdicom.certification.schedule import LinearSchedule
from certdicom.certification.window import Moments
from certdicom.errors import UsageError
from certdicom.models.networks.adapter import coarsely
from certdicom.models.networks.coarse import block_means
from certdicom.research.training.augmentation import augment
from certdicom.research.training.data import STRUCTURES, FilmSet, join, spread
from certdicom.research.training.denoiser import MOST_SIGMA, Diffusion, to_unit, validate_denoiser

SEGMENTER = {
    "architecture": "ResidualUNet",
    "channels": 1,
    "structures": len(STRUCTURES),
    "features": [32, 64, 128, 256, 384],
    "strides": [2, 2, 2, 2],
    "residual_units": 2,
}
"""The shipped bundle's segmenter: 5 million parameters."""

_VALIDATION_SIGMAS = (0.072, 0.289, 0.5)

_RECOUNTED_IMAGES, _RECOUNTED_BATCH = 320, 16
"""On how many training images batch norms count their statistics, and how many at once: the mean over batches is taken."""


@dataclass(frozen=True)
class Denoising:
    """The denoiser that a segmenter is trained behind.

    `share` of every batch passes noise and denoiser, the rest is segmented as it is; seven in eight noise levels lie below `most_sigma`.
    The denoiser learns at every `every`th step (0: never), at half the segmenter's rate, from its own loss times `weight` and from the
    segmenter's; it stays a diffusion model.
    """

    network: nn.Module
    description: Mapping[str, Any]
    share: float = 0.75
    most_sigma: float = MOST_SIGMA
    every: int = 0
    weight: float = 10.0


class SegmenterRecipe:
    """Soft Dice plus cross-entropy on augmented films; implements `loop.Recipe`.

    `noise`: standard deviation of the Gaussian noise on [0, 1] that every film gets, as SegCertify trains; not with `denoising`. The
    augmentation's strength goes from the first to the second of `strength`. `factor`: how many times coarser the network's grid is than
    that of films, noise and denoiser, as in `models.networks.coarse.coarsely`. `recount`: recompute the averaged weights' batch-norm
    statistics over unaugmented images (Izmailov et al., UAI 2018). It matters where a few features are very large, as behind
    ResUNet++'s attention. `consistency`: weight of the disagreement between two draws of noise on one film, for half of the noised films.
    `moments`: as in `augment`. `preference` (films,): how often each is drawn, up to a factor; by default `annotated_first`.
    """

    def __init__(
        self,
        network: nn.Module,
        description: Mapping[str, Any],
        *,
        train: FilmSet,
        val: Mapping[str, FilmSet],
        batch: int = 8,
        strength: tuple[float, float] = (0.5, 0.3),
        noise: float = 0.0,
        denoising: Denoising | None = None,
        factor: int = 1,
        recount: bool = False,
        consistency: float = 0.0,
        moments: Moments | None = None,
        preference: Tensor | None = None,
    ) -> None:
        self.device = next(network.parameters()).device
        self.networks: dict[str, nn.Module] = {"segmenter": network}
        self.descriptions: dict[str, Mapping[str, Any]] = {"segmenter": description}
        self.rates = {"segmenter": 1.0}
        if denoising is not None and denoising.every:
            self.networks["denoiser"] = denoising.network
            self.descriptions["denoiser"] = denoising.description
            self.rates["denoiser"] = 0.5
        self._diffusion = Diffusion(LinearSchedule(), device=self.device)
        self._train, self._val = train.on(self.device), val
        self._preference = (annotated_first(train) if preference is None else preference).to(self.device)
        self._batch, self._strength, self._noise, self._denoising, self._factor = batch, strength, noise, denoising, factor
        self._recounts, self._consistency, self._moments = recount, consistency, moments
        noised = batch if noise else 0 if denoising is None else round(denoising.share * batch)
        self._pairs = noised // 2 if consistency else 0
        if consistency and not self._pairs:
            raise UsageError("consistency is that of two draws of noise: give --denoiser or --noise, and a batch of two images or more")

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a batch in which films with every structure annotated come more often, unless a preference was given."""
        image, masks, unsure, weights = self._drawn(progress)
        figures: dict[str, Tensor] = {}
        extra: Tensor | float = 0.0
        if (denoising := self._denoising) is None:
            image, *_ = self._seen(image, None)
        else:
            learns = denoising.every > 0 and step % denoising.every == 0
            with torch.set_grad_enabled(learns):
                image, error, denoiser_loss = self._seen(image, denoising.network, pairs=self._pairs)
            figures["error"] = error
            extra = denoising.weight * denoiser_loss if learns else 0.0
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = coarsely(self.networks["segmenter"], image, factor=self._factor)
        logits = logits.float()
        segmentation = segmentation_loss(logits, masks, weights, unsure)
        figures["segmentation"] = segmentation.detach()
        if self._pairs:
            difference = disagreement(*logits[: 2 * self._pairs].split(self._pairs))
            extra = extra + self._consistency * difference
            figures["difference"] = difference.detach()
        return segmentation + extra, figures

    def _drawn(self, progress: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A batch of augmented images, masks, unsure pixels and weights; with consistency, the first images come twice."""
        chosen = torch.multinomial(self._preference, self._batch - self._pairs, replacement=True)
        strength = (1 - progress) * self._strength[0] + progress * self._strength[1]
        films = self._train
        planes = torch.cat([films.masks[chosen], films.unsure[chosen]], 1)
        image, planes = augment(films.images[chosen], planes, strength=strength, moments=self._moments)
        image, planes, weights = (torch.cat([x[: self._pairs], x]) for x in (image, planes, films.weights[chosen]))
        masks, unsure = planes.chunk(2, 1)
        return image, masks, unsure, weights

    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Mean Dice per data set and structure, and the denoiser's errors when it learns.

        With `recount`, the segmenter's batch norms count their means and variances anew before that.
        """
        segmenter = averages["segmenter"]
        denoiser = None if self._denoising is None else averages.get("denoiser", self._denoising.network)
        if self._recounts:
            self._recount(segmenter, denoiser)
        scores: dict[str, Any] = {"val_dice": {name: self._dice(segmenter, films, denoiser) for name, films in self._val.items()}}
        if "denoiser" in averages:
            scores["val_rmse"] = validate_denoiser(averages["denoiser"], join(list(self._val.values())), self._diffusion)
        return scores

    @torch.no_grad()
    def _recount(self, segmenter: nn.Module, denoiser: nn.Module | None) -> None:
        """Let batch norms count over training images that are not augmented, under the noise that the segmenter is trained for."""
        torch.manual_seed(0)
        films = spread(self._train, _RECOUNTED_IMAGES)
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            seen = (self._seen(image.to(self.device), denoiser)[0] for image in films.images.split(_RECOUNTED_BATCH))
            update_bn((block_means(image, self._factor) for image in seen), segmenter)

    def _seen(self, image: Tensor, denoiser: nn.Module | None, *, pairs: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Images as the segmenter is trained to see them, at random noise levels; the denoiser's error and its loss, 0 without one.

        The first `pairs` images and as many that follow have the same levels.
        """
        error = loss = torch.zeros(())
        if self._noise:
            image = image + self._noise * torch.randn_like(image)
        if denoiser is not None and self._denoising is not None:
            noised = round(self._denoising.share * len(image))
            t = self._diffusion.draw_steps(noised, most_sigma=self._denoising.most_sigma)
            t[pairs : 2 * pairs] = t[:pairs]
            clean, error, loss = self._diffusion.loss(denoiser, image[:noised], t)
            image = torch.cat([to_unit(clean), image[noised:]])
        return image, error.detach(), loss

    @torch.no_grad()
    def _dice(self, segmenter: nn.Module, films: FilmSet, denoiser: nn.Module | None) -> dict[str, list[float]]:
        """On films as they are and, as the segmenter is trained for it, under noise or behind the denoiser at three levels."""
        views: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"clean": lambda image, _generator: image}
        if self._noise:
            sigma = self._noise
            views[str(sigma)] = lambda image, generator: image + sigma * torch.randn(image.shape, generator=generator).to(self.device)
        if denoiser is not None:
            for level in _VALIDATION_SIGMAS:
                views[str(level)] = lambda image, generator, level=level: self._diffusion.denoised(  # type: ignore[misc]
                    denoiser, image, sigma=level, generator=generator
                )
        scores = {}
        for name, view in views.items():
            generator = torch.Generator().manual_seed(0)
            planes = []
            for image in films.images.split(8):
                with torch.autocast(self.device.type, dtype=torch.bfloat16):
                    seen = view(image.to(self.device), generator)
                    planes.append((coarsely(segmenter, seen, factor=self._factor) > 0).cpu())
            scores[name] = mean_dice(torch.cat(planes), films.masks.bool(), films.known)
        return scores


def segmentation_loss(logits: Tensor, masks: Tensor, weights: Tensor, unsure: Tensor) -> Tensor:
    """Soft Dice plus cross-entropy, without `unsure` pixels; all (B, structures, G, G) but the `weights` (B, structures)."""
    sure = 1 - unsure
    p, masks = logits.sigmoid() * sure, masks * sure
    dice = 1 - (2 * (p * masks).sum((2, 3)) + 1) / ((p + masks).sum((2, 3)) + 1)
    entropy = (functional.binary_cross_entropy_with_logits(logits, masks, reduction="none") * sure).mean((2, 3))
    return (weights * (dice + 3 * entropy)).sum() / weights.sum()


def disagreement(one: Tensor, other: Tensor) -> Tensor:
    """One less the soft Dice of two draws' logits (B, structures, G, G), after consistency regularisation (Jeong & Shin, NeurIPS 2020)."""
    p, q = one.sigmoid(), other.sigmoid()
    return (1 - (2 * (p * q).sum((2, 3)) + 1) / ((p**2 + q**2).sum((2, 3)) + 1)).mean()


def mean_dice(decisions: Tensor, masks: Tensor, known: Tensor) -> list[float]:
    """Dice per structure averaged over the films where it is known and present; NaN where there is none."""
    overlap = 2 * (decisions & masks).sum((2, 3)).double()
    score = overlap / (decisions.sum((2, 3)) + masks.sum((2, 3))).clamp(min=1)
    return [round(float(score[known[:, c], c].mean()), 4) for c in range(masks.shape[1])]


def annotated_first(films: FilmSet) -> Tensor:
    """How often each film is drawn, up to a factor: those with every structure annotated more than others."""
    return 0.5 + films.weights.mean(1) ** 2


def drawn_by_shares(films: Sequence[FilmSet], shares: Sequence[float]) -> Tensor:
    """How often each film of the joined sets is drawn, up to a factor: each set by its share, and within it each film alike."""
    return torch.cat([torch.full((len(one),), share / len(one)) for one, share in zip(films, shares, strict=True)])
