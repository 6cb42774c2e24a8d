"""Telling people's own systems what happened: a POST of JSON, with nothing about a patient in it."""

from __future__ import annotations

import datetime as dt

import httpx

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration
from certdicom.node.deliver.https import https_client
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
        settings = configuration.notify
        with https_client(
            section="notify",
            token=("token_file", settings.token_file),
            ca=("ca", settings.ca),
            timeout_s=settings.timeout_s,
            headers={"User-Agent": f"certdicom/{VERSION}"},
        ) as client:
            response = client.post(configuration.notify.url, json=content)
    except UsageError as error:
        return str(error)
    except httpx.HTTPError as error:
        return f"notify.url does not answer: {type(error).__name__}"
    return None if response.is_success else f"notify.url answers HTTP {response.status_code}"
