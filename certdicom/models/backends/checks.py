"""What a segmenter must be before it is asked: one fixed function that gives logits, on the bundle's grid.

Whoever declares logits and gives probabilities would have thresholds applied where they mean nothing, and a certificate of that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from certdicom.errors import BundleError, one_line
from certdicom.models.bundle import Bundle
from certdicom.models.networks.adapter import SegmenterAdapter

_SUM_TOLERANCE = 1e-3


def require_sound(bundle: Bundle, network: nn.Module) -> None:
    """BundleError, with what to do, unless the bundle's segmenter does what its description says on three images that differ much.

    `network`: as `load_network` gives it, logits out of images in [0, 1].
    """
    inner = network.network if isinstance(network, SegmenterAdapter) else network
    given: list[Tensor] = []
    hook = inner.register_forward_hook(lambda _module, _arguments, output: given.append(output))
    images = probes(bundle)
    try:
        with torch.inference_mode():
            found = [network(image) for image in [*images, images[0]]]
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"the segmenter of bundle {bundle.name} fails on its own grid: {one_line(error)[:300]}") from error
    finally:
        hook.remove()
    _require_shape(bundle, found)
    if not torch.equal(found[0], found[-1]):
        raise BundleError(f"the segmenter of bundle {bundle.name} gives different logits for the same image; save it in eval mode")
    if all(torch.equal(found[0], other) for other in found[1:]):
        raise BundleError(
            f"the segmenter of bundle {bundle.name} gives the same for every image: its weights, or its input range, are not what it was "
            "trained with"
        )
    _require_kind(bundle, torch.cat([output.flatten(2).float() for output in given], dim=2))


def probes(bundle: Bundle) -> list[Tensor]:
    """Images (1, channels, rows, columns) in [0, 1]: texture, a smooth ramp, and a flat gray."""
    shape = (1, bundle.channels, *bundle.shape)
    texture = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 1, bundle.shape[1]).expand(shape).contiguous()
    return [texture, ramp, torch.full(shape, 0.5)]


def _require_shape(bundle: Bundle, found: list[Tensor]) -> None:
    classes = len(bundle.structures) + (bundle.activation == "softmax")
    for logits in found:
        if tuple(logits.shape) != (1, classes, *bundle.shape) or not bool(torch.isfinite(logits).all()):
            raise BundleError(
                f"the segmenter of bundle {bundle.name} gives {tuple(logits.shape)}, or values that are not finite, on its own grid, and "
                f"not finite logits {(1, classes, *bundle.shape)}; correct grid, structures or output in its description"
            )


def _require_kind(bundle: Bundle, outputs: Tensor) -> None:
    """Whether the network's own outputs (1, channels, …) are the logits, or the probabilities, that its description promises."""
    within = bool((outputs >= 0).all() and (outputs <= 1).all())
    if bundle.output_spec.kind == "probabilities":
        if not within:
            raise BundleError(
                f"the segmenter of bundle {bundle.name} gives values from {float(outputs.min()):.3g} to {float(outputs.max()):.3g}, which "
                'are no probabilities: remove {"output": {"kind": "probabilities"}} from its description'
            )
        return
    spread = float(outputs.max() - outputs.min())
    sums_to_one = outputs.shape[1] > 1 and bool(((outputs.sum(1) - 1).abs() < _SUM_TOLERANCE).all())
    if within and (spread > 0 or sums_to_one):
        raise BundleError(
            f"the segmenter of bundle {bundle.name} gives values between 0 and 1 alone, as a network does that has applied its "
            f"{'softmax' if sums_to_one else 'sigmoid'} itself, and its description says logits: leave that layer out, or declare "
            '{"output": {"kind": "probabilities"}}'
        )
