"""Sending films as a modality does: C-STORE to the archive and to the node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pynetdicom.ae import ApplicationEntity

from certdicom.demo.films import DemoFilm
from certdicom.demo.interruptions import held_back
from certdicom.demo.processes import ProgramError

AE_TITLE: Final = "MODALITY"

_ANSWER_S: Final = 30.0


@held_back()
def send(films: Sequence[DemoFilm], *, ae_title: str, port: int) -> None:
    """Store every film at `ae_title` on this machine. ProgramError when one is not taken. Ctrl-C waits until the last is sent."""
    entity = ApplicationEntity(AE_TITLE)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _ANSWER_S
    for context in {(film.sop_class_uid, film.transfer_syntax_uid) for film in films}:
        entity.add_requested_context(*context)
    association = entity.associate("127.0.0.1", port, ae_title=ae_title)
    if not association.is_established:
        raise ProgramError(f"{ae_title} on port {port} lets no modality in; it may still be starting: try again")
    try:
        for film in films:
            try:
                status = association.send_c_store(film.path)
            except ValueError as error:
                raise ProgramError(f"{ae_title} does not take {film.name}: {error}") from error
            if getattr(status, "Status", None) != 0x0000:
                raise ProgramError(f"{ae_title} did not store {film.name}: status {getattr(status, 'Status', 'none')!r}")
    finally:
        association.release()
