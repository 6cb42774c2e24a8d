"""The configuration: file, environment, --print-config, and one clear line for a wrong setting."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from fakes import CheapCertifier

from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.main import main
from certdicom.errors import UsageError
from certdicom.node.configuration import load_configuration, print_configuration
from certdicom.node.identity import Work
from certdicom.node.service import Service
from certdicom.node.settings import DESTINATION_SETTINGS, SETTINGS, Destination
from certdicom.node.work.certify import PipelineCertifier
from certdicom.node.work.jobs.memory import MemoryQueue
from tests.tiny import write_tiny_bundle

NODE_DOCS = Path(__file__).parents[2] / "docs" / "node.md"

FIXED_KEYS = [
    "node.ae_title", "node.host", "node.port", "node.state_dir", "access.calling_ae_titles", "access.require_called_ae_title",
    "certificate.bundle", "certificate.sigma", "certificate.tau", "certificate.n0", "certificate.n", "certificate.alpha",
    "certificate.device", "jobs.database_url", "jobs.workers", "web.host", "web.port", "web.token_file", "tls.certificate", "tls.key",
    "tls.ca", "destination.ae_title", "destination.host", "destination.port", "destination.storage_commitment",
]  # fmt: skip


@pytest.fixture
def toml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "node.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_keys_that_installations_rely_on_keep_their_names():
    assert set(FIXED_KEYS) <= {setting.key for setting in (*SETTINGS, *DESTINATION_SETTINGS)}


def test_the_printed_configuration_holds_every_setting_and_reads_back_the_same(toml):
    environment = {
        "CERTDICOM_NODE_AE_TITLE": "OTHER",
        "CERTDICOM_ACCESS_CALLING_AE_TITLES": "CR1, CR2",
        "CERTDICOM_DESTINATIONS": "PACS@10.0.0.5:104",
    }
    configuration = load_configuration(None, environment)
    text = print_configuration(configuration)
    written = tomllib.loads(text)
    for setting in SETTINGS:
        assert setting.name in written[setting.section]
        assert setting.help in text
        assert setting.variable in text
    again = load_configuration(toml(text), {})
    assert again == configuration
    assert again.destinations == configuration.destinations == (Destination(ae_title="PACS", host="10.0.0.5", port=104),)
    assert again.access.calling_ae_titles == ["CR1", "CR2"]


def test_the_command_prints_it(capsys, monkeypatch):
    monkeypatch.setenv("CERTDICOM_NODE_PORT", "4711")
    assert main(["node", "--print-config"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["node"]["port"] == 4711


def test_the_environment_overrides_the_file(toml):
    path = toml('[node]\nport = 1\nae_title = "A"\n[jobs]\nworkers = 3\n')
    configuration = load_configuration(path, {"CERTDICOM_NODE_PORT": "2"})
    assert (configuration.node.port, configuration.node.ae_title, configuration.jobs.workers) == (2, "A", 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node]\nport = 70000", "node.port must be 0 to 65535, not 70000"),
        ('[node]\nport = "11112"', "node.port must be a whole number, not '11112'"),
        ("[node]\nprot = 1", "[node] has no setting 'prot'; did you mean 'port'?"),
        ("[nodes]\nport = 1", "there is no section [nodes]"),
        ('[node]\nae_title = "MUCH TOO LONG A TITLE"', "node.ae_title must be 1 to 16 printable ASCII characters"),
        ('[access]\npeer_addresses = ["here"]', "'here' is neither an address nor a network"),
        ("[certificate]\nsigma = -1", "certificate.sigma must be at least 0"),
        ("[certificate]\ntau = 0.2", "tau must be at least 0.5"),
        ('[certificate]\nlooks = "75;90"', "looks: '75;90' is no list of whole numbers"),
        ('[certificate]\nlooks = "90,75"', "looks must be rising"),
        ("[certificate]\nabstain_target = 0.1", "abstain_target must be 0 where there is one look"),
        ('[certificate]\nfamily = "k-fwer:2"', "certificate] has no setting 'family'"),
        ('[jobs]\ndatabase_url = "mysql://x"', "must begin with sqlite:/// or postgresql://"),
        ('[web]\nhost = "0.0.0.0"', "name a web.token_file"),
        ('[tls]\nkey = "k.pem"', "TLS needs tls.certificate, tls.key and tls.ca; only tls.key is set"),
        ('[[destination]]\nae_title = "A"\nhots = "x"', "[[destination]] has no setting 'hots'"),
        ('[[destination]]\nae_title = "A"\n[[destination]]\nae_title = "A"', "two destinations with the AE title 'A'"),
        ('[[destination]]\nae_title = "A"\ntls = true', "[tls] names no certificate"),
        ('[[destination]]\nae_title = "A"\nstow_url = "ftp://x"', "stow_url must be like https://pacs/dicom-web, not 'ftp://x'"),
        ('[[destination]]\nae_title = "A"\nstow_url = "http://pacs/x"\nstow_token_file = "t"', "a token must not travel over http"),
        ('[[destination]]\nae_title = "A"\nstow_token_file = "t"', "stow_token_file and stow_ca belong to a stow_url"),
        ('[[destination]]\nae_title = "A"\nstow_url = "https://x"\nstorage_commitment = true', "STOW-RS confirms by its answer"),
        ("[node\n", "is not TOML"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(toml, text, said, capsys):
    path = toml(text)
    with pytest.raises(UsageError, match=re.escape(said)):
        load_configuration(path, {})
    assert main(["node", "--config", str(path)]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CERTDICOM_NODE_PORT", "x", "the environment variable CERTDICOM_NODE_PORT: node.port must be a whole number, not 'x'"),
        ("CERTDICOM_ACCESS_REQUIRE_CALLED_AE_TITLE", "maybe", "must be true or false, not 'maybe'"),
        ("CERTDICOM_DESTINATIONS", "PACS:104", "'PACS:104' is neither AE@host:port nor AE@https://…"),
    ],
)
def test_a_wrong_environment_variable_is_named(name, value, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        load_configuration(None, {name: value})


def test_what_goes_beyond_one_test_at_n_is_written_as_on_the_command_line(toml, tmp_path):
    """And each of it makes another job of the same film, or a film certified otherwise would count as done."""
    bundle = write_tiny_bundle(tmp_path / "tiny", labels=("lungs", "heart", "clavicles"))
    settings = {"looks": "75,90", "abstain_target": 0.02, "fallback": "heart,lungs; heart,clavicles"}
    plain = load_configuration(None, {}).smoothing(bundle)
    assert plain == SmoothingParameters()
    works = {Work("ab", plain).job_id(sop_instance_uid="1.2", dataset_sha256="00")}
    for name, value in settings.items():
        some = {name: value} | ({"looks": "75,90"} if name == "abstain_target" else {})
        text = "[certificate]\n" + "".join(f"{key} = {json.dumps(entry)}\n" for key, entry in some.items())
        works.add(Work("ab", load_configuration(toml(text), {}).smoothing(bundle)).job_id(sop_instance_uid="1.2", dataset_sha256="00"))
    assert len(works) == 4
    environment = {f"CERTDICOM_CERTIFICATE_{name}".upper(): str(value) for name, value in settings.items()}
    asked = load_configuration(None, environment).smoothing(bundle)
    assert asked == SmoothingParameters(n=90, looks=(75, 90), abstain_target=0.02, unions=((0, 1), (1, 2)))


def test_a_node_certifies_as_it_is_configured(tmp_path, make_film):
    bundle = write_tiny_bundle(tmp_path / "tiny")
    settings = {"looks": "75,90", "abstain_target": "0.999", "fallback": "lungs,heart", "accept_any": "yes"}
    configuration = load_configuration(None, {f"CERTDICOM_CERTIFICATE_{name}".upper(): value for name, value in settings.items()})
    result = tmp_path / "result"
    result.mkdir()
    PipelineCertifier(configuration, bundle, b"secret of the site").certify(make_film(), result)
    report = json.loads((result / "report.json").read_text())
    parameters = {name: report["parameters"][name] for name in ("n", "looks", "abstain_target", "unions")}
    assert parameters == {"n": 90, "looks": [75, 90], "abstain_target": 0.999, "unions": [[0, 1]]}
    assert "alpha split over 2 looks" in report["parameters"]["family"]


def test_a_fallback_to_structures_that_the_bundle_has_not_ends_the_start(configure):
    with pytest.raises(UsageError, match="fallback lungs,heart: bundle test has no structure 'heart'; it has lungs"):
        Service(configure(certificate__fallback="lungs,heart"), certifier=CheapCertifier(), job_queue=MemoryQueue())


def test_a_missing_file_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the configuration .*: No such file"):
        load_configuration(tmp_path / "none.toml", {})


def test_a_worker_without_postgresql_is_told_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CERTDICOM_NODE_STATE_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="a SQLite file serves one process only"):
        Service(load_configuration(None), listens=False)


def test_the_documentation_lists_every_setting():
    text = NODE_DOCS.read_text(encoding="utf-8")
    missing = [setting.key for setting in SETTINGS if f"`{setting.key}`" not in text]
    missing += [setting.key for setting in DESTINATION_SETTINGS if f"`{setting.key}`" not in text]
    assert missing == []
