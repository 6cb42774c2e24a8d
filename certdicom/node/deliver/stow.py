"""Sending an object by STOW-RS (PS3.18 10.5), its bytes as they are."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration
from certdicom.node.deliver.https import https_client
from certdicom.node.deliver.store_status import Notes, StoreOutcome, classify, meaning
from certdicom.node.settings import Destination

_CHUNK: Final = 1024 * 1024
_FAILED, _REASON = "00081198", "00081197"
_STORED, _WARNING = "00081199", "00081196"
_LATER: Final = frozenset({401, 403, 404, 408, 425, 429})
"""Client errors that people mend on one of the two sides, or that pass: tried again like an archive that is down."""


def client(configuration: Configuration, destination: Destination) -> httpx.Client:
    """An HTTP client for a destination. UsageError when its token or its certificates cannot be read; both are read each time."""
    return https_client(
        section="destination",
        token=("stow_token_file", destination.stow_token_file),
        ca=("stow_ca", destination.stow_ca),
        timeout_s=configuration.delivery.timeout_s,
        headers={"Accept": "application/dicom+json"},
    )


def store(configuration: Configuration, destination: Destination, path: Path, notes: Notes) -> StoreOutcome:
    """Send one file; what is wrong with the way there is as temporary as an archive that is down."""
    boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
    }
    try:
        with client(configuration, destination) as http:
            sent_before = notes.begin(path)
            response = http.post(f"{destination.stow_url.rstrip('/')}/studies", content=_body(head, path, tail), headers=headers)
    except UsageError as error:
        return StoreOutcome("unreachable", str(error))
    except httpx.HTTPError as error:
        return StoreOutcome("unreachable", f"no answer: {type(error).__name__}", lost=True)
    return _classify(response, sent_before=sent_before)


def _body(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
    yield tail


def _classify(response: httpx.Response, *, sent_before: bool) -> StoreOutcome:
    code = response.status_code
    said = f"HTTP {code}"  # without the server's own words, which may quote what it was sent
    if code in (200, 202, 409):
        # 200: stored, perhaps with warnings; 202 and 409: some, here all, failed. What it says of the instance counts.
        failed, stored = (_statuses(response, *keys) for keys in ((_FAILED, _REASON), (_STORED, _WARNING)))
        if failed:
            return classify(failed[0], sent_before=sent_before) if failed[0] else StoreOutcome("refused", f"{said}, without a reason")
        if code != 409 and stored:
            return StoreOutcome("stored", f"warning: status 0x{stored[0]:04X}, {meaning(stored[0])}" if stored[0] else "")
        return StoreOutcome("refused", f"{said}, and it does not say what became of the instance")
    if code in _LATER or code >= 500:
        return StoreOutcome("unreachable", said)
    return StoreOutcome("refused", said)


def _statuses(response: httpx.Response, sequence: str, status: str) -> list[int]:
    """Of each instance in a sequence of the answer (DICOM JSON) its status, 0 when it has none; empty when it lists none."""
    try:
        answer: Any = response.json()
        items = (answer[0] if isinstance(answer, list) else answer).get(sequence, {}).get("Value", [])
        return [int((item.get(status, {}).get("Value") or [0])[0]) for item in items]
    except (ValueError, AttributeError, IndexError, TypeError):
        return []
