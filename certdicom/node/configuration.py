"""The node's configuration: defaults, then the TOML file, then the environment, checked once at the start."""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from certdicom.certification.options import looks_from, unions_from
from certdicom.certification.parameters import SmoothingParameters
from certdicom.errors import UsageError
from certdicom.node.settings import DESTINATION_SETTINGS, DESTINATIONS_VARIABLE, SECTIONS, SETTINGS, Setting, Value, default_state_dir

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

_BY_KEY = {setting.key: setting for setting in SETTINGS}
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MOST_AE_TITLE = 16


@dataclass(frozen=True)
class Destination:
    """An archive that results are sent to, by DIMSE or, with `stow_url`, by STOW-RS; its AE title names it within the node."""

    ae_title: str
    host: str
    port: int
    storage_commitment: bool = False
    tls: bool = False
    stow_url: str = ""
    stow_token_file: str = ""
    stow_ca: str = ""


@dataclass(frozen=True, eq=False)
class Configuration:
    """All settings, checked. Values are read by key, typed: `text("node.ae_title")`, `whole("node.port")`."""

    values: Mapping[str, Value]
    destinations: tuple[Destination, ...]

    def text(self, key: str) -> str:
        return str(self.values[key])

    def whole(self, key: str) -> int:
        value = self.values[key]
        if not isinstance(value, int):
            raise TypeError(key)
        return value

    def number(self, key: str) -> float:
        value = self.values[key]
        if not isinstance(value, int | float):
            raise TypeError(key)
        return float(value)

    def flag(self, key: str) -> bool:
        return bool(self.values[key])

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values[key]
        if not isinstance(value, list):
            raise TypeError(key)
        return tuple(value)

    @property
    def state_dir(self) -> Path:
        return Path(self.text("node.state_dir") or default_state_dir()).expanduser().absolute()

    @property
    def database_url(self) -> str:
        return self.text("jobs.database_url") or f"sqlite:///{self.state_dir / 'node.sqlite'}"

    def smoothing(self, bundle: Bundle | None) -> SmoothingParameters:
        """What films are certified with; without a bundle, which knows the structures, without a fallback. UsageError for a wrong value."""
        groups = [group for group in self.text("certificate.fallback").split(";") if group.strip()]
        looks = looks_from(self.text("certificate.looks"))
        return SmoothingParameters(
            sigma=self.number("certificate.sigma"),
            tau=self.number("certificate.tau"),
            n0=self.whole("certificate.n0"),
            n=looks[-1] if looks else self.whole("certificate.n"),
            alpha=self.number("certificate.alpha"),
            looks=looks,
            abstain_target=self.number("certificate.abstain_target"),
            unions=unions_from(groups, bundle.structures, bundle=bundle.name) if bundle else (),
        )

    @property
    def tls(self) -> bool:
        return bool(self.text("tls.certificate"))

    def destination(self, ae_title: str) -> Destination | None:
        return next((entry for entry in self.destinations if entry.ae_title == ae_title), None)


