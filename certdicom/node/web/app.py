"""The status page and the addresses for monitors. Everything shown comes from the ledger and the results' reports."""

from __future__ import annotations

import hmac
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

from jinja2 import Environment, FileSystemLoader
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from certdicom import __version__
from certdicom.certification.rounding import rounded_down
from certdicom.errors import UsageError
from certdicom.node.metrics import drifted
from certdicom.node.store.records import JOB_STATES, Step
from certdicom.node.web.access import COOKIE, admitted, cookie_value, from_the_page
from certdicom.node.wording import destination_standing, span, standing, what
from certdicom.outputs import PREVIEW, REPORT

if TYPE_CHECKING:
    from certdicom.node.web.view import RunningNode

_HERE: Final = Path(__file__).parent
_ROWS: Final = 50
_JOB_ID: Final = re.compile(r"[0-9a-f-]{36}")
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OPEN: Final = ("/healthz", "/readyz", "/login", "/style.css")


def build_app(service: RunningNode, *, token: str | None) -> Starlette:
    """The ASGI application; `token`: what opens it, None on loopback."""
    page = _Pages(service, token)
    routes = [
        Route("/", page.status),
        Route("/jobs/{job_id}", page.job),
        Route("/jobs/{job_id}/preview.png", page.preview),
        Route("/jobs/{job_id}/retry", page.retry, methods=["POST"]),
        Route("/destinations/{ae_title}/{switch}", page.switch, methods=["POST"]),
        Route("/login", page.login, methods=["GET", "POST"]),
        Route("/style.css", page.style),
        Route("/healthz", page.healthz),
        Route("/readyz", page.readyz),
        Route("/metrics", page.metrics),
    ]

    async def guard(request: Request, proceed: RequestResponseEndpoint) -> Response:
        refused = request.url.path not in _OPEN and not admitted(request, token)
        response = _refusal(token) if refused else await proceed(request)
        response.headers.update(_HEADERS)
        return response

    return Starlette(
        routes=routes, middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)], exception_handlers={SQLAlchemyError: _no_database}
    )


def _refusal(token: str | None) -> Response:
    if token is None:
        return PlainTextResponse("This page answers on this machine only. Set web.token_file to open it to others.\n", status_code=403)
    return RedirectResponse("/login", status_code=303)


async def _no_database(request: Request, error: Exception) -> Response:  # Starlette awaits it
    del request, error
    return PlainTextResponse("The database does not answer.\n", status_code=503)


def templates() -> Environment:
    """The pages' templates, with the filters that they use."""
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
    environment.filters.update(ago=ago, duration=duration, rounded_down=rounded_down, standing=standing, what=what)
    return environment


