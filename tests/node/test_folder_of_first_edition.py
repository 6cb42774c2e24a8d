"""A node folder that certdicom 0.1.0 left behind: one film done, one whose archive was down, one killed while it was being certified."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from fakes import wait_until
from processes import Cluster

from certdicom.imaging.synthetic import synthetic_film

FOLDER = Path(__file__).with_name("node-folder-0.1.0.tar.xz")
DONE, DELIVERING, CERTIFYING = (str(synthetic_film(rows=80, columns=72, seed=number)[0].SOPInstanceUID) for number in range(3))


@pytest.mark.timeout(300)
def test_it_opens_and_what_was_owed_is_done(tmp_path, archive):
    folder = tmp_path / "cluster"
    folder.mkdir()
    with tarfile.open(FOLDER) as packed:
        packed.extractall(folder, filter="data")
    cluster = Cluster(folder, archive)
    bundle = folder / "bundle" / "bundle.json"  # the same name, and other networks
    bundle.write_text(bundle.read_text(encoding="utf-8").replace("for tests", "of the second edition"), encoding="utf-8")
    for path in (folder / "state").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    old = {path.name for path in (folder / "state" / "results").iterdir()}
    before = (next((folder / "state" / "results").glob("d60dd643*")) / "seg.dcm").read_bytes()
    cluster.start("node")
    try:
        wait_until(lambda: set(cluster.segmentations()) >= {DELIVERING, CERTIFYING}, 120, "what was owed")
        assert cluster.stop("node") == 0, cluster.logs()
    finally:
        cluster.stop_all()
    (renewed,), done = cluster.jobs("dropped"), {job.job_id: job for job in cluster.jobs("done")}
    assert (renewed.code, len(done)) == ("renewed", 3)
    (new,) = (job for job in done.values() if job.job_id in renewed.reason)
    assert new.subject == renewed.subject, "what waited is a new job, with the present bundle"
    assert "a waiting film became a new job, as bundle or parameters have changed" in cluster.logs()
    assert "the database was brought to a new version" in cluster.logs()
    found = cluster.segmentations()
    assert set(found) == {DELIVERING, CERTIFYING}, "and what was done is not sent again"
    assert all(len(uids) == 1 for uids in found.values())
    assert (next((folder / "state" / "results").glob("d60dd643*")) / "seg.dcm").read_bytes() == before
    state = folder / "state"
    open_to_others = [path for path in state.rglob("*") if path.stat().st_mode & 0o077 and path.parent == state and path.name != "spool.id"]
    assert open_to_others == [], "whatever it was, folders and database are the node's alone"
    (new,) = (path for path in (state / "results").iterdir() if path.name not in old)
    assert {path.stat().st_mode & 0o777 for path in new.iterdir()} == {0o600}
