"""The real thing, once: a film through a node with the shipped bundle and the DBOS engine, as `certdicom node` runs it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from fakes import wait_until
from processes import Cluster, each_film_once

from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.bundle import DEFAULT_BUNDLE, shipped_bundles


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_film_is_certified_with_the_shipped_bundle_and_comes_back(archive, tmp_path):
    if DEFAULT_BUNDLE not in shipped_bundles():
        pytest.skip(f"the bundle {DEFAULT_BUNDLE} is not part of this checkout")
    dataset, _ = synthetic_film(rows=1024, columns=896)
    film = tmp_path / "film.dcm"
    film.write_bytes(film_bytes(dataset))
    cluster = Cluster(tmp_path / "cluster", archive)
    configuration = cluster.folder / "node.toml"
    text = configuration.read_text(encoding="utf-8").replace(f'bundle = "{cluster.folder / "bundle"}"', "accept_any = true")
    configuration.write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with (cluster.folder / "node.log").open("wb") as log:
        command = [sys.executable, "-m", "certdicom", "node", "--config", str(configuration)]
        cluster.processes["node"] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait_until(lambda: cluster.listens() or cluster.dead("node"), 120, "listening")
        assert cluster.send(film) == [True]
        wait_until(lambda: each_film_once(cluster, [film]), 1200, "the result")
        assert cluster.stop("node") == 0
    finally:
        cluster.stop_all()


def test_the_node_does_not_import_torch_before_it_certifies():
    modules = (
        "certdicom.node.service, certdicom.node.web.server, certdicom.node.doctor, certdicom.node.queue, certdicom.node.jobs.dbos_engine"
    )
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
