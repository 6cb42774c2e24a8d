"""A bundle's programs in 8-bit integers, by NNCF's post-training quantisation.

What comes out is another function than the networks in floating point, and is certified as what it is; only OpenVINO runs it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from certdicom.certification.noise import noisy_image
from certdicom.errors import BundleError, UsageError
from certdicom.extras import how_to_get
from certdicom.files import write_atomically
from certdicom.models.backends.export import serialized, write_digests
from certdicom.models.backends.openvino import OpenVINOBackend, one_shot_inputs, read_graph
from certdicom.models.bundle import Bundle
from certdicom.models.description import DENOISER, SEGMENTER, program_file
from certdicom.models.program import INTEGERS, Program, read_program

INT8 = "int8"
LEVELS = (0.05, 0.6)
"""Noise on the denoiser's grid under which activations are measured, log-uniform in between and within the bundle's range."""


def quantise_bundle(bundle: Bundle, images: Sequence[NDArray[np.float32]]) -> None:
    """Replace the programs of a bundle by ones that compute in int8, with activations measured on `images` (channels, H, W) under noise.

    The first and the last convolution of each network stay in float32. UsageError without NNCF, or for a way of denoising other than
    one-shot; BundleError when a network has no program.
    """
    nncf = _nncf()
    if bundle.denoising.method != "one-shot":
        raise UsageError(f"int8 is made for one-shot denoising, and bundle {bundle.name} has {bundle.denoising.method}: leave --int8 out")
    if not bundle.has_programs:
        raise BundleError(f"bundle {bundle.name} has networks without a program, which cannot be quantised")
    noisy = _noisy(bundle, images)
    backend = OpenVINOBackend()
    clean = [backend.denoised(bundle, sigma, image[np.newaxis]) for sigma, image in noisy]
    asked = {
        DENOISER: [_inputs(bundle, sigma, image) for sigma, image in noisy],
        SEGMENTER: [{"image": image} for image in clean],
    }
    digests = {}
    for role, samples in asked.items():
        content = _quantised(nncf, bundle, role, samples).to_bytes()
        write_atomically(bundle.folder / program_file(role), content, force=True)
        digests[role] = hashlib.sha256(content).hexdigest()
    write_digests(bundle.folder, digests, integers=INT8)


def _quantised(nncf: Any, bundle: Bundle, role: str, samples: Sequence[dict[str, NDArray[Any]]]) -> Program:
    program, weights = read_program(bundle, role), bundle.weights(role)
    graph = read_graph(openvino.Core(), program, weights)
    convolutions = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"]
    quantised = nncf.quantize(
        graph,
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(names=[convolutions[0], convolutions[-1]], types=["MatMul"], validate=False),
    )
    return Program({**program.facts, INTEGERS: INT8}, *serialized(quantised, weights))


def _noisy(bundle: Bundle, images: Sequence[NDArray[np.float32]]) -> list[tuple[float, NDArray[np.float32]]]:
    """Each image with noise of another level, and the level."""
    low, high = (bundle.denoising.factor * level for level in LEVELS)
    low, high = max(low, bundle.sigma_range[0]), min(high, bundle.sigma_range[1])
    shares = (np.arange(len(images)) + 0.5) / len(images)
    sigmas = [float(low * (high / low) ** share) for share in shares]
    return [
        (sigma, noisy_image(u, sigma, seed=b"quantisation", draw=number))
        for number, (u, sigma) in enumerate(zip(images, sigmas, strict=True))
    ]


def _inputs(bundle: Bundle, sigma: float, image: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    others = {name: np.array([value], np.int64 if name == "t" else np.float32) for name, value in one_shot_inputs(bundle, sigma).items()}
    return {"image": image[np.newaxis], **others}


def _nncf() -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # it reports its use to its makers otherwise, and nothing here calls anybody
    try:
        import nncf
    except ModuleNotFoundError as error:
        raise UsageError(f"--int8 needs NNCF: {how_to_get('nncf')}") from error
    return nncf
