"""At the start of a node: films and jobs that do not fit together are made to.

A film on disk without a job is entered: its node was killed between the two. A job that waits to be certified with another bundle or other
parameters than the present ones becomes a new job: its id and its result's UID say what it was certified with.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.filereader import read_file_meta_info

from certdicom.node.configuration import Configuration
from certdicom.node.identity import Work, pseudonym
from certdicom.node.receive.receiving import read_header
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Job
from certdicom.node.store.spool import Spool

LOG = logging.getLogger("certdicom.node.receive.reconcile")

_PIECE: Final = 1024 * 1024
_HEAD: Final = 144
"""Preamble, prefix and the group length of the file meta information (PS3.10 7.1), which `receiving` has written."""


@dataclass(frozen=True)
class Reconciliation:
    """What is reconciled, and with what."""

    spool: Spool
    ledger: Ledger
    work: Work
    site_key: bytes
    configuration: Configuration

    def run(self) -> int:
        """Renew what waits with other work, and enter every film that the ledger does not know; returns how many films were entered."""
        for job in self.ledger.to_certify_with_other_than(self.work.digest):
            if not self.spool.result(job.job_id).exists():  # what is certified goes out as it is
                self._renew(job)
        return sum(self._enter(job_id) for job_id in self.spool.film_ids() if self.ledger.job(job_id) is None)

    def _renew(self, job: Job) -> None:
        old = self.spool.film(job.job_id)
        if not old.exists():
            return  # the attempt says so
        asked = self.configuration.asked_of(job.sender)
        job_id = self.work.job_id(**_identity(old), **asked)
        if job_id != job.job_id:
            self._copy(old, self.spool.film(job_id))
            self.ledger.renew(job, job_id, work=self.work.digest, asked=asked)
            self.spool.remove_film(job.job_id)
            LOG.warning(
                "a waiting film became a new job, as bundle or parameters have changed", extra={"job": job_id, "before": job.job_id}
            )
        else:
            self.ledger.adopt_work(job_id, work=self.work.digest)

    def _enter(self, job_id: str) -> bool:
        """Enter a film without a job under its name, with what was asked for then; where nothing gives that name, under a new one."""
        path = self.spool.film(job_id)
        header = read_header(path)
        uid = str(header.get("SOPInstanceUID", "")) if header is not None else ""
        asked, name = {"window": "", "crop": ""}, job_id
        if header is not None:
            identity = _identity(path)
            names = {self.work.job_id(**identity, **choice): choice for choice in self._choices()}
            if job_id in names:
                asked = names[job_id]
            else:
                name = self.work.job_id(**identity)
                self._copy(path, self.spool.film(name))
        size = path.stat().st_size
        entered = self.ledger.enter(name, subject=pseudonym(uid, self.site_key), sender="", size=size, work=self.work.digest, asked=asked)
        if name != job_id:
            self.spool.remove_film(job_id)
        LOG.warning("entered a film that was on disk without a job", extra={"job": name})
        return entered

    def _choices(self) -> Iterator[dict[str, str]]:
        """All that is asked for films of some sender."""
        settings = self.configuration.certificate
        senders = ["", *(entry.partition("=")[0].strip() for entry in (*settings.sender_windows, *settings.sender_crops))]
        for sender in senders:
            yield self.configuration.asked_of(sender)

    def _copy(self, source: Path, target: Path) -> None:
        """Give a film a second name; where the file system has no links, its bytes once more. OSError when that fails."""
        if target.exists():
            return
        made = self.spool.new_file()
        try:
            os.link(source, made)
        except OSError:
            shutil.copyfile(source, made)
        with made.open("r+b") as stream:
            self.spool.sync(stream)
        self.spool.place(made, target)


def _identity(path: Path) -> dict[str, str]:
    """What of a film its job's id depends on: its SOP Instance UID, and the digest that it had when it was received."""
    meta = read_file_meta_info(path)
    digest = hashlib.sha256(str(meta.TransferSyntaxUID).encode() + b"\0")
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        stream.seek(_HEAD + int.from_bytes(head[-4:], "little"))
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return {"sop_instance_uid": str(meta.MediaStorageSOPInstanceUID), "dataset_sha256": digest.hexdigest()}
