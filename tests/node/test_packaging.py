"""The unit, the container files and the forwarding script speak of settings that exist, and a node takes what they give it."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from certdicom.node.configuration import load_configuration
from certdicom.node.rules import CERTIFIED_SOP_CLASSES
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
    assert (title, port) == (configuration.text("node.ae_title"), configuration.whole("node.port"))
    assert host in compose["services"]
    assert compose["services"]["worker"]["command"] == ["worker"]


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
    assert set(uids) <= set(CERTIFIED_SOP_CLASSES)
