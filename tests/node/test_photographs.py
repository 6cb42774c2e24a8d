"""Colour photographs sent to a node: certified with a bundle for them, otherwise stored and left alone with the reason."""

from __future__ import annotations

import json

import pytest
from fakes import wait_until, write_bundle

from certdicom.imaging.synthetic import film_bytes
from certdicom.models.bundle import load_bundle
from certdicom.node.work.certify import PipelineCertifier

LESION = {"label": "lesion", "code": ["95324001", "SCT", "Skin lesion"], "rgb": [86, 180, 233]}


@pytest.fixture
def photograph(make_photograph, tmp_path):
    """A photograph as a file; the number makes them different."""

    def write(kind: str = "XC", number: int = 1, **changes):
        dataset = make_photograph(kind, rows=80, columns=96, SOPInstanceUID=f"2.25.{number}", **changes)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        path = tmp_path / f"{kind}-{number}.dcm"
        path.write_bytes(film_bytes(dataset))
        return path

    return write


@pytest.fixture
def skin(tmp_path):
    """A description of a bundle for colour photographs, without weights."""
    folder = write_bundle(tmp_path / "skin")
    description = json.loads((folder / "bundle.json").read_text())
    description |= {"name": "skin", "channels": 3, "structures": [LESION], "grid": [48, 64]}
    (folder / "bundle.json").write_text(json.dumps(description))
    return folder


def outcomes(node) -> dict[str, str]:
    """Reason → state of all jobs."""
    return {job.reason: job.state for job in node.ledger.jobs()}


def test_a_node_for_films_keeps_photographs_and_says_why_it_leaves_them_alone(run_node, configure, archive, photograph, send):
    node = run_node(configure(archive))
    assert send(node, photograph("XC", 1), photograph("ES", 2), photograph("SC", 3)) == [0, 0, 0]
    assert outcomes(node) == {
        "rules.sop_classes does not list VL Photographic Image Storage: bundle test is for radiographs": "ignored",
        "rules.sop_classes does not list VL Endoscopic Image Storage: bundle test is for radiographs": "ignored",
        "rules.modalities does not list OT: bundle test is for radiographs": "ignored",
    }
    assert all(node.spool.ignored_instance(job.job_id).exists() for job in node.ledger.jobs())
    assert archive.requests == 0


def test_a_photograph_that_the_rules_let_through_is_left_alone_by_the_bundle(run_node, configure, archive, photograph, send):
    configuration = configure(archive, rules__sop_classes="1.2.840.10008.5.1.4.1.1.77.1.4", rules__modalities="XC")
    bundle = load_bundle(configuration.certificate.bundle)
    node = run_node(configuration, PipelineCertifier(configuration, bundle, b"k" * 32))
    assert send(node, photograph()) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["ignored"])
    (job,) = node.ledger.jobs()
    assert job.reason.startswith("the image is a colour photograph and bundle test takes gray films")
    wait_until(node.spool.ignored_instance(job.job_id).exists)  # the row comes first


def test_a_node_for_photographs_certifies_them_and_returns_what_archives_take(run_node, configure, archive, photograph, skin, send):
    node = run_node(configure(archive, certificate__bundle=skin))
    assert send(node, photograph("XC", 1), photograph("ES", 2), photograph("SC", 3)) == [0, 0, 0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"] * 3)
    assert archive.requests == 3


def test_a_node_for_photographs_leaves_films_ultrasound_frames_and_its_own_pictures_alone(
    run_node, configure, archive, make_film, photograph, skin, send
):
    node = run_node(configure(archive, certificate__bundle=skin))
    ultrasound = photograph("XC", 4, SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1", Modality="US")
    own = photograph("SC", 5, SecondaryCaptureDeviceManufacturer="certdicom")
    assert send(node, make_film(), ultrasound, own, photograph("ES", 6, NumberOfFrames=2)) == [0] * 4
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["ignored"] * 4)
    assert set(outcomes(node)) == {
        "rules.sop_classes does not list Digital X-Ray Image Storage - For Presentation: bundle skin is for colour photographs",
        "rules.sop_classes does not list Ultrasound Image Storage",
        "this is a result that certdicom wrote: give the image that it was made of, or read it with certdicom info",
        "the image has 2 frames; only single images can be certified: send the frame that is meant",
    }
    assert archive.requests == 0


def test_a_photograph_passes_through_networks_of_three_channels(run_node, configure, archive, photograph, skin, send):
    import torch

    from certdicom.models.networks import build_network
    from certdicom.research.training.bundle import write_bundle as write_networks

    torch.manual_seed(5)
    segmenter = {"architecture": "UNet", "channels": 3, "structures": 1, "width": 4, "depth": 2, "padding": "zero"}
    description = json.loads((skin / "bundle.json").read_text())
    description |= {"networks": {"segmenter": segmenter}, "weights_sha256": {}, "sigma_range": [0.0, 1.0]}
    write_networks(skin.parent / "real", description=description, networks={"segmenter": build_network(segmenter)})
    configuration = configure(archive, certificate__bundle=skin.parent / "real", certificate__n="100", results__sc="true")
    bundle = load_bundle(configuration.certificate.bundle)
    node = run_node(configuration, PipelineCertifier(configuration, bundle, b"k" * 32))
    assert send(node, photograph("ES")) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"], 60)
    report = json.loads((node.spool.result(node.ledger.jobs()[0].job_id) / "report.json").read_text())
    assert (report["grid"], report["radius"]["native_unit"]) == ([48, 64], "RGB values")
