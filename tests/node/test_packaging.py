"""The unit, the container files and the forwarding script speak of settings that exist, and a node takes what they give it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from fakes import free_port, wait_until, write_bundle
from orthanc import Orthanc
from processes import HARNESS, listens, store

from certdicom.node.configuration import load_configuration
from certdicom.node.receive.rules import FILM_SOP_CLASSES
from certdicom.node.settings import DESTINATIONS_VARIABLE, SETTINGS

PACKAGING = Path(__file__).parents[2] / "packaging"
VARIABLES = {setting.variable for setting in SETTINGS} | {DESTINATIONS_VARIABLE}
OTHERS = {"CERTDICOM_DATABASE_PASSWORD"}


@pytest.mark.parametrize("name", ["certdicom-node.service", "Dockerfile", "compose.yaml"])
def test_every_environment_variable_is_one_that_the_node_reads(name):
    used = set(re.findall(r"\bCERTDICOM_[A-Z_]+", (PACKAGING / name).read_text(encoding="utf-8")))
    assert used
    assert used <= VARIABLES | OTHERS


def test_the_environment_of_the_compose_file_configures_a_node():
    compose = yaml.safe_load((PACKAGING / "compose.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"node", "worker", "database", "orthanc", "ohif"}
    environment = {name: value.replace("${CERTDICOM_DATABASE_PASSWORD:?set it as the first lines of this file say}", "secret") for name, value in compose["services"]["node"]["environment"].items()}  # fmt: skip  # noqa: E501
    configuration = load_configuration(None, environment)
    assert configuration.database_url == "postgresql://certdicom:secret@database/certdicom"
    (destination,) = configuration.destinations
    orthanc = compose["services"]["orthanc"]["environment"]
    assert destination.ae_title == orthanc["ORTHANC__DICOM_AET"]
    title, host, port = json.loads(orthanc["ORTHANC__DICOM_MODALITIES"])["certdicom"]
    assert (title, port) == (configuration.node.ae_title, configuration.node.port)
    assert host in compose["services"]
    assert compose["services"]["worker"]["command"] == ["worker"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_composition_certifies_and_delivers_without_containers(tmp_path, make_film, database):
    """The services of the compose file as processes of this machine, with its environment: only addresses are others."""
    compose = yaml.safe_load((PACKAGING / "compose.yaml").read_text(encoding="utf-8"))
    port, page = free_port(), free_port()
    orthanc = Orthanc(tmp_path / "orthanc", node_port=port)
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "node.toml").write_text("", encoding="utf-8")
    (tmp_path / "page-token").write_text("0123456789abcdef0123", encoding="ascii")
    places = {
        "CERTDICOM_JOBS_DATABASE_URL": database.url,
        "CERTDICOM_DESTINATIONS": f"ORTHANC@127.0.0.1:{orthanc.dicom}",
        "CERTDICOM_WEB_HOST": "127.0.0.1",
        "CERTDICOM_WEB_PORT": str(page),
        "CERTDICOM_WEB_TOKEN_FILE": str(tmp_path / "page-token"),
        "CERTDICOM_NODE_STATE_DIR": str(tmp_path / "state"),
        "CERTDICOM_NODE_PORT": str(port),
        "CERTDICOM_CERTIFICATE_BUNDLE": str(write_bundle(tmp_path / "bundle")),
        "CERTDICOM_LIMITS_MIN_FREE_MB": "1",
    }
    processes = []
    try:
        for role in ("node", "worker"):
            environment = {**os.environ, **compose["services"][role]["environment"], **places, "PYTHONWARNINGS": "ignore"}
            with (folder / f"{role}.log").open("wb") as log:
                command = [sys.executable, str(HARNESS), role, str(folder)]
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        wait_until(lambda: listens(port), 300, "listening")
        films = [make_film(number, StudyInstanceUID=f"2.25.{number + 1}") for number in range(4)]
        orthanc.forward(films[0])
        assert store(port, *films[1:]) == [True] * 3
        wait_until(lambda: all(orthanc.found(f"2.25.{number + 1}") for number in range(4)), 600, "the last segmentation")
        bearer = {"Authorization": "Bearer 0123456789abcdef0123"}
        query = urllib.request.Request(f"http://127.0.0.1:{page}/metrics", headers=bearer)
        with urllib.request.urlopen(query, timeout=60) as answer:  # noqa: S310  # http, on this machine
            assert b"certdicom_jobs" in answer.read()
        for process in processes:
            process.terminate()
        assert [process.wait(120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait(30)
        orthanc.stop()


def test_containers_and_the_unit_wait_longer_than_the_node_needs_to_stop():
    grace = next(setting.default for setting in SETTINGS if setting.key == "node.grace_s")
    compose = yaml.safe_load((PACKAGING / "compose.yaml").read_text(encoding="utf-8"))
    assert float(compose["services"]["node"]["stop_grace_period"].removesuffix("s")) > grace
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(PACKAGING / "certdicom-node.service", encoding="utf-8")
    assert float(unit["Service"]["TimeoutStopSec"]) > grace


def test_the_unit_has_no_mistake_that_systemd_finds(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    text = (PACKAGING / "certdicom-node.service").read_text(encoding="utf-8")
    unit = tmp_path / "certdicom-node.service"
    unit.write_text(text.replace("/opt/certdicom/bin/certdicom", "/bin/true"), encoding="utf-8")
    done = subprocess.run([program, "verify", "--recursive-errors=no", str(unit)], capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in done.stderr.splitlines() if "certdicom-node.service" in line]
    assert ours == []


def test_orthanc_forwards_films_that_the_node_certifies():
    script = (PACKAGING / "orthanc-forward.lua").read_text(encoding="utf-8")
    uids = re.findall(r"'(1\.2\.840[0-9.]+)'", script)
    assert uids
    assert set(uids) <= set(FILM_SOP_CLASSES)
