"""A certifier that costs nothing and writes real results, and an archive that keeps what it gets. For tests of the node."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StorageCommitmentPushModel,
    Verification,
)

from certdicom.certification.certificate import ABSTAIN, PRESENT, Certificate, Structure, Window
from certdicom.certification.parameters import SmoothingParameters
from certdicom.outputs import REPORT, SEG
from certdicom.outputs.uids import derive_uid

LUNGS = Structure("lungs", ("39607008", "SCT", "Lung"), (86, 180, 233))


class CheapCertifier:
    """Writes a real SEG and report from fixed decisions; `before` is called first and may wait or raise; `outputs`: what is written."""

    def __init__(self, before: Callable[[Path], None] | None = None) -> None:
        self.calls = 0
        self.before = before
        self.outputs = [SEG, REPORT]

    def close(self) -> None:
        """Nothing runs elsewhere."""

    def certify(self, film: Path, folder: Path, *, window: str = "", crop: str = "") -> None:
        from certdicom.imaging.reading import read_image
        from certdicom.node.work.certify import write_result
        from certdicom.outputs.result import Result

        self.calls += 1
        if self.before is not None:
            self.before(film)
        image = read_image(film)
        decisions = np.zeros((1, 16, 16), np.uint8)
        decisions[0, 4:12, 3:7] = PRESENT
        decisions[0, 12, 3:7] = ABSTAIN
        certificate = Certificate(
            decisions=decisions,
            counts=np.full(decisions.shape, 100, np.int32),
            parameters=SmoothingParameters(),
            structures=(LUNGS,),
            native_scale=1270.0,
            native_unit="stored values",
            window=Window(0.0, 4095.0, "window of the film"),
            bundle_name="test",
            bundle_sha256="ab" * 32,
            seed_kind="site-key",
            draw_identity="cd" * 32,
            backend="PyTorch 2.13.0",
            device="cpu",
            precision="float32",
            notes=image.notes,
            seconds={"draws": 0.01},
        )
        write_result(Result(image, certificate), self.outputs, folder)


class CopyingCertifier:
    """Fits a copy of one result of the `CheapCertifier` to each film: for tests of many films, in any number of processes.

    The copies of one film have the same UID and, as of a real certifier, different contents: their time of creation.
    """

    def __init__(self, folder: Path, before: Callable[[Path], None]) -> None:
        self.pattern, self.before = folder / "pattern", before

    def close(self) -> None:
        """Nothing runs elsewhere."""

    def certify(self, film: Path, folder: Path, *, window: str = "", crop: str = "") -> None:
        self.before(film)
        if not self.pattern.exists():
            made = Path(tempfile.mkdtemp(dir=self.pattern.parent))
            CheapCertifier().certify(film, made)
            with contextlib.suppress(OSError):  # another process was first
                made.rename(self.pattern)
        for path in self.pattern.iterdir():
            shutil.copy(path, folder)
        source, segmentation = dcmread(film, stop_before_pixels=True), dcmread(folder / "seg.dcm")
        reference = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
        reference.ReferencedSOPInstanceUID, segmentation.StudyInstanceUID = source.SOPInstanceUID, source.StudyInstanceUID
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
            setattr(segmentation, keyword, derive_uid(keyword, source.SOPInstanceUID))
        segmentation.file_meta.MediaStorageSOPInstanceUID = segmentation.SOPInstanceUID
        segmentation.SeriesDescription = f"made at {time.time_ns()}"
        segmentation.save_as(folder / "seg.dcm")


BUNDLE = {
    "format": 1,
    "name": "test",
    "grid": 16,
    "channels": 1,
    "structures": [{"label": "lungs", "code": ["39607008", "SCT", "Lung"], "rgb": [86, 180, 233]}],
    "schedule": {},
    "sigma_range": [0.1, 1.0],
    "networks": {"segmenter": {}, "denoiser": {}},
    "weights_sha256": {"segmenter": "00", "denoiser": "00"},
    "anatomy": None,
    "summary": "for tests",
}


def write_bundle(folder: Path) -> Path:
    """A bundle description without weights: enough for a node whose certifier is a fake."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.json").write_text(json.dumps(BUNDLE), encoding="utf-8")
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], seconds: float = 60.0, what: str = "it") -> None:
    """Return once `condition()` is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


class Archive:
    """A storage SCP that remembers every C-STORE and answers as it is told.

    `behaviour`: called with the number of the request (from 1), returns a status, or None to break the association off.
    """

    def __init__(
        self, port: int = 0, *, behaviour: Callable[[int], int | None] | None = None, commitment: Callable[[int], bool] | None = None
    ) -> None:
        self.port = port
        self.behaviour = behaviour or (lambda number: 0x0000)
        self.commitment = commitment
        self.report_to: tuple[str, int] | None = None
        self.received: list[tuple[str, bytes]] = []
        self.transactions: list[str] = []
        self.committed: set[str] = set()
        self.requests = 0
        self.syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        self.sop_classes = [
            *(SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage, ParametricMapStorage),
            GrayscaleSoftcopyPresentationStateStorage,
        ]
        self._server = None
        self._threads: list[threading.Thread] = []

    def start(self) -> Archive:
        entity = ApplicationEntity("ARCHIVE")
        for sop_class in self.sop_classes:
            entity.add_supported_context(sop_class, self.syntaxes)
        entity.add_supported_context(Verification)
        entity.add_supported_context(StorageCommitmentPushModel)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_N_ACTION, self._commit)]
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        for thread in self._threads:
            thread.join(10)

    @property
    def instances(self) -> dict[str, set[bytes]]:
        """The different contents that were stored under each SOP Instance UID."""
        found: dict[str, set[bytes]] = {}
        for uid, content in self.received:
            found.setdefault(uid, set()).add(content)
        return found

    def _store(self, event: evt.Event) -> int:
        self.requests += 1
        status = self.behaviour(self.requests)
        if status is None:
            event.assoc.abort()
            return 0xC000
        if status == 0 or status >> 12 == 0xB:
            self.received.append((str(event.request.AffectedSOPInstanceUID), event.encoded_dataset(include_meta=False)))
        return status

    def _commit(self, event: evt.Event) -> tuple[int, None]:
        information = event.action_information
        self.transactions.append(str(information.TransactionUID))
        if self.commitment is not None and self.report_to is not None:
            thread = threading.Thread(target=self._report, args=(information, self.commitment(len(self.transactions))))
            self._threads.append(thread)
            thread.start()
        return 0x0000, None

    def _report(self, information: Dataset, committed: bool) -> None:
        from pynetdicom import build_role

        entity = ApplicationEntity("ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        title, port = self.report_to
        association = entity.associate("127.0.0.1", port, ae_title=title, ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)])
        assert association.is_established
        report = Dataset()
        report.TransactionUID = information.TransactionUID
        if committed:
            report.ReferencedSOPSequence = information.ReferencedSOPSequence
            self.committed |= {str(item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence}
        else:
            failed = Dataset()
            failed.ReferencedSOPClassUID = information.ReferencedSOPSequence[0].ReferencedSOPClassUID
            failed.ReferencedSOPInstanceUID = information.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            failed.FailureReason = 0x0112
            report.FailedSOPSequence = [failed]
        association.send_n_event_report(report, 1 if committed else 2, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1")
        association.release()
