"""The file of an exported network: its program, which OpenVINO runs without PyTorch, over the very weights of the bundle.

A zip archive that holds `facts.json` (what the program was exported from), `graph.xml` (OpenVINO's intermediate representation) and
`constants.bin`. The graph's constants are addressed in the network's weight files, one after another, and in `constants.bin` behind
them: the weights lie in a bundle once, and whatever runs them runs the same ones.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from certdicom.errors import BundleError, one_line
from certdicom.models.description import SEGMENTER

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

FORMAT = 1
MADE_BY = "made_by"
"""The fact that names the versions which exported the program."""

INTEGERS = "integers"
"""The fact that names the integers in which a quantised program computes, as "int8"."""

_FACTS, _GRAPH, _CONSTANTS = "facts.json", "graph.xml", "constants.bin"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, LookupError, RuntimeError, EOFError, OverflowError)
"""What a damaged archive makes zipfile and json raise; RuntimeError is an encrypted part, one too deep, or one in an unknown method."""

_LARGEST = 1 << 30
"""Bytes that an unpacked part may have."""


@dataclass(frozen=True, eq=False, repr=False)
class Program:
    """`facts`: what it was exported from (`facts_of`), and by what; `graph`: XML; `constants`: those that no weight file holds."""

    facts: Mapping[str, Any]
    graph: bytes
    constants: bytes

    @property
    def integers(self) -> str | None:
        """The integers that a quantised program computes in, None for one in floating point."""
        return self.facts.get(INTEGERS)

    def to_bytes(self) -> bytes:
        """The archive, the same for the same content."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            parts = {
                _FACTS: json.dumps({"format": FORMAT, **self.facts}, indent=1).encode(),
                _GRAPH: self.graph,
                _CONSTANTS: self.constants,
            }
            for name, content in parts.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED, 9)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Program:
        """ValueError when it is no such archive."""
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if any(entry.file_size > _LARGEST for entry in archive.infolist()):
                    raise ValueError(f"more than {_LARGEST >> 20} MiB in one part")
                facts = json.loads(archive.read(_FACTS))
                if not isinstance(facts, dict) or facts.pop("format", None) != FORMAT:
                    raise ValueError(f"its format is not {FORMAT}")
                return cls(facts, archive.read(_GRAPH), archive.read(_CONSTANTS))
        except _UNREADABLE as error:
            raise ValueError(one_line(error)) from error


def facts_of(bundle: Bundle, role: str) -> dict[str, Any]:
    """All that a role's program depends on; a program whose facts differ was exported from another bundle."""
    specs: dict[str, Any]
    facts: dict[str, Any] = {"weights_sha256": bundle.weights_sha256[role], "image": [bundle.channels, *bundle.shape]}
    if role == SEGMENTER:
        specs = {"input": asdict(bundle.input_spec), "output": asdict(bundle.output_spec), "activation": bundle.activation}
    else:
        denoising = bundle.denoising
        specs = {"method": denoising.method, "factor": denoising.factor, "smooth": bundle.enlarges_smoothly}
        if denoising.method != "direct":
            specs["prediction"] = denoising.prediction
    return json.loads(json.dumps(facts | specs))


def read_program(bundle: Bundle, role: str) -> Program:
    """The program of one network. BundleError when it is damaged, or of something else than the bundle says."""
    try:
        program = Program.from_bytes(bundle.program(role))
    except ValueError as error:
        raise BundleError(f"the program of the {role} of bundle {bundle.name} cannot be read: {error}; export it again") from error
    expected = {**facts_of(bundle, role), INTEGERS: bundle.integers}
    different = sorted(name for name, value in expected.items() if program.facts.get(name) != value)
    if different:
        raise BundleError(
            f"the program of the {role} of bundle {bundle.name} was exported from another one, which differs in {', '.join(different)}: "
            f"export it again with certdicom bundle export {bundle.folder}"
        )
    return program
