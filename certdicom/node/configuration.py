"""The node's configuration: defaults, then the TOML file, then the environment, checked once at the start."""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from certdicom.certification.crop import Crop
from certdicom.certification.options import looks_from, unions_from
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.window import Moments, WindowRule
from certdicom.errors import UsageError
from certdicom.node.settings import (
    DESTINATION_SETTINGS,
    DESTINATIONS_VARIABLE,
    SECTIONS,
    SETTINGS,
    AccessSettings,
    CertificateSettings,
    DeliverySettings,
    Destination,
    JobsSettings,
    LimitsSettings,
    LogSettings,
    NodeSettings,
    NotifySettings,
    Results,
    RulesSettings,
    Section,
    Setting,
    SpoolSettings,
    TlsSettings,
    Value,
    WebSettings,
    default_state_dir,
)

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MOST_AE_TITLE = 16
_MOST_PORT = 65535
_VARIABLES: ContextVar[Mapping[str, str]] = ContextVar("variables", default=os.environ)
"""The environment that is read."""


class _Environment(PydanticBaseSettingsSource):
    """CERTDICOM_SECTION_NAME for each setting, and all destinations in one variable."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field  # all are found at once
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        variables = _VARIABLES.get()
        found: dict[str, Any] = {}
        for setting in SETTINGS:
            if setting.variable in variables:
                found.setdefault(setting.section, {})[setting.name] = _from_text(setting, variables[setting.variable])
        if DESTINATIONS_VARIABLE in variables:
            found["destination"] = _destinations_from_text(variables[DESTINATIONS_VARIABLE])
        return found


class Configuration(BaseSettings):
    """All settings, checked: `configuration.node.port`. Made by `load_configuration`."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    node: NodeSettings = NodeSettings()
    access: AccessSettings = AccessSettings()
    limits: LimitsSettings = LimitsSettings()
    rules: RulesSettings = RulesSettings()
    certificate: CertificateSettings = CertificateSettings()
    results: Results = Results()  # type: ignore[valid-type]  # made from OUTPUTS
    jobs: JobsSettings = JobsSettings()
    spool: SpoolSettings = SpoolSettings()
    delivery: DeliverySettings = DeliverySettings()
    destinations: tuple[Destination, ...] = Field(default=(), alias="destination", strict=False)
    notify: NotifySettings = NotifySettings()
    web: WebSettings = WebSettings()
    tls: TlsSettings = TlsSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return _Environment(settings_cls), init_settings

    @property
    def state_dir(self) -> Path:
        return Path(self.node.state_dir or default_state_dir()).expanduser().absolute()

    @property
    def database_url(self) -> str:
        return self.jobs.database_url or f"sqlite:///{self.state_dir / 'node.sqlite'}"

    @property
    def uses_tls(self) -> bool:
        return bool(self.tls.certificate)

    def smoothing(self, bundle: Bundle | None) -> SmoothingParameters:
        """What films are certified with; without a bundle, which knows the structures, without a fallback. UsageError for a wrong value."""
        groups = [group for group in self.certificate.fallback.split(";") if group.strip()]
        looks = looks_from(self.certificate.looks)
        return SmoothingParameters(
            sigma=self.certificate.sigma,
            tau=self.certificate.tau,
            n0=self.certificate.n0,
            n=looks[-1] if looks else self.certificate.n,
            alpha=self.certificate.alpha,
            looks=looks,
            abstain_target=self.certificate.abstain_target,
            unions=unions_from(groups, bundle.structures, bundle=bundle.name) if bundle else (),
        )

    def window_of(self, sender: str) -> str:
        """The window of films from a sender's AE title, as `WindowRule.read` takes it; "" for what the bundle says. UsageError for none."""
        return _of_sender(sender, self.certificate.sender_windows, "certificate.sender_windows") or self.certificate.window

    def crop_of(self, sender: str) -> str:
        """The part of films from a sender's AE title that is certified, as `Crop.read` takes it; "" for all of it. UsageError for none."""
        return _of_sender(sender, self.certificate.sender_crops, "certificate.sender_crops")

    def asked_of(self, sender: str) -> dict[str, str]:
        """Window and crop of films from a sender, as a job keeps them."""
        return {"window": self.window_of(sender), "crop": self.crop_of(sender)}

    def commitment_address(self, sender: str) -> str:
        """host:port at which a sender takes commitment reports; "" where nobody has said so. UsageError for another form."""
        return _of_sender(sender, self.access.commitment_addresses, "access.commitment_addresses")

    def destination(self, ae_title: str) -> Destination | None:
        return next((entry for entry in self.destinations if entry.ae_title == ae_title), None)


