"""All objects of one film, as the pipeline writes them: one study, one certificate, each pointing where it should."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.reading import read_radiograph
from certdicom.outputs import output_named
from certdicom.outputs.report_json import report_of
from certdicom.outputs.result import Result
from certdicom.outputs.writing import write_outputs


@pytest.fixture
def film(make_film, tmp_path):
    path = tmp_path / "film.dcm"
    make_film(rows=128, columns=112).save_as(path, enforce_file_format=True)
    return read_radiograph(path, accept_any=True)


@pytest.fixture
def certificate(make_certificate):
    decisions = np.zeros((3, 16, 16), np.uint8)
    decisions[0, 2:12, 2:14], decisions[1, 6:10, 5:11], decisions[:, 12] = PRESENT, PRESENT, ABSTAIN
    return make_certificate(decisions=decisions)


def test_they_lie_in_one_study_in_series_of_their_own(certificate, film, tmp_path):
    targets = {name: tmp_path / f"{name}.dcm" for name in ("seg", "sr", "sc", "radius_map", "radius_sc", "drawn_seg", "gsps")}
    result = Result(film, certificate)
    write_outputs(result, {output_named(name): path for name, path in targets.items()})
    written = {name: pydicom.dcmread(path) for name, path in targets.items()}
    assert [written[name].Modality for name in targets] == ["SEG", "SR", "OT", "OT", "OT", "SEG", "PR"]
    assert len({item.SeriesInstanceUID for item in (film.dataset, *written.values())}) == 8
    assert {item.StudyInstanceUID for item in written.values()} == {film.dataset.StudyInstanceUID}
    assert all("research use" in item.SeriesDescription for item in written.values())
    assert all(len(item.SeriesDescription) <= 64 for item in written.values())
    numbers = [int(item.SeriesNumber) for item in written.values()]
    assert [number // 100_000 for number in numbers] == [9001, 9002, 9003, 9004, 9005, 9006, 9007]
    assert len({number % 100_000 for number in numbers}) == 1
    evidence = written["sr"].CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referenced = {instance.ReferencedSOPInstanceUID for series in evidence for instance in series.ReferencedSOPSequence}
    assert written["seg"].SOPInstanceUID in referenced
    assert (written["radius_map"].Rows, written["radius_map"].Columns) == (film.rows, film.columns)
    assert {"seg_s", "sr_s", "sc_s", "radius_map_s", "gsps_s"} <= set(report_of(result)["timing"])


@pytest.mark.parametrize("name", ["sr", "sc", "radius_map", "radius_sc", "drawn_seg", "gsps"])
def test_each_is_written_alone_too(certificate, film, tmp_path, name):
    path = tmp_path / "alone.dcm"
    Result(film, certificate).save(path, kind=name)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["alone.dcm", "film.dcm"]
    assert pydicom.dcmread(path).StudyInstanceUID == film.dataset.StudyInstanceUID
