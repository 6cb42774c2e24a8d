"""Who may see the page: everybody on this machine, or who has the token.

Without a token the page answers only to loopback names, so that no website can reach it through a visitor's browser by a name
of its own (DNS rebinding). A button works only from the page itself.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration, is_loopback

COOKIE: Final = "certdicom"
_SHORTEST_TOKEN: Final = 16


def read_token(configuration: Configuration) -> str | None:
    """The token that opens the page; None when none is asked for. UsageError when the file is missing or the token too short."""
    if not configuration.web.token_file:
        return None
    path = Path(configuration.web.token_file).expanduser()
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"web.token_file {path} cannot be read: {getattr(error, 'strerror', None) or 'it is not ASCII'}") from error
    if len(token) < _SHORTEST_TOKEN:
        raise UsageError(f"the token in {path} has {len(token)} characters; make one of at least {_SHORTEST_TOKEN}: openssl rand -hex 32")
    return token


def cookie_value(token: str) -> str:
    """What the browser keeps instead of the token."""
    return hmac.new(token.encode(), b"certdicom page", hashlib.sha256).hexdigest()


def admitted(request: Request, token: str | None) -> bool:
    """Whether the request may see the page: by the token as a bearer or by the cookie; without a token, on loopback."""
    if token is None:
        return is_loopback(request.url.hostname or "")
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return True
    return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), cookie_value(token).encode())


def from_the_page(request: Request) -> bool:
    """Whether a form was sent from this page and not from elsewhere."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
