"""A node that is asked: the film goes to it by DICOM, and its results are fetched by DICOMweb from the archive to which it sends them.

A node returns results to its archive alone (docs/node.md), so that both addresses are needed. pydicom and the standard library suffice.
"""

# ruff: noqa: S310 -- the address is the user's own, and `Request` lets nothing but http and https in

from __future__ import annotations

import io
import json
import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pydicom

from .certifying import RADIUS_MAP, SEGMENTATION
from .results import PARAMETRIC_MAP_STORAGE, SEG_STORAGE

_ANSWER_S = 30
_LOOK_S = 3.0
_LABELS = {SEG_STORAGE: SEGMENTATION, PARAMETRIC_MAP_STORAGE: RADIUS_MAP}
_PROPOSALS = {
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.1.99": "-xd",
}
"""What makes storescu propose a compressed transfer syntax."""


class AskingError(Exception):
    """A node or an archive did not do what was asked of it; the message says what, in one line."""


@dataclass(frozen=True)
class Node:
    """A node and its archive. `archive`: the root of its DICOMweb service, http://…/dicom-web; `storescu`: the program of dcmtk."""

    host: str
    port: int
    archive: str
    ae_title: str = "CERTDICOM"
    calling_ae_title: str = "SLICER"
    storescu: str = "storescu"

    def __post_init__(self) -> None:
        if urllib.parse.urlsplit(self.archive).scheme not in ("http", "https"):
            raise AskingError(f"the archive's address must begin with http:// or https://, not {self.archive!r}")


@dataclass(frozen=True)
class _Film:
    path: Path
    study: str
    instance: str
    transfer_syntax: str


class Asking:
    """A film on its way; the same questions can be put to it as to a `Run`. Results lie in `folder` when `poll` says 0.

    What the archive already has of this film is taken as it is: a node certifies a film that it knows only once.
    """

    def __init__(self, node: Node, film: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._node, self._folder, self._environment = node, folder, dict(environment)
        self._film = _described(film)
        self._stop = threading.Event()
        self._code: int | None = None
        self._known: dict[str, pydicom.Dataset | None] = {}
        self.progress: tuple[int, int] | None = None
        self.problem = ""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def cancelled(self) -> bool:
        return self._stop.is_set()

    def poll(self) -> int | None:
        """0 once the results are there, 1 after a problem; None while it waits."""
        return self._code

    def cancel(self) -> None:
        """Wait no longer. What the node was sent it still certifies."""
        self._stop.set()
        self._thread.join(timeout=2 * _ANSWER_S)

    def _work(self) -> None:
        code = 1
        try:
            if not self._fetch():
                send(self._node, self._film.path, self._film.transfer_syntax, self._environment)
                while not self._stop.wait(_LOOK_S) and not self._fetch():
                    pass
            code = 1 if self._stop.is_set() else 0
        except (AskingError, OSError) as error:
            self.problem = " ".join(str(error).split())
        finally:
            self._code = code

    def _fetch(self) -> bool:
        """Store the newest SEG of the film, and the newest map, in the folder; False while there is no SEG."""
        newest: dict[str, pydicom.Dataset] = {}
        for dataset in results_of(self._node.archive, self._film.study, self._film.instance, self._known):
            name = _LABELS[str(dataset.SOPClassUID)]
            if name not in newest or _moment(dataset) > _moment(newest[name]):
                newest[name] = dataset
        if SEGMENTATION not in newest:
            return False
        for name, dataset in newest.items():
            dataset.save_as(self._folder / name)
        return True


def send(node: Node, film: Path, transfer_syntax: str, environment: Mapping[str, str]) -> None:
    """Store a film at the node. AskingError when it is not taken."""
    words = [node.storescu, "-aet", node.calling_ae_title, "-aec", node.ae_title, "-to", str(_ANSWER_S)]
    words += [_PROPOSALS[transfer_syntax]] if transfer_syntax in _PROPOSALS else []
    words += [node.host, str(node.port), str(film.absolute())]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, env=dict(environment)
        )
    except OSError as error:
        raise AskingError(f"{node.storescu} cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise AskingError(f"{node.ae_title} at {node.host}:{node.port} did not take the film: {said[-1] if said else 'no reason given'}")


def results_of(archive: str, study: str, film: str, known: dict[str, pydicom.Dataset | None]) -> list[pydicom.Dataset]:
    """The SEGs and radius maps by certdicom of one film that lie in its study; AskingError when the archive does not answer.

    `known`: what was retrieved before, by SOP Instance UID, None for what is of no concern; it is added to.
    """
    root = f"{archive.rstrip('/')}/studies/{study}"
    for entry in _listed(f"{root}/instances?includefield=00080016"):
        uid = _value(entry, "00080018")
        if uid in known or _value(entry, "00080016") not in _LABELS:
            continue
        dataset = _retrieved(f"{root}/series/{_value(entry, '0020000E')}/instances/{uid}")
        known[uid] = dataset if dataset.get("Manufacturer") == "certdicom" and film in _references(dataset) else None
    return [dataset for dataset in known.values() if dataset is not None]


def _listed(address: str) -> list[dict]:
    body, _ = _got(address, "application/dicom+json")
    return json.loads(body) if body else []


def _retrieved(address: str) -> pydicom.Dataset:
    body, kind = _got(address, 'multipart/related; type="application/dicom"')
    boundary = re.search(r'boundary="?([^";]+)', kind)
    parts = body.split(b"--" + boundary[1].encode()) if boundary else []
    if len(parts) < 2:
        raise AskingError(f"{address} is no multipart answer")
    _, _, content = parts[1].partition(b"\r\n\r\n")
    return pydicom.dcmread(io.BytesIO(content[: -len(b"\r\n")]))


def _got(address: str, accept: str) -> tuple[bytes, str]:
    request = urllib.request.Request(address, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        if error.code == 404:  # a study that has not come yet
            return b"", ""
        raise AskingError(f"the archive answers {error.code} to {address}") from error
    except OSError as error:
        root = address.partition("/studies")[0]
        raise AskingError(f"the archive at {root} does not answer: {getattr(error, 'reason', error)}") from error


def _described(film: Path) -> _Film:
    try:
        header = pydicom.dcmread(film, stop_before_pixels=True)
        return _Film(film, str(header.StudyInstanceUID), str(header.SOPInstanceUID), str(header.file_meta.TransferSyntaxUID))
    except (OSError, AttributeError, pydicom.errors.InvalidDicomError) as error:
        raise AskingError(f"{film.name} is no complete DICOM file") from error


def _references(dataset: pydicom.Dataset) -> set[str]:
    return {str(item.ReferencedSOPInstanceUID) for series in dataset.ReferencedSeriesSequence for item in series.ReferencedInstanceSequence}


def _moment(dataset: pydicom.Dataset) -> str:
    return f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"


def _value(entry: dict, tag: str) -> str:
    return str((entry.get(tag, {}).get("Value") or [""])[0])
