"""From a result to files: everything is encoded, then everything is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from certdicom.errors import CertdicomError, OutputError, UsageError, one_line
from certdicom.files import write_together
from certdicom.outputs import REPORT, SEG, Output
from certdicom.outputs.result import Result


@dataclass(frozen=True)
class Encoded:
    """The contents of the files that were asked for, and what could not be made."""

    contents: Mapping[Output, bytes]
    failures: Mapping[Output, Exception]


def write_outputs(result: Result, targets: Mapping[Output, Path], *, force: bool = False) -> None:
    """Write each output to its file, or nothing at all.

    OutputError when one cannot be made, with the name of its option, or cannot be written, or exists and not `force`; UsageError for
    two with one name.
    """
    twice = [path for path in targets.values() if list(targets.values()).count(path) > 1]
    if twice:
        raise UsageError(f"two outputs would both be written to {twice[0]}; give them other names")
    encoded = encode_outputs(result, targets, names=targets)
    for output, error in encoded.failures.items():
        what = one_line(error) if isinstance(error, CertdicomError) else f"{type(error).__name__}: {one_line(error)}"
        raise OutputError(f"{output.option} cannot be made, and nothing was written: {what}; leave it out to get the rest") from error
    write_together({targets[output]: content for output, content in encoded.contents.items()}, force=force)


def encode_outputs(result: Result, outputs: Iterable[Output], *, names: Mapping[Output, Path] | None = None) -> Encoded:
    """The content of each output, in the format that its name has, the report last.

    What fails is left out and returned with its error, whatever it is, but for SEG and report, whose errors are raised: without
    them there is no result.
    """
    contents: dict[Output, bytes] = {}
    failures: dict[Output, Exception] = {}
    for output in sorted(outputs, key=lambda output: output == REPORT):
        try:
            with result.stopwatch.stage(output.name):
                contents[output] = output.encode(result, (names or {}).get(output, ""))
        except Exception as error:  # an extra never costs the segmentation
            if output in (SEG, REPORT):
                raise
            failures[output] = error
            result.omissions[output.name] = type(error).__name__
    return Encoded(contents, failures)