class _Pages:
    """One method for each address."""

    def __init__(self, service: RunningNode, token: str | None) -> None:
        self._service, self._token = service, token
        self._templates = templates()

    def status(self, request: Request) -> Response:
        state = request.query_params.get("state", "")
        ledger, configuration = self._service.ledger, self._service.configuration
        jobs = ledger.jobs(states=(state,) if state in JOB_STATES else (), limit=_ROWS)
        expected = configuration.certificate.expected_abstain
        return self._html(
            "status.html",
            jobs=jobs,
            steps=_by_job(ledger.steps.of([job.job_id for job in jobs])),
            counts=ledger.counts(),
            destinations=self._destinations(),
            chosen=state,
            ready=self._service.ready(),
            done_hour=ledger.finished_since(time.time() - 3600),
            done_day=ledger.finished_since(time.time() - 86400),
            free_gb=self._service.spool.free_bytes() / 1e9,
            drifting=drifted(ledger, expected=expected, drift=configuration.certificate.abstain_drift),
            port=self._service.scp.port if self._service.scp is not None and self._service.scp.listening else 0,
        )

    def job(self, request: Request) -> Response:
        job = self._find(request)
        if job is None:
            return self._html("missing.html", status=404)
        report = self._service.spool.result(job.job_id) / REPORT.file_name
        return self._html(
            "job.html",
            job=job,
            steps=self._service.ledger.steps.of([job.job_id]),
            now=self._service.ledger.clock.now(),
            report=json.loads(report.read_bytes()) if report.exists() else None,
            preview=(self._service.spool.result(job.job_id) / PREVIEW.file_name).exists(),
        )

    def preview(self, request: Request) -> Response:
        job = self._find(request)
        path = self._service.spool.result(job.job_id) / PREVIEW.file_name if job is not None else None
        if path is None or not path.exists():
            return PlainTextResponse("There is no such preview.\n", status_code=404)
        return FileResponse(path, media_type="image/png")

    def retry(self, request: Request) -> Response:
        if not from_the_page(request):
            return PlainTextResponse("This button works on the page only.\n", status_code=403)
        job_id = str(request.path_params["job_id"])
        try:
            self._service.retry(job_id)
        except UsageError as error:
            return PlainTextResponse(f"{error}\n", status_code=409)
        return RedirectResponse(f"/jobs/{job_id}", status_code=303)

    def switch(self, request: Request) -> Response:
        """Pause or resume a destination."""
        if not from_the_page(request):
            return PlainTextResponse("This button works on the page only.\n", status_code=403)
        title, switch = str(request.path_params["ae_title"]), str(request.path_params["switch"])
        destinations = self._service.ledger.destinations
        if self._service.configuration.destination(title) is None or switch not in ("pause", "resume"):
            return PlainTextResponse("There is no such destination.\n", status_code=404)
        (destinations.pause if switch == "pause" else destinations.resume)(title)
        return RedirectResponse("/", status_code=303)

    def _destinations(self) -> list[tuple[str, str, str]]:
        """Of each destination its title, how it stands, and what its button does."""
        ledger, titles = self._service.ledger, [entry.ae_title for entry in self._service.configuration.destinations]
        states, owed = ledger.destinations.states(), ledger.steps.oldest()
        paused = {title for title, state in states.items() if state.paused}
        return [(title, destination_standing(title, states.get(title), owed), "resume" if title in paused else "pause") for title in titles]

    async def login(self, request: Request) -> Response:
        if self._token is None:
            return RedirectResponse("/", status_code=303)
        if request.method == "GET":
            return self._html("login.html", wrong=False)
        given = (await request.body()).decode("utf-8", "replace").partition("token=")[2].strip()
        if not from_the_page(request) or not _same(given, self._token):
            return self._html("login.html", wrong=True, status=403)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, cookie_value(self._token), httponly=True, samesite="strict", max_age=12 * 3600)
        return response

    def style(self, request: Request) -> Response:
        del request
        return FileResponse(_HERE / "style.css", media_type="text/css")

    def healthz(self, request: Request) -> Response:
        del request
        return PlainTextResponse("ok\n")

    def readyz(self, request: Request) -> Response:
        del request
        ready = self._service.ready()
        return JSONResponse(ready, status_code=200 if all(ready.values()) else 503)

    def metrics(self, request: Request) -> Response:
        del request
        return Response(generate_latest(self._service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    def _find(self, request: Request) -> Any:
        job_id = str(request.path_params["job_id"])
        return self._service.ledger.job(job_id) if _JOB_ID.fullmatch(job_id) else None

    def _html(self, name: str, *, status: int = 200, **values: Any) -> Response:
        ae_title = self._service.configuration.node.ae_title
        text = self._templates.get_template(name).render(version=__version__, ae_title=ae_title, **values)
        return HTMLResponse(text, status_code=status)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(unquote_plus(given).strip().encode(), token.encode())


def _by_job(steps: list[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        if step.kind != "certify":
            found.setdefault(step.job_id, []).append(step)
    return found


def ago(moment: float) -> str:
    """How long ago a moment (seconds since 1970) was, in words."""
    return f"{span(time.time() - moment)} ago"


def duration(seconds: float | None) -> str:
    """A duration in seconds, as short as it is exact enough."""
    return "" if seconds is None else f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
