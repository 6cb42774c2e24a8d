"""What a foreign program may ask of PyTorch: arithmetic on tensors, and nothing that touches files, random numbers or the process.

PyTorch itself would let a program call `aten::save` and `aten::from_file`, which write and read files, and operators of any library
that happens to be loaded.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text: a long list of names is read more easily without quotes."""
    return frozenset(text.split())


TENSOR_OPERATORS = words(
    """
    abs absolute adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d add addcdiv addcmul addmm alias all
    amax amin any arange argmax argmin avg_pool2d baddbmm batch_norm bitwise_and bitwise_not bitwise_or bmm broadcast_tensors
    broadcast_to cat ceil celu channel_shuffle chunk clamp clamp_max clamp_min clone col2im concat constant_pad_nd contiguous conv1d
    conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d _convolution convolution cos cosh cumsum detach diff div dropout
    einsum elu eq erf exp expand expand_as expm1 eye feature_dropout fill flatten flip floor floor_divide fmod full full_like gather ge
    gelu glu group_norm gt hardsigmoid hardswish hardtanh im2col index index_select instance_norm layer_norm le leaky_relu lerp
    lift_fresh lift_fresh_copy linear linspace log log10 log1p log2 log_sigmoid log_softmax logical_and logical_not logical_or
    logical_xor logit logsumexp lt masked_fill matmul max max_pool2d max_pool2d_with_indices maximum mean meshgrid min minimum mish mm
    movedim mul multiply narrow native_batch_norm _native_batch_norm_legit_no_training native_group_norm native_layer_norm ne neg
    new_full new_ones new_zeros norm ones ones_like pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal reflection_pad2d
    relu relu6 remainder repeat repeat_interleave replication_pad2d reshape roll round rsqrt rsub scalar_tensor
    scaled_dot_product_attention select selu sigmoid sign silu sin sinh slice _softmax softmax softplus softsign split split_with_sizes
    sqrt square squeeze stack std sub subtract sum swapaxes swapdims t tan tanh tensor tensor_split threshold tile to _to_copy transpose
    tril triu true_divide type_as unbind unflatten unfold unsafe_chunk unsafe_split _unsafe_view unsqueeze upsample_bicubic2d
    _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa _upsample_lanczos2d_aa upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    upsample_trilinear3d var var_mean view view_as where zeros zeros_like
    """
)
"""ATen's names without overload and without the underscore of the in-place form."""

RANDOM_IN_TRAINING = {"dropout": "train", "feature_dropout": "train"}
"""Operators that draw random numbers when this argument is true: then a network would be no fixed function."""

STATISTICS_OF_THE_BATCH = {"batch_norm": "training", "native_batch_norm": "training"}
"""Operators that take the batch's statistics, and change their own, when this argument is true."""


def is_tensor_operator(name: str) -> bool:
    """Whether ATen's operator `name` (without overload), or its in-place form, is in the list."""
    return name in TENSOR_OPERATORS or name.removesuffix("_") in TENSOR_OPERATORS
