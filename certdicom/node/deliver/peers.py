"""Associations that the node asks for, as an SCU."""

from __future__ import annotations

from pydicom.uid import UID
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from certdicom.node.configuration import Configuration
from certdicom.node.settings import Destination
from certdicom.node.tls import client_context
from certdicom.outputs.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def local_entity(configuration: Configuration) -> ApplicationEntity:
    """Our AE as a requestor, with the time limits of `[delivery]`."""
    entity = ApplicationEntity(configuration.node.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    limit = configuration.delivery.timeout_s
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = limit
    return entity


def associate(entity: ApplicationEntity, configuration: Configuration, destination: Destination, **options: object) -> Association:
    """An association with a destination, over TLS if it asks for that; look at `is_established` of what comes back."""
    tls = (client_context(configuration), destination.host) if destination.tls else None
    return entity.associate(destination.host, destination.port, ae_title=destination.ae_title, tls_args=tls, **options)  # type: ignore[arg-type]
