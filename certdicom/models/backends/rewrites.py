"""Parts of a traced graph in forms that compute the same and run faster on processors.

OpenVINO normalises groups of channels in one memory layout and convolves in another, and copies every feature map back and forth between
them; and it enlarges images before it convolves them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

_PIXELS = 4
"""Dimensions of a batch of images: (1, channels, H, W)."""

_LARGE = 1024
"""Pixels from which copies between layouts cost more than the further nodes do."""


def rewrite(graph: openvino.Model) -> openvino.Model:
    """`graph`, changed in place; what is not of the expected shape stays as it is."""
    for node in list(graph.get_ordered_ops()):
        kind = node.get_type_name()
        new = _group_normalised(node) if kind == "GroupNormalization" else _enlarged_by_convolution(node) if kind == "Convolution" else None
        if new is not None:
            node.output(0).replace(new.output(0))
    graph.validate_nodes_and_infer_types()
    return graph


def _group_normalised(node: Any) -> Any | None:
    """Group normalisation from the means of each channel and of its square, which are read in any layout: one scale and shift a channel."""
    x, scale, bias = (node.input_value(index) for index in range(3))
    shape = _shape(x)
    if shape is None or len(shape) != _PIXELS or shape[2] * shape[3] < _LARGE:
        return None
    channels, groups = shape[1], int(node.get_attributes()["num_groups"])
    grouped, single, within = _whole(1, groups, channels // groups), _whole(1, channels, 1, 1), _whole(2)

    def group_mean(values: Any) -> Any:
        of_channels = ops.reshape(ops.reduce_mean(values, _whole(2, 3), keep_dims=False), grouped, special_zero=False)
        return ops.reduce_mean(of_channels, within, keep_dims=True)

    mean = group_mean(x)
    variance = ops.subtract(group_mean(ops.multiply(x, x)), ops.multiply(mean, mean))
    positive = ops.maximum(variance, ops.constant(np.float32(0)))  # rounding may leave less where a group is flat
    root = ops.sqrt(ops.add(positive, ops.constant(np.float32(node.get_attributes()["epsilon"]))))
    factor = ops.divide(ops.reshape(scale, grouped, special_zero=False), root)
    shift = ops.subtract(ops.reshape(bias, grouped, special_zero=False), ops.multiply(mean, factor))
    scaled = ops.multiply(x, ops.reshape(factor, single, special_zero=False))
    return ops.add(scaled, ops.reshape(shift, single, special_zero=False))


def _enlarged_by_convolution(node: Any) -> Any | None:
    """A 3 × 3 convolution of repeated pixels as four 2 × 2 ones of the pixels themselves, one for each place: 16 products for 36."""
    enlarged = node.input_value(0).get_node()
    if enlarged.get_type_name() != "Interpolate" or enlarged.get_attributes()["mode"] != "nearest":
        return None
    x, kernel, attributes = enlarged.input_value(0), node.input_value(1), node.get_attributes()
    small, large, size = _shape(x), _shape(enlarged.output(0)), _shape(kernel)
    if small is None or large is None or size is None or size[2:] != [3, 3] or large[2:] != [2 * side for side in small[2:]]:
        return None
    same = attributes["pads_begin"] == attributes["pads_end"] == attributes["strides"] == attributes["dilations"] == [1, 1]
    if not same or enlarged.get_attributes()["coordinate_transformation_mode"] != "asymmetric":
        return None
    places = [
        ops.convolution(x, _folded(_folded(kernel, 2, row), 3, column), [1, 1], [1 - row, 1 - column], [row, column], [1, 1])
        for row in (0, 1)
        for column in (0, 1)
    ]
    return ops.depth_to_space(ops.concat(places, 1), "blocks_first", 2)


def _folded(kernel: Any, axis: int, place: int) -> Any:
    """Three taps along `axis` as two: those that fall on the same pixel, seen from the first or second of two repeated ones, added."""
    first, middle, last = (ops.slice(kernel, _whole(tap), _whole(tap + 1), _whole(1), _whole(axis)) for tap in range(3))
    return ops.concat([ops.add(first, middle), last] if place else [first, ops.add(middle, last)], axis)


def _shape(output: Any) -> list[int] | None:
    shape = output.get_partial_shape()
    return None if shape.is_dynamic else list(shape.to_shape())


def _whole(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))
