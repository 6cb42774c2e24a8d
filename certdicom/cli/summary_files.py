"""How a run over several films went, as files for a table program and for programs: NAME.csv and NAME.json."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certdicom.cli.film_work import Outcome
from certdicom.files import write_together
from certdicom.version import RESEARCH_USE, VERSION

if TYPE_CHECKING:
    from certdicom.pipeline import Certifier

_SECONDS_BETWEEN = 5.0
"""A run that is killed loses no more of its summary than this."""

_SHARES = {"present": "certified_present_px", "absent": "certified_absent_px", "abstained": "abstain_px"}


class SummaryFiles:
    """One entry a film, written again every few seconds and at the end.

    `stem`: the files' path without its ending. Entries of an earlier run stay for the films that this one leaves out.
    """

    def __init__(self, stem: Path, certifier: Certifier) -> None:
        self.places = (stem.with_name(stem.name + ".csv"), stem.with_name(stem.name + ".json"))
        self._certifier = certifier
        self._entries: list[dict[str, Any]] = []
        self._written = time.monotonic()

    def keep(self, outcomes: Iterable[Outcome]) -> None:
        """Take over what an earlier run said of these films."""
        earlier = {entry["film"]: entry for entry in _entries_in(self.places[1])}
        self._entries += [earlier.get(str(outcome.film), _entry(outcome)) for outcome in outcomes]

    def add(self, outcome: Outcome) -> None:
        """One film more."""
        self._entries.append(_entry(outcome))
        if time.monotonic() - self._written > _SECONDS_BETWEEN:
            self.write()

    def write(self) -> None:
        """Both files as of now, in the place of the last ones."""
        labels = [structure.label for structure in self._certifier.bundle.structures]
        content = {
            "software": {"name": "certdicom", "version": VERSION, "notice": RESEARCH_USE},
            "bundle": {"name": self._certifier.bundle.name, "sha256": self._certifier.bundle.sha256},
            "parameters": self._certifier.parameters.as_dict(),
            "films": self._entries,
        }
        self.places[0].parent.mkdir(parents=True, exist_ok=True)
        table, fields = self.places
        write_together({table: _csv(self._entries, labels), fields: (json.dumps(content, indent=2) + "\n").encode()}, force=True)
        self._written = time.monotonic()


def _entry(outcome: Outcome) -> dict[str, Any]:
    """What is kept of one film; shares are of the film's pixels."""
    entry: dict[str, Any] = {"film": str(outcome.film), "outcome": outcome.what, "reason": ""}
    if outcome.report is None:
        return {**entry, "reason": outcome.detail}
    report = outcome.report
    total = report["source"]["rows"] * report["source"]["columns"]
    return {
        **entry,
        "abstained": round(report["abstain_fraction"], 6),
        "seconds": round(report["timing"]["total_s"], 3),
        "structures": {
            structure["label"]: {name: round(structure[field] / total, 6) for name, field in _SHARES.items()}
            for structure in report["structures"]
        },
    }


def _entries_in(path: Path) -> list[dict[str, Any]]:
    """The entries of an earlier run; none where there was none, or the file is another's."""
    try:
        return [entry for entry in json.loads(path.read_bytes())["films"] if isinstance(entry["film"], str)]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def _csv(entries: Iterable[dict[str, Any]], labels: list[str]) -> bytes:
    stream = io.StringIO(newline="")
    table = csv.writer(stream)
    table.writerow(["film", "outcome", "reason", "abstained", "seconds", *(f"{label} {share}" for label in labels for share in _SHARES)])
    for entry in entries:
        table.writerow(_row(entry, labels))
    return stream.getvalue().encode()


def _row(entry: dict[str, Any], labels: list[str]) -> Iterator[object]:
    yield from (entry["film"], entry["outcome"], entry["reason"], entry.get("abstained", ""), entry.get("seconds", ""))
    for label in labels:
        shares = entry.get("structures", {}).get(label, {})
        yield from (shares.get(share, "") for share in _SHARES)
