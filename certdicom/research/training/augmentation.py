"""What other machines do to an image: geometry, windows, processing, collimation and markers, light and colour.

All functions take and return batches: images (B, channels, rows, columns) float32 in [0, 1], masks (B, structures, rows, columns).
Randomness comes from torch's global generator, which the training loops seed. What they make is made on torch's default device: `augment`
makes it that of the images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from certdicom.certification.window import Moments


def _chance(batch: int, probability: float) -> Tensor:
    """One yes or no per image, shaped for broadcasting over it."""
    return torch.rand(batch, 1, 1, 1) < probability


def _uniform(batch: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(batch, 1, 1, 1)


def warp(image: Tensor, masks: Tensor, *, strength: float = 1.0, upright: bool = True) -> tuple[Tensor, Tensor]:
    """Rotation, anisotropic scale (pads, squashes and crops), shift and a smooth elastic field; 1 image in 6 is left alone.

    `upright`: as a film hangs, turned by some degrees; otherwise by any angle, as a hand-held camera sees things.
    """
    batch, _, rows, columns = image.shape
    angle = torch.randn(batch) * math.radians(8) * strength if upright else 2 * math.pi * torch.rand(batch)
    scale = torch.exp(torch.randn(batch) * 0.13 * strength)
    aspect = torch.exp(torch.randn(batch) * 0.09 * strength)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = torch.cos(angle) * scale * aspect
    theta[:, 0, 1] = -torch.sin(angle) * scale * aspect * rows / columns  # coordinates run from -1 to 1 along either side
    theta[:, 1, 0] = torch.sin(angle) * scale / aspect * columns / rows
    theta[:, 1, 1] = torch.cos(angle) * scale / aspect
    theta[:, :, 2] = torch.randn(batch, 2) * 0.07 * strength
    field = functional.affine_grid(theta, list(image.shape), align_corners=False)
    knots = torch.randn(batch, 2, 5, 5) * 0.018 * strength
    bend = functional.interpolate(knots, (rows // 8, columns // 8), mode="bicubic", align_corners=True)
    field = field + functional.interpolate(bend, (rows, columns), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    planes = torch.cat([image, masks.float()], 1)
    # The border of the frame is black, white or a smear of the film's own edge, as pads of real systems are.
    sampled = functional.grid_sample(planes, field, padding_mode="zeros", align_corners=False)
    inside = (field.abs() <= 1).all(-1)[:, None]
    smear = functional.grid_sample(image, field, padding_mode="border", align_corners=False)
    choice = torch.rand(batch, 1, 1, 1)
    outside = torch.where(choice < 0.6, torch.zeros(()), torch.where(choice < 0.75, torch.ones(()), smear))
    channels = image.shape[1]
    warped = torch.where(inside, sampled[:, :channels], outside)
    keep = _chance(batch, 1 / 6)
    return torch.where(keep, image, warped), torch.where(keep, masks.float(), (sampled[:, channels:] > 0.5).float())


def _blur(image: Tensor, size: int) -> Tensor:
    """Mean over size × size neighbours with reflected borders (`size` odd)."""
    pad = size // 2
    return functional.avg_pool2d(functional.pad(image, (pad, pad, pad, pad), mode="reflect"), size, 1)


def develop(image: Tensor, *, strength: float = 1.0, polarity_mistakes: float = 0.05) -> Tensor:
    """Windows, gamma curves, local contrast processing, haze as over bedside films, shading, blur, grain and wrong polarity."""
    batch, _, rows, columns = image.shape
    coarse = functional.avg_pool2d(image, 16)
    soft = functional.interpolate(_blur(coarse, 3), (rows, columns), mode="bilinear", align_corners=False)
    flattened = soft * _uniform(batch, 0.2, 0.9) + (image - soft) * _uniform(batch, 0.9, 1.8) + _uniform(batch, 0, 0.3)
    image = torch.where(_chance(batch, 0.25 * strength), flattened, image)
    hazy = soft + (image - soft) * _uniform(batch, 0.4, 1.0)
    image = torch.where(_chance(batch, 0.3 * strength), hazy, image)
    fine = _blur(_blur(image, 3), 3)
    image = torch.where(_chance(batch, 0.35 * strength), fine + (image - fine) * _uniform(batch, 0.0, 2.5), image)
    shade = functional.interpolate(torch.randn(batch, 1, 4, 4) * 0.10 * strength, (rows, columns), mode="bilinear", align_corners=True)
    image = torch.where(_chance(batch, 0.4 * strength), image * (1 + shade), image)
    image = image.clamp(0, 1) ** torch.exp(torch.randn(batch, 1, 1, 1) * 0.33 * strength)
    curve = torch.sigmoid((image - _uniform(batch, 0.35, 0.65)) * _uniform(batch, 3, 8))
    image = torch.where(_chance(batch, 0.15 * strength), curve, image)
    contrast = torch.exp(torch.randn(batch, 1, 1, 1) * 0.22 * strength)
    image = (image - 0.5) * contrast + 0.5 + torch.randn(batch, 1, 1, 1) * 0.07 * strength
    image = torch.where(_chance(batch, 0.2 * strength), image + torch.randn_like(image) * _uniform(batch, 0, 0.04), image)
    image = image.clamp(0, 1)
    return torch.where(_chance(batch, polarity_mistakes), 1 - image, image)


def furnish(image: Tensor, *, strength: float = 1.0) -> Tensor:
    """Collimation borders, side markers and lines (tubes, wires) painted over the film."""
    batch, _, rows, columns = image.shape
    column = ((torch.arange(columns) + 0.5) / columns).view(1, 1, 1, -1)
    row = ((torch.arange(rows) + 0.5) / rows).view(1, 1, -1, 1)
    left, right, top, bottom = (_uniform(batch, -0.06, 0.06) for _ in range(4))
    tilt = torch.randn(batch, 1, 1, 1) * 0.03
    x, y = column + tilt * (row - 0.5), row - tilt * (column - 0.5)
    open_field = (x > left) & (x < 1 - right) & (y > top) & (y < 1 - bottom)
    shutter = torch.where(_chance(batch, 0.75), torch.zeros(()), torch.ones(()))
    image = torch.where(_chance(batch, 0.3 * strength) & ~open_field, shutter, image)
    for _ in range(2):
        cx, cy = _uniform(batch, 0.03, 0.97), _uniform(batch, 0.03, 0.97)
        half_w, half_h = _uniform(batch, 0.008, 0.035), _uniform(batch, 0.008, 0.035)
        marker = ((column - cx).abs() < half_w) & ((row - cy).abs() < half_h)
        letters = (torch.rand(batch, 1, rows // 4, columns // 4) < 0.5).repeat_interleave(4, 2).repeat_interleave(4, 3)
        image = torch.where(_chance(batch, 0.2 * strength) & marker & letters, _uniform(batch, 0.8, 1.0), image)
    direction, offset = _uniform(batch, 0, math.pi), _uniform(batch, -0.4, 0.4)
    bend = _uniform(batch, -1.0, 1.0)
    across = (column - 0.5) * torch.cos(direction) + (row - 0.5) * torch.sin(direction)
    along = -(column - 0.5) * torch.sin(direction) + (row - 0.5) * torch.cos(direction)
    line = (across - offset - bend * along**2).abs() < _uniform(batch, 0.001, 0.006)
    return torch.where(_chance(batch, 0.12 * strength) & line, (image + _uniform(batch, 0.15, 0.5)).clamp(0, 1), image)


def mirror(image: Tensor, masks: Tensor, *, axis: int) -> tuple[Tensor, Tensor]:
    """Half of the images turned over along `axis` (3: left to right, 2: upside down), with their masks."""
    turned = _chance(len(image), 0.5)
    return torch.where(turned, image.flip(axis), image), torch.where(turned, masks.flip(axis), masks)


def recolour(image: Tensor, *, strength: float = 1.0) -> Tensor:
    """Light of another colour, and colours paler or stronger."""
    gray = image.mean(1, keepdim=True)
    image = gray + (image - gray) * torch.exp(torch.randn(len(image), 1, 1, 1) * 0.3 * strength)
    return (image * torch.exp(torch.randn(len(image), image.shape[1], 1, 1) * 0.12 * strength)).clamp(0, 1)


def displayed(image: Tensor, moments: Moments) -> Tensor:
    """Gray images under their displayed window, as `imaging.displayed` defines it, to about 1e-3; as they are where it has none."""
    cells = image.flatten(1)
    mean, deviation = cells.mean(1), cells.std(1).clamp(min=1e-6)
    width = deviation / moments.deviation
    lo = mean - width * moments.mean
    for step in range(_NEWTON_STEPS + 1):
        u = ((cells - lo[:, None]) / width[:, None]).clamp(0, 1)
        inside = ((u > 0) & (u < 1)).float()
        first, second = u.mean(1) - moments.mean, (u * u).mean(1) - moments.square
        if step == _NEWTON_STEPS:
            break
        # Derivatives of both moments by lo and width, times -width.
        a, b, d = inside.mean(1), (inside * u).mean(1), (inside * u * u).mean(1)
        determinant = 2 * (a * d - b * b)
        solvable = determinant > 1e-9
        determinant = torch.where(solvable, determinant, 1.0)
        to_lo, to_width = (2 * d * first - b * second) / determinant, (a * second - 2 * b * first) / determinant
        lo = lo + torch.where(solvable, width * to_lo, 0.0)
        width = width * (1 + torch.where(solvable, to_width, 0.0)).clamp(0.5, 2.0)
    found = (first.abs() < 1e-3) & (second.abs() < 1e-3)
    return torch.where(found.view(-1, 1, 1, 1), u.view_as(image), image)


_NEWTON_STEPS = 8


def header_like(image: Tensor) -> Tensor:
    """Gray images under windows such as headers have: between quantiles of the image, a little wider or narrower."""
    batch = len(image)
    cells = image.flatten(1)[:, ::16].sort(1).values
    last = cells.shape[1] - 1
    lo, hi = (
        cells.gather(1, (last * share.view(-1, 1)).round().long()).view(-1, 1, 1, 1)
        for share in (_uniform(batch, 0.0, 0.08), _uniform(batch, 0.92, 1.0))
    )
    width = ((hi - lo) * torch.exp(0.1 + 0.25 * torch.randn(batch, 1, 1, 1))).clamp(min=0.05)
    centre = (lo + hi) / 2 + 0.05 * width * torch.randn(batch, 1, 1, 1)
    return ((image - centre) / width + 0.5).clamp(0, 1)


def rewindow(image: Tensor, moments: Moments) -> Tensor:
    """A third of the films as they are, under their displayed window, and under one such as headers have."""
    kind = torch.randint(3, (len(image), 1, 1, 1))
    return torch.where(kind == 0, image, torch.where(kind == 1, displayed(image, moments), header_like(image)))


def augment(
    image: Tensor, masks: Tensor, *, strength: float = 1.0, mirrored: bool = True, moments: Moments | None = None
) -> tuple[Tensor, Tensor]:
    """What happens to a radiograph (one channel) or a photograph (three), in order; masks come back as float32 0 or 1.

    `mirrored`: turn half of the images left to right, photographs upside down as well. A mirrored chest is rare in life, but learning
    from both doubles the films. Photographs are also turned by any angle. `moments`: show radiographs under several windows in the end, the
    displayed one with these moments among them. All of it happens on the device of the images.
    """
    with image.device:
        return _augmented(image, masks, strength=strength, mirrored=mirrored, moments=moments)


def _augmented(image: Tensor, masks: Tensor, *, strength: float, mirrored: bool, moments: Moments | None) -> tuple[Tensor, Tensor]:
    photograph = image.shape[1] > 1
    image, planes = warp(image, masks, strength=strength, upright=not photograph)
    for axis in ((2, 3) if photograph else (3,)) if mirrored else ():
        image, planes = mirror(image, planes, axis=axis)
    if photograph:
        return develop(recolour(image, strength=strength), strength=strength, polarity_mistakes=0.0), planes
    developed = develop(furnish(image, strength=strength), strength=strength)
    return developed if moments is None else rewindow(developed, moments), planes
