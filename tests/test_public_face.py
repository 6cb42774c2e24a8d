"""The names and signatures that people build on, what they show of themselves, and that it names no patient."""

from __future__ import annotations

import inspect
import json
import re
import traceback
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

import certdicom as cd
import certdicom.certification
from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from tests.tiny import write_tiny_bundle

NAMES = {
    "Bundle", "BundleError", "CertdicomError", "Certificate", "Certifier", "Computation", "ImageRefusedError", "NoImageError",
    "OutputError", "Photograph",
    "Radiograph", "Result", "Smoothed", "SmoothingParameters", "UnreadableError", "UsageError", "__version__", "certify", "load_bundle",
    "read_image", "read_radiograph", "write_segmentation",
}  # fmt: skip
PRIVATE = {"PatientName": "Zwiebelfisch^Querulant", "PatientID": "PID_4711_SECRET", "PatientBirthDate": "19530217"}
FEW = cd.SmoothingParameters(sigma=0.1, n0=5, n=60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").folder


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset, _ = synthetic_film(rows=160, columns=128)
    for keyword, value in PRIVATE.items():
        setattr(dataset, keyword, value)
    path = tmp_path_factory.mktemp("films") / "film.dcm"
    path.write_bytes(film_bytes(dataset))
    return path


@pytest.fixture(scope="module")
def certifier(bundle: Path) -> cd.Certifier:
    return cd.Certifier(bundle, FEW, cd.Computation(device="cpu", precision="float32", site_key=b"the key of a site"))


@pytest.fixture(scope="module")
def result(certifier: cd.Certifier, film: Path) -> cd.Result:
    return certifier.certify(film, accept_any=True)


def test_the_public_names_are_these() -> None:
    assert set(cd.__all__) == NAMES
    assert dir(cd) == sorted(NAMES)
    for name in cd.__all__:
        assert getattr(cd, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'certfy'"):
        _ = cd.certfy


def test_the_signatures_take_what_they_promise() -> None:
    assert list(inspect.signature(cd.certify).parameters)[:3] == ["image", "bundle", "parameters"]
    assert list(inspect.signature(cd.write_segmentation).parameters)[:3] == ["result", "image", "path"]
    assert next(iter(inspect.signature(cd.read_radiograph).parameters)) == "source"
    parameters = inspect.signature(certdicom.certification.certify_grid).parameters
    assert list(parameters)[:3] == ["u", "decide", "parameters"]
    assert parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["batch_size"].default == 16


def test_the_snippet_of_the_first_edition_runs_unchanged(film: Path, bundle: Path, tmp_path: Path) -> None:
    from certdicom import SmoothingParameters, certify, load_bundle, read_radiograph, write_segmentation

    film = read_radiograph(film, accept_any=True)
    certificate = certify(film, load_bundle(bundle), SmoothingParameters(sigma=0.25), accept_any=True)
    assert certificate.decisions.dtype == np.uint8
    assert certificate.radius == pytest.approx(0.1686, abs=1e-4)
    assert certificate.native_radius > certificate.radius
    assert 0 <= certificate.abstain_fraction <= 1
    write_segmentation(certificate, film, tmp_path / "seg.dcm")
    write_segmentation(certificate.certificate, film, tmp_path / "the same.dcm")
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("seg.dcm", "the same.dcm"))
    assert first.Modality == "SEG"
    assert first.PixelData == second.PixelData


def test_a_path_its_bytes_a_data_set_and_an_image_are_certified_alike(certifier: cd.Certifier, result: cd.Result, film: Path) -> None:
    for image in (str(film), film.read_bytes(), pydicom.dcmread(film), cd.read_image(film, accept_any=True)):
        assert np.array_equal(certifier.certify(image, accept_any=True).decisions, result.decisions)
    with pytest.raises(cd.UsageError, match=r"set file_meta\.TransferSyntaxUID"):
        certifier.certify(pydicom.Dataset())
    with pytest.raises(cd.UsageError, match="sigma is given twice"):
        cd.Certifier(certifier.bundle, FEW, sigma=0.1)


def test_the_networks_are_loaded_once_for_calls_that_ask_for_the_same(film: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certdicom.models.backends import torch as backend

    loaded = []
    load = backend.load_network
    monkeypatch.setattr(backend, "load_network", lambda *arguments, **ways: loaded.append(arguments[1]) or load(*arguments, **ways))
    for _ in range(3):
        cd.certify(film, bundle, FEW, accept_any=True)
    assert sorted(loaded) == ["denoiser", "segmenter"]
    cd.certify(film, bundle, sigma=0.2, accept_any=True)
    assert len(loaded) == 4


def test_a_result_has_its_masks_on_the_film(result: cd.Result) -> None:
    decisions = result.decisions
    assert decisions.shape == (2, 160, 128)
    assert not decisions.flags.writeable
    assert np.array_equal(result.mask("heart"), decisions[1] == PRESENT)
    assert np.array_equal(result.mask(0), decisions[0] == PRESENT)
    assert np.array_equal(result.abstained, (decisions == ABSTAIN).any(0))
    assert result.certificate.decisions.shape == (2, 16, 16)
    with pytest.raises(cd.UsageError, match="no structure 'hart': did you mean 'heart'"):
        result.mask("hart")


def test_a_result_is_saved_by_name_or_kind_and_never_over_a_file(result: cd.Result, tmp_path: Path) -> None:
    assert pydicom.dcmread(result.save(tmp_path / "a.dcm")).Modality == "SEG"
    assert pydicom.dcmread(result.save(tmp_path / "map.dcm", kind="radius-map")).SOPClassUID.name == "Parametric Map Storage"
    assert json.loads(result.save(tmp_path / "a.json").read_bytes())["bundle"]["name"] == "tiny"
    assert result.save(tmp_path / "a.jpg").read_bytes().startswith(b"\xff\xd8")
    with pytest.raises(cd.OutputError, match="exists already"):
        result.save(tmp_path / "a.dcm")


def test_a_result_is_converted_to_what_other_libraries_take(result: cd.Result) -> None:
    from monai.data.meta_tensor import MetaTensor

    assert np.array_equal(np.asarray(result.to_highdicom().pixel_array)[0].astype(bool), result.mask(0))
    image = result.to_sitk()
    assert np.array_equal(np.moveaxis(sitk.GetArrayFromImage(image)[0], -1, 0), result.decisions)
    tensor = result.to_metatensor()
    assert isinstance(tensor, MetaTensor)
    assert np.array_equal(tensor.numpy(), result.decisions)
    assert tensor.meta["structures"] == ("lungs", "heart")
    assert np.diag(tensor.affine)[:2].tolist() == [image.GetSpacing()[1], image.GetSpacing()[0]]


def test_certify_many_goes_on_after_what_is_refused(certifier: cd.Certifier, film: Path, tmp_path: Path) -> None:
    (tmp_path / "none.dcm").write_bytes(b"no film")
    refused = []
    images = [tmp_path / "none.dcm", film, tmp_path / "missing.dcm"]
    results = list(certifier.certify_many(images, accept_any=True, refused=lambda image, error: refused.append((image.name, type(error)))))
    assert [item.image.rows for item in results] == [160]
    assert refused == [("none.dcm", cd.NoImageError), ("missing.dcm", cd.UnreadableError)]
    with pytest.raises(cd.ImageRefusedError):
        list(certifier.certify_many(images, accept_any=True))


def test_certify_many_in_processes_gives_and_writes_what_it_does_in_one(certifier: cd.Certifier, film: Path, tmp_path: Path) -> None:
    """In the order of the images, whatever they are given as; all but the times of the files is the same."""
    (tmp_path / "none.dcm").write_bytes(b"no film")
    other = film_bytes(synthetic_film(rows=96, columns=128)[0])
    images = [film, tmp_path / "none.dcm", other, pydicom.dcmread(film), cd.read_image(film)]
    written, found, moved = [], [], []
    for processes in (1, 2):
        folder, numbers = tmp_path / str(processes), iter("abcde")
        folder.mkdir()
        refused = []
        results = certifier.certify_many(
            images,
            accept_any=True,
            refused=lambda _image, error, said=refused: said.append(str(error)),
            save=lambda _image, folder=folder, numbers=numbers: {
                "seg": folder / (name := next(numbers)),
                "radius-map": folder / f"{name}.map",
                "report": folder / f"{name}.json",
            },
            progress=lambda done, total: moved.append((done, total)),
            processes=processes,
        )
        rest = [
            (r.certificate.counts.tobytes(), r.certificate.draw_identity, r.certificate.notes, r.image.stored_values.tobytes())
            for r in results
        ]
        found.append((rest, refused))
        written.append({path.name: without_times(path) for path in sorted(folder.iterdir())})
    assert found[0] == found[1]
    assert written[0] == written[1]
    assert len(written[0]) == 12
    assert moved.count((65, 65)) == 8


def without_times(path: Path) -> object:
    if path.suffix == ".json":
        return {name: value for name, value in json.loads(path.read_bytes()).items() if name != "timing"}
    dataset = pydicom.dcmread(path)
    for element in list(dataset.iterall()):
        if element.VR in ("DA", "TM", "DT"):
            element.value = None
    return dataset.to_json()


def test_what_comes_out_of_another_process_is_a_whole_result(certifier: cd.Certifier, film: Path, tmp_path: Path) -> None:
    (result,) = certifier.certify_many([film], accept_any=True, processes=2)
    result.save(tmp_path / "seg.dcm")
    report = json.loads(result.encode("report"))
    assert {"read_s", "grid_s", "waiting_s", "draws_s", "total_s"} <= report["timing"].keys()
    assert report["timing"]["total_s"] >= report["timing"]["draws_s"]
    with pytest.raises(cd.OutputError, match="exists already"):
        list(certifier.certify_many([film], accept_any=True, save=lambda _: {"seg": tmp_path / "seg.dcm"}, processes=2))
    with pytest.raises(cd.UsageError, match="processes must be at least 1"):
        list(certifier.certify_many([film], processes=0))


def test_a_notebook_shows_the_picture_and_the_shares(result: cd.Result) -> None:
    shown = result._repr_html_()
    assert shown.startswith('<img style="max-width:100%" src="data:image/png;base64,iVBOR')
    assert re.search(r"<td>lungs</td><td>\d+\.\d%</td><td>\d+\.\d%</td><td>\d+\.\d%</td>", shown)


def public_objects(certifier: cd.Certifier, result: cd.Result) -> list[object]:
    model = cd.Smoothed(lambda images: images, sigma=0.1, device="cpu")
    return [
        result, result.image, result.certificate, certifier, certifier.bundle, certifier.parameters, certifier.computation, model,
        model.certify(np.zeros((1, 8, 8), np.float32)), *result.certificate.structures, result.certificate.window, result.stopwatch,
        cd.ImageRefusedError("no"), result.image.rendering,
    ]  # fmt: skip


def test_what_is_shown_of_objects_is_a_short_line_that_names_no_patient(certifier: cd.Certifier, result: cd.Result) -> None:
    assert str(result.image.dataset.PatientName) == PRIVATE["PatientName"]
    for item in public_objects(certifier, result):
        for shown in (repr(item), str(item)):
            assert len(shown) <= 250, shown
            assert "\n" not in shown
            assert not any(word in shown for word in ("Zwiebelfisch", "Querulant", "4711", "19530217", "the key of a site")), shown


def test_a_traceback_with_local_variables_names_no_patient(certifier: cd.Certifier, result: cd.Result) -> None:
    def fail(draws: int, total: int) -> None:
        raise RuntimeError("somebody's callback")

    try:
        certifier.certify(result.image, accept_any=True, progress=fail)
    except RuntimeError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "somebody's callback" in text
    assert not any(word in text for word in ("Zwiebelfisch", "Querulant", "4711", "19530217", "the key of a site"))


def test_the_core_certifies_any_decision_function() -> None:
    result = certdicom.certification.certify_grid(
        np.zeros((2, 12, 10), np.float32),
        lambda batch: batch.mean(1, keepdim=True).expand(-1, 3, -1, -1) > -5,
        cd.SmoothingParameters(sigma=0.25, n0=10, n=100, alpha=1e-3),
        seed=b"any bytes",
        batch_size=16,
    )
    assert result.decisions.shape == (3, 12, 10)
    assert result.decisions.dtype == np.uint8
    assert result.counts.dtype == np.int32
    assert (result.decisions == 1).all()
