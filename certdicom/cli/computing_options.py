"""Options on how to compute, for all commands that run networks."""

from __future__ import annotations

import argparse
from typing import Any


def add_computing_options(parser: Any) -> None:
    """`--backend`, `--device`, `--precision`. `parser`: a parser, or a group of its options."""
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="auto|openvino|torch",
        help="what runs the networks; auto: PyTorch on a GPU, OpenVINO on a processor (default %(default)s)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="auto|cpu|cuda[:i]",
        help="where to compute; cuda:0,cuda:1 or cuda:all: GPUs of one kind that share the draws of each image (default %(default)s)",
    )
    parser.add_argument(
        "--precision",
        default="auto",
        metavar="auto|float32|bfloat16|float16",
        help="arithmetic of the networks; auto: float32 on a processor (default %(default)s)",
    )


def computing_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """What those options said, as fields of `Computation` and arguments of `choose_backend`."""
    return {"backend": arguments.backend, "device": arguments.device, "precision": arguments.precision}
