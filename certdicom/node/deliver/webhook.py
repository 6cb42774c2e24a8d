"""Telling people's own systems what happened: a POST of JSON, with nothing about a patient in it."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import httpx

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration
from certdicom.node.store.events import Event
from certdicom.version import VERSION


def post(configuration: Configuration, event: Event) -> str | None:
    """Post an event to `notify.url`; returns why that came to nothing, None when it was taken."""
    content = {
        "event": event.event,
        "node": configuration.node.ae_title,
        "job": event.job_id,
        "destination": event.destination,
        "code": event.code,
        "reason": event.reason,
        "time": dt.datetime.fromtimestamp(event.happened_at, dt.UTC).isoformat(timespec="seconds"),
        "id": event.event_id,
    }
    try:
        with _client(configuration) as client:
            response = client.post(configuration.notify.url, json=content)
    except UsageError as error:
        return str(error)
    except httpx.HTTPError as error:
        return f"notify.url does not answer: {type(error).__name__}"
    return None if response.is_success else f"notify.url answers HTTP {response.status_code}"


def _client(configuration: Configuration) -> httpx.Client:
    """UsageError when the token or the certificates cannot be read; both are read each time."""
    settings, headers = configuration.notify, {"User-Agent": f"certdicom/{VERSION}"}
    if settings.token_file:
        try:
            headers["Authorization"] = f"Bearer {Path(settings.token_file).expanduser().read_text(encoding='ascii').strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"notify.token_file {settings.token_file} cannot be read: {type(error).__name__}") from error
    try:
        context = ssl.create_default_context(cafile=str(Path(settings.ca).expanduser()) if settings.ca else None)
    except OSError as error:
        raise UsageError(f"notify.ca {settings.ca} cannot be read: {error.strerror or error}") from error
    return httpx.Client(headers=headers, verify=context, timeout=settings.timeout_s, follow_redirects=False)