def _of_sender(sender: str, entries: Sequence[str], setting: str) -> str:
    """What `AE=…` entries say of a sender; "" where they say nothing. UsageError for an entry of another form."""
    said = ""
    for entry in entries:
        title, is_one, value = entry.partition("=")
        if not is_one or not title.strip() or not value.strip():
            raise UsageError(f"{setting}: {entry!r} does not name a sender's AE title, = and what is asked for its films")
        if title.strip() == sender:
            said = " ".join(value.split())
    return said


def load_configuration(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read and check the configuration. UsageError, one line, for a file that cannot be read or any wrong setting."""
    given = _read(path) if path is not None else {}
    token = _VARIABLES.set(os.environ if environment is None else environment)
    try:
        configuration = Configuration(**given)
    except ValidationError as error:
        raise UsageError(_reason(error, str(path))) from error
    finally:
        _VARIABLES.reset(token)
    _check_together(configuration)
    return configuration


def _reason(error: ValidationError, file: str) -> str:
    """The first thing that is wrong: where it was set, what it is, and what it must be."""
    first = error.errors()[0]
    section, *rest = (part for part in first["loc"] if not isinstance(part, int))
    name = str(rest[0]) if rest else ""
    head = f"[[{section}]]" if section == "destination" else f"[{section}]"
    if section not in SECTIONS or (not name and first["type"] == "model_type"):
        return f"{file}: there is no section {head}; sections are {', '.join(SECTIONS)}"
    if section == "destination" and not name:
        return f"{file}: write [[destination]], with two brackets, for each destination"
    setting = next((entry for entry in (*SETTINGS, *DESTINATION_SETTINGS) if entry.key == f"{section}.{name}"), None)
    if setting is None:
        known = list(SECTIONS[str(section)].model_fields)
        near = get_close_matches(name, known, n=1)
        return f"{file}: {head} has no setting {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}")
    place = f"the environment variable {setting.variable}" if setting.variable in _VARIABLES.get() else file
    return f"{place}: {setting.key} must be {_wanted(setting, first['type'])}, not {first['input']!r}"


def _wanted(setting: Setting, kind_of_error: str) -> str:
    """What a value must be, in words."""
    if setting.choices:
        return f"one of {', '.join(setting.choices)}"
    if kind_of_error in ("greater_than_equal", "less_than_equal"):
        return f"at least {setting.lowest:g}" if setting.highest is None else f"{setting.lowest or 0:g} to {setting.highest:g}"
    return {
        "text": "a text in quotes",
        "whole": "a whole number",
        "number": "a number",
        "flag": "true or false",
        "list": 'a list of texts, such as ["A", "B"]',
    }[setting.kind]


def print_configuration(configuration: Configuration) -> str:
    """A complete TOML file: every setting with its help and value; reading it back gives the same configuration."""
    lines: list[str] = []
    for section, model in SECTIONS.items():
        title = model.__doc__
        if section == "destination":
            lines += ["", f"# {title} In the environment: {DESTINATIONS_VARIABLE}=AE@host:port,…"]
            for destination in configuration.destinations:
                lines += _block("[[destination]]", DESTINATION_SETTINGS, destination)
            if not configuration.destinations:
                example = Destination(ae_title="ARCHIVE")
                lines += [f"# {line}" for line in _block("[[destination]]", DESTINATION_SETTINGS, example)]
            continue
        settings = tuple(setting for setting in SETTINGS if setting.section == section)
        lines += ["", f"# {title}", *_block(f"[{section}]", settings, getattr(configuration, section))]
    return "\n".join(lines[1:]) + "\n"


def _block(head: str, settings: tuple[Setting, ...], values: Section) -> list[str]:
    lines = [head]
    for setting in settings:
        choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
        variable = f" [{setting.variable}]" if setting.section != "destination" else ""
        lines += [f"# {setting.help}{choices}{variable}", f"{setting.name} = {_toml(getattr(values, setting.name))}"]
    return lines


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    # JSON strings and lists of strings are TOML as well.
    return json.dumps(value, ensure_ascii=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _from_text(setting: Setting, text: str) -> Any:
    """What an environment variable says; what does not fit stays a text, which the check then names."""
    if setting.kind == "list":
        return [entry.strip() for entry in text.split(",") if entry.strip()]
    if setting.kind == "flag":
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else text
    if setting.kind in ("whole", "number"):
        try:
            return int(text) if setting.kind == "whole" else float(text)
        except ValueError:
            return text
    return text


def _destinations_from_text(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        ae_title, _, address = entry.partition("@")
        if address.startswith(("https://", "http://")):
            found.append({"ae_title": ae_title, "stow_url": address})
            continue
        host, _, port = address.rpartition(":")
        if not ae_title or not host or not port.isdecimal() or not 1 <= int(port) <= _MOST_PORT:
            raise UsageError(f"the environment variable {DESTINATIONS_VARIABLE}: {entry!r} is neither AE@host:port nor AE@https://…")
        found.append({"ae_title": ae_title, "host": host, "port": int(port)})
    return found


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_together(configuration: Configuration) -> None:
    _check_titles(configuration)
    for entry in configuration.destinations:
        _check_stow(entry)
    for network in configuration.access.peer_addresses:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise UsageError(f"access.peer_addresses: {network!r} is neither an address nor a network such as 10.0.0.0/8") from error
    url = configuration.jobs.database_url
    if url and not url.startswith(("sqlite:///", "postgresql://")):
        raise UsageError(f"jobs.database_url must begin with sqlite:/// or postgresql://, not {url.split(':', 1)[0]!r}")
    if not is_loopback(configuration.web.host) and configuration.web.port and not configuration.web.token_file:
        raise UsageError(f"web.host {configuration.web.host} can be reached from outside: name a web.token_file, or set web.port to 0")
    tls = [key for key in ("tls.certificate", "tls.key", "tls.ca") if getattr(configuration.tls, key.partition(".")[2])]
    if 0 < len(tls) < 3:
        raise UsageError(f"TLS needs tls.certificate, tls.key and tls.ca; only {', '.join(tls)} is set")
    if not tls and any(entry.tls for entry in configuration.destinations):
        raise UsageError("a destination has tls = true, and [tls] names no certificate, key and ca")
    _check_senders(configuration)
    _check_notify(configuration)
    configuration.smoothing(None)  # says what is wrong with sigma, tau, n0, n, alpha and what goes beyond them


def _check_senders(configuration: Configuration) -> None:
    asked = (*configuration.certificate.sender_windows, *configuration.certificate.sender_crops)
    for sender in ("", *(entry.partition("=")[0].strip() for entry in asked)):
        if window := configuration.window_of(sender):
            WindowRule.read(window, Moments())  # says what is wrong with it
        if crop := configuration.crop_of(sender):
            Crop.read(crop)


def _check_notify(configuration: Configuration) -> None:
    for entry in configuration.access.commitment_addresses:
        address = configuration.commitment_address(entry.partition("=")[0].strip())
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 1 <= int(port) <= _MOST_PORT:
            raise UsageError(f"access.commitment_addresses: {entry!r} does not name a sender's AE title, = and host:port")
    url, parts = configuration.notify.url, urlsplit(configuration.notify.url)
    if not url:
        return
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UsageError(f"notify.url must be like https://monitor/certdicom, not {url!r}")
    if parts.scheme == "http" and configuration.notify.token_file and not is_loopback(parts.hostname):
        raise UsageError("notify: a token must not travel over http; give notify.url as https://")


def _check_titles(configuration: Configuration) -> None:
    titles = [entry.ae_title for entry in configuration.destinations]
    for owner, title in [("node.ae_title", configuration.node.ae_title), *(("destination.ae_title", title) for title in titles)]:
        if not title.strip() or len(title) > _MOST_AE_TITLE or not title.isascii() or not title.isprintable() or "\\" in title:
            raise UsageError(f"{owner} must be 1 to {_MOST_AE_TITLE} printable ASCII characters without a backslash, not {title!r}")
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice:
        raise UsageError(f"there are two destinations with the AE title {twice!r}; each needs its own")


def _check_stow(destination: Destination) -> None:
    title, parts = destination.ae_title, urlsplit(destination.stow_url)
    if not destination.stow_url:
        if destination.stow_token_file or destination.stow_ca:
            raise UsageError(f"destination {title}: stow_token_file and stow_ca belong to a stow_url; name that too")
        return
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UsageError(f"destination {title}: stow_url must be like https://pacs/dicom-web, not {destination.stow_url!r}")
    if parts.scheme == "http" and destination.stow_token_file and not is_loopback(parts.hostname):
        raise UsageError(f"destination {title}: a token must not travel over http; give stow_url as https://")
    if destination.storage_commitment or destination.tls:
        raise UsageError(f"destination {title}: storage_commitment and tls are for host and port; STOW-RS confirms by its answer")