def load_configuration(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Configuration:
    """Read and check the configuration. UsageError, one line, for a file that cannot be read or any wrong setting."""
    variables = os.environ if environment is None else environment
    given = _read(path) if path is not None else {}
    values: dict[str, Value] = {setting.key: setting.default for setting in SETTINGS}
    place = str(path)
    for section, content in given.items():
        if section == "destination":
            continue
        if section not in SECTIONS or not isinstance(content, dict):
            raise UsageError(f"{place}: there is no section [{section}]; sections are {', '.join(SECTIONS)}")
        for name, value in content.items():
            setting = _BY_KEY.get(f"{section}.{name}")
            if setting is None:
                known = ", ".join(entry.name for entry in SETTINGS if entry.section == section)
                raise UsageError(f"{place}: [{section}] has no setting {name!r}; it has {known}")
            values[setting.key] = _checked(setting, value, place=place)
    for setting in SETTINGS:
        if setting.variable in variables:
            values[setting.key] = _checked(
                setting, _from_text(setting, variables[setting.variable]), place=f"the environment variable {setting.variable}"
            )
    if DESTINATIONS_VARIABLE in variables:
        destinations = _destinations_from_text(variables[DESTINATIONS_VARIABLE])
    else:
        destinations = _destinations(given.get("destination", []), place=place)
    configuration = Configuration(values, destinations)
    _check_together(configuration)
    return configuration


def print_configuration(configuration: Configuration) -> str:
    """A complete TOML file: every setting with its help and value; reading it back gives the same configuration."""
    lines: list[str] = []
    for section, title in SECTIONS.items():
        if section == "destination":
            lines += ["", f"# {title} In the environment: {DESTINATIONS_VARIABLE}=AE@host:port,…"]
            for destination in configuration.destinations:
                lines += _block(
                    "[[destination]]", DESTINATION_SETTINGS, {f"destination.{key}": value for key, value in vars(destination).items()}
                )
            if not configuration.destinations:
                example = {setting.key: setting.default for setting in DESTINATION_SETTINGS} | {"destination.ae_title": "ARCHIVE"}
                lines += [f"# {line}" for line in _block("[[destination]]", DESTINATION_SETTINGS, example)]
            continue
        settings = tuple(setting for setting in SETTINGS if setting.section == section)
        lines += ["", f"# {title}", *_block(f"[{section}]", settings, configuration.values)]
    return "\n".join(lines[1:]) + "\n"


def _block(head: str, settings: tuple[Setting, ...], values: Mapping[str, Any]) -> list[str]:
    lines = [head]
    for setting in settings:
        choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
        variable = f" [{setting.variable}]" if setting.section != "destination" else ""
        lines += [f"# {setting.help}{choices}{variable}", f"{setting.name} = {_toml(values[setting.key])}"]
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


def _checked(setting: Setting, value: Any, *, place: str) -> Value:
    wanted = {
        "text": "a text in quotes",
        "whole": "a whole number",
        "number": "a number",
        "flag": "true or false",
        "list": 'a list of texts, such as ["A", "B"]',
    }
    fits = {
        "text": isinstance(value, str),
        "whole": isinstance(value, int) and not isinstance(value, bool),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "flag": isinstance(value, bool),
        "list": isinstance(value, list) and all(isinstance(entry, str) for entry in value),
    }
    if not fits[setting.kind]:
        raise UsageError(f"{place}: {setting.key} must be {wanted[setting.kind]}, not {value!r}")
    if setting.choices and value not in setting.choices:
        raise UsageError(f"{place}: {setting.key} must be one of {', '.join(setting.choices)}, not {value!r}")
    if isinstance(value, int | float):
        low, high = setting.lowest, setting.highest
        if not ((low is None or value >= low) and (high is None or value <= high)):
            bounds = f"at least {low:g}" if high is None else f"{low or 0:g} to {high:g}"
            raise UsageError(f"{place}: {setting.key} must be {bounds}, not {value!r}")
    checked: Value = value
    return checked


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


def _destinations(blocks: Any, *, place: str) -> tuple[Destination, ...]:
    if not isinstance(blocks, list):
        raise UsageError(f"{place}: write [[destination]], with two brackets, for each destination")
    known = {setting.name: setting for setting in DESTINATION_SETTINGS}
    found = []
    for block in blocks:
        values: dict[str, Any] = {setting.name: setting.default for setting in DESTINATION_SETTINGS}
        for name, value in block.items():
            if name not in known:
                raise UsageError(f"{place}: [[destination]] has no setting {name!r}; it has {', '.join(known)}")
            values[name] = _checked(known[name], value, place=place)
        found.append(Destination(**values))
    return tuple(found)


def _destinations_from_text(text: str) -> tuple[Destination, ...]:
    found = []
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        ae_title, _, address = entry.partition("@")
        if address.startswith(("https://", "http://")):
            found.append(Destination(ae_title, "", 0, stow_url=address))
            continue
        host, _, port = address.rpartition(":")
        if not ae_title or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise UsageError(f"the environment variable {DESTINATIONS_VARIABLE}: {entry!r} is neither AE@host:port nor AE@https://…")
        found.append(Destination(ae_title, host, int(port)))
    return tuple(found)


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
    for network in configuration.texts("access.peer_addresses"):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise UsageError(f"access.peer_addresses: {network!r} is neither an address nor a network such as 10.0.0.0/8") from error
    url = configuration.text("jobs.database_url")
    if url and not url.startswith(("sqlite:///", "postgresql://")):
        raise UsageError(f"jobs.database_url must begin with sqlite:/// or postgresql://, not {url.split(':', 1)[0]!r}")
    if not is_loopback(configuration.text("web.host")) and configuration.whole("web.port") and not configuration.text("web.token_file"):
        raise UsageError(
            f"web.host {configuration.text('web.host')} can be reached from outside: name a web.token_file, or set web.port to 0"
        )
    tls = [key for key in ("tls.certificate", "tls.key", "tls.ca") if configuration.text(key)]
    if 0 < len(tls) < 3:
        raise UsageError(f"TLS needs tls.certificate, tls.key and tls.ca; only {', '.join(tls)} is set")
    if not tls and any(entry.tls for entry in configuration.destinations):
        raise UsageError("a destination has tls = true, and [tls] names no certificate, key and ca")
    configuration.smoothing(None)  # says what is wrong with sigma, tau, n0, n, alpha and what goes beyond them


def _check_titles(configuration: Configuration) -> None:
    titles = [entry.ae_title for entry in configuration.destinations]
    for owner, title in [("node.ae_title", configuration.text("node.ae_title")), *(("destination.ae_title", title) for title in titles)]:
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
