"""An HTTP client with a bearer token and certificates from files, which are read each time: renew them in place."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx

from certdicom.errors import UsageError


def https_client(
    *, section: str, token: tuple[str, str], ca: tuple[str, str], timeout_s: float, headers: Mapping[str, str]
) -> httpx.Client:
    """TLS 1.2 or later, no redirections. `token`, `ca`: name of a setting of `section` and its value, a file or "".

    UsageError when one of the files cannot be read.
    """
    sent = dict(headers)
    (token_name, token_file), (ca_name, ca_file) = token, ca
    if token_file:
        try:
            sent["Authorization"] = f"Bearer {Path(token_file).expanduser().read_text(encoding='ascii').strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{section}.{token_name} {token_file} cannot be read: {type(error).__name__}") from error
    try:
        context = ssl.create_default_context(cafile=str(Path(ca_file).expanduser()) if ca_file else None)
    except OSError as error:
        raise UsageError(f"{section}.{ca_name} {ca_file} cannot be read: {error.strerror or error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return httpx.Client(headers=sent, verify=context, timeout=timeout_s, follow_redirects=False)
