"""TLS contexts: version 1.2 or later, certificates on both sides, made anew for each use so that renewed files count at once."""

from __future__ import annotations

import ssl
from pathlib import Path

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration


def server_context(configuration: Configuration) -> ssl.SSLContext:
    """For those who connect to us; they must show a certificate from `tls.ca`. UsageError when a file cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _filled(context, configuration)


def client_context(configuration: Configuration) -> ssl.SSLContext:
    """For those whom we connect to; their certificate must come from `tls.ca` and name their host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _filled(context, configuration)


def _filled(context: ssl.SSLContext, configuration: Configuration) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    certificate, key, authority = (
        Path(name).expanduser() for name in (configuration.tls.certificate, configuration.tls.key, configuration.tls.ca)
    )
    for name, path in (("certificate", certificate), ("key", key), ("ca", authority)):
        if not path.is_file():
            raise UsageError(f"tls.{name}: there is no file {path}")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"tls.certificate {certificate} and tls.key {key} cannot be used: {error.strerror or error}") from error
    try:
        context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"tls.ca {authority} cannot be used: {error.strerror or error}") from error
    return context
