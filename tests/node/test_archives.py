"""Results to Orthanc, dcmtk's storescp and an archive that misbehaves in every way, while the node is killed again and again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from fakes import Archive, free_port, wait_until
from harness import BOUNDARIES
from orthanc import Orthanc
from processes import Cluster, each_film_once, listens, shuffled, uid_of
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_role
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import StorageCommitmentPushModel

from certdicom.node.deliver.commitment import WELL_KNOWN_INSTANCE, sequence_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Troublemaker(Archive):
    """Refuses the results of two films; has no room while `full`; fails to process each fifth; reports commitment at once, late, never,
    or for a foreign set.
    """

    def __init__(self, refused: set[str]) -> None:
        super().__init__()
        self.refused, self.full, self.asked, self.answers = refused, False, 0, Counter()

    def _store(self, event):
        film = event.dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        self.requests += 1
        if film in self.refused:
            return 0xC001
        if self.full:
            return 0xA700
        if self.requests % 5 == 0:
            return 0x0110
        return super()._store(event)

    def _commit(self, event):
        self.asked += 1
        asked = {(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in event.action_information.ReferencedSOPSequence}
        way = ("at once", "late", "never", "foreign")[self.asked % 4]
        self.transactions.append(str(event.action_information.TransactionUID))
        if way != "never":
            instances = {("1.2.840.10008.5.1.4.1.1.66.4", "2.25.666")} if way == "foreign" else asked
            transaction = self.transactions[-1]
            timer = threading.Timer(8.0 if way == "late" else 0.2, self._tell, (transaction, instances, way))
            self._threads.append(timer)
            timer.start()
        return 0x0000, None

    def _tell(self, transaction, instances, way) -> None:
        entity = ApplicationEntity("ARCHIVE")
        entity.add_requested_context(StorageCommitmentPushModel)
        title, port = self.report_to
        association = entity.associate("127.0.0.1", port, ae_title=title, ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)])
        if not association.is_established:  # the node is down
            return
        report = Dataset()
        report.TransactionUID, report.ReferencedSOPSequence = transaction, sequence_of(instances)
        with contextlib.suppress(RuntimeError):  # the node was killed
            status, _ = association.send_n_event_report(report, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            self.answers[way, int(status.Status) if "Status" in status else None] += 1
            association.release()


@contextlib.contextmanager
def storescp(folder: Path):
    """dcmtk's storage SCP; yields its port."""
    if shutil.which("storescp") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    folder.mkdir()
    port = free_port()
    with subprocess.Popen(["storescp", "--fork", "-od", str(folder), str(port)]) as process:
        wait_until(lambda: listens(port), 30, "storescp")
        yield port
        process.terminate()


def kept_by_storescp(folder: Path) -> list[str]:
    return [str(dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in folder.iterdir()]


def kept_by_orthanc(orthanc: Orthanc) -> list[str]:
    return [entry["MainDicomTags"]["SOPInstanceUID"] for entry in orthanc.ask("/instances?expand")]


def test_real_archives_and_one_that_misbehaves_get_each_result_once_under_kills(make_film, tmp_path):
    """CERTDICOM_KILLS sets how many kills; two films each."""
    count, moments = int(os.environ.get("CERTDICOM_KILLS", "5")), random.Random(31)  # noqa: S311  # moments that can be repeated
    films = [make_film(number) for number in range(2 * count)]
    refused, taken = films[:2], films[2:]
    peer = Troublemaker(set(map(uid_of, refused))).start()
    cluster = Cluster(tmp_path / "cluster", peer)
    peer.report_to = ("CERTDICOM", cluster.port)
    orthanc = Orthanc(tmp_path / "orthanc", node_port=cluster.port)
    with contextlib.ExitStack() as stack, storescp(tmp_path / "storescp") as port:
        stack.callback(peer.stop)
        stack.callback(orthanc.stop)
        stack.callback(cluster.stop_all)
        path = cluster.folder / "node.toml"
        text = path.read_text(encoding="utf-8").replace("timeout_s = 10.0", "timeout_s = 10.0\ncommitment_wait_s = 4.0")
        text += f'storage_commitment = true\n[[destination]]\nae_title = "ORTHANC"\nport = {orthanc.dicom}\nstorage_commitment = true\n'
        path.write_text(text + f'[[destination]]\nae_title = "STORESCP"\nport = {port}\n', encoding="utf-8")
        cluster.start("node")
        peer.full = True
        owed = []
        for number, boundary in enumerate(shuffled(BOUNDARIES, count, seed=17)):
            owed += films[2 * number : 2 * number + 2]
            cluster.arm(boundary)
            owed = [film for film, answered in zip(owed, cluster.send(*owed), strict=True) if not answered]
            with contextlib.suppress(AssertionError):
                wait_until(lambda: cluster.dead("node"), moments.uniform(1, 6), "death")
            cluster.folder.joinpath(boundary).unlink(missing_ok=True)
            if not cluster.dead("node"):
                cluster.kill("node")
            cluster.start("node")
        while owed:
            owed = [film for film, answered in zip(owed, cluster.send(*owed), strict=True) if not answered]
        began = time.monotonic()
        wait_until(lambda: len(kept_by_storescp(tmp_path / "storescp")) == len(films), 120, "storescp's results")
        wait_until(lambda: len(kept_by_orthanc(orthanc)) == len(films), 120, "Orthanc's results")
        others_s = time.monotonic() - began
        assert len(peer.received) == 0, "all of which goes out while the third takes nothing"
        shown = subprocess.run(
            [sys.executable, "-m", "certdicom", "queue", "--config", str(path), "destinations"], capture_output=True, text=True, check=True
        ).stdout
        assert "takes nothing for" in shown
        assert "out of resources" in shown
        peer.full = False
        wait_until(lambda: each_film_once(cluster, taken), 180, "the third archive's results")
        wait_until(lambda: len(cluster.jobs("done")) == len(taken), 180, "commitment of all")
        failed = cluster.jobs("failed")
        assert [job.code for job in failed] == ["refused", "refused"]
        assert all("not delivered to ARCHIVE: refused 3 times" in job.reason for job in failed)
        for kept in (kept_by_storescp(tmp_path / "storescp"), kept_by_orthanc(orthanc)):
            assert len(set(kept)) == len(kept) == len(films), "each once"
        assert ("foreign", 0) not in peer.answers
        print(
            f"\n{count} kills, {len(films)} films, 3 archives: each once; the two others had theirs {others_s:.0f} s after the last film, ",
            end="",
        )
        print(f"while the third took nothing; commitment reports and their answers: {dict(peer.answers)}")
