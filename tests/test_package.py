"""What is installed: versions that agree, extras, licences, locked packages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from certdicom.version import VERSION

ROOT = Path(__file__).resolve().parents[1]


def project(path: str) -> dict:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))["project"]


def test_all_versions_are_one() -> None:
    bundles = project("packaging/bundles/pyproject.toml")
    assert bundles["version"] == VERSION
    assert bundles["dependencies"] == [f"certdicom=={VERSION}"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == VERSION
    first = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first is not None
    assert Version(VERSION).base_version == first[1]


def test_licences_are_beside_what_they_are_about() -> None:
    assert "Research-Only-Weights" in project("pyproject.toml")["license"]
    assert (ROOT / "packaging/bundles/LICENSE-WEIGHTS.md").read_bytes() == (ROOT / "LICENSE-WEIGHTS.md").read_bytes()


def locked() -> dict[str, Version]:
    text = (ROOT / "packaging" / "requirements.txt").read_text(encoding="utf-8")
    return {name: Version(version) for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("extra", ["", "node"])
def test_the_image_has_every_package_locked_in_a_version_that_is_allowed(extra: str) -> None:
    told = project("pyproject.toml")
    versions = locked()
    for line in told["optional-dependencies"][extra] if extra else told["dependencies"]:
        requirement = Requirement(line)
        assert versions[normal(requirement.name)] in requirement.specifier, f"{line}: run scripts/lock"


def test_every_locked_package_has_digests_and_no_address() -> None:
    text = (ROOT / "packaging" / "requirements.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked()) > 40
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)


def test_the_base_needs_neither_pytorch_nor_the_node() -> None:
    from certdicom.extras import EXTRAS

    base = {normal(Requirement(line).name) for line in project("pyproject.toml")["dependencies"]}
    assert not base & {normal(module) for modules in EXTRAS.values() for module in modules}
