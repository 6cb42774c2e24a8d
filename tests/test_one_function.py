"""From a film to its decisions there is one way: the product, the evaluation, any batch size and a second reading agree bit for bit."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Certificate
from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.main import main
from certdicom.imaging.grid import to_grid
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import film_bytes, synthetic_film, write_film
from certdicom.models.backends.torch import TorchBackend
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.pipeline import Certifier, Computation
from tests.tiny import CODES, write_tiny_bundle

SEED = b"one seed for both, thirty-two by"
FEW = ("--n0", "5", "--device", "cpu", "--precision", "float32")
PARAMETERS = SmoothingParameters(sigma=0.1, n0=5, n=60)


def with_thresholds(bundle: Bundle, film: Path) -> Bundle:
    """The bundle with thresholds at which each structure is present on half of the film, so that all kinds of decisions occur."""
    base = TorchBackend(device="cpu", precision="float32").base_segmenter(bundle, sigma=0.1)
    u = to_grid(read_radiograph(film), bundle.shape).u
    logits = base.logits(np.stack([u + np.float32(0.1) * np.random.default_rng(0).standard_normal(u.shape, np.float32)]))
    if bundle.activation == "softmax":
        logits = np.stack([logits[:, own] - np.delete(logits, own, axis=1).max(1) for own in range(1, logits.shape[1])], 1)
    levels = [float(np.median(plane)) for plane in logits[0]]
    assert all(abs(level) > 1e-3 for level in levels), "thresholds that change nothing test nothing"
    path = bundle.folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "thresholds": [[0.1, levels]]}))
    return load_bundle(bundle.folder)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "film.dcm"
    path.parent.mkdir()
    write_film(synthetic_film(rows=96, columns=80)[0], path)
    return path


def run(*words: object) -> tuple[int, str]:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main([str(word) for word in words])
    return code, err.getvalue()


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_film_and_an_evaluation_decide_refuse_and_count_alike(
    activation: str, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`certdicom FILE` and `certdicom evaluate`, both with thresholds and with the same seed."""
    from certdicom import pipeline
    from certdicom.research.evaluation import run as evaluation

    bundle = with_thresholds(write_tiny_bundle(tmp_path / "tiny", activation=activation), film)
    results: dict[str, list] = {}

    def noting(name: str, function: Callable) -> Callable:
        def noted(*args, **options):
            found = function(*args, **options)
            results.setdefault(name, []).append(found[0][0])
            return found

        return noted

    monkeypatch.setattr(pipeline, "certify_grids", noting("film", pipeline.certify_grids))
    monkeypatch.setattr(evaluation, "certify_grids", noting("evaluate", evaluation.certify_grids))
    monkeypatch.setattr(pipeline, "derive_seed", lambda *_, **__: (SEED, "site-key"))
    monkeypatch.setattr(evaluation, "seed_of", lambda name: SEED)
    common = ("--bundle", bundle.folder, "--sigma", "0.1", *FEW)
    seg, report = film.with_name("seg.dcm"), tmp_path / "report.json"
    assert run(film, "-o", seg, "--report", report, "--n", "60", "--quiet", "--accept-any", *common)[0] == 0
    assert run("evaluate", "--data", film.parent, "--split", "all", "--n", "60", *common)[0] == 0
    ((one,), (other,)) = results["film"], results["evaluate"]
    assert {ABSENT, PRESENT, ABSTAIN} == set(np.unique(one.decisions))
    for name in ("decisions", "counts", "selected", "draws"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert json.loads(report.read_text())["hypotheses"] == one.decisions.size == 2 * 16 * 16
    refusals = [
        run(film, "-o", tmp_path / "no.dcm", "--n", "44", "--quiet", "--accept-any", *common),
        run("evaluate", "--data", film.parent, "--split", "all", "--n", "44", *common),
    ]
    assert refusals[0] == refusals[1]
    assert refusals[0][0] == 2
    assert "n = 44 draws cannot certify any of 512 decisions" in refusals[0][1]


def certificate_of(
    film: bytes, bundle: Bundle, parameters: SmoothingParameters = PARAMETERS, *, key: bytes | None = b"the key of a site", **options
) -> Certificate:
    computation = Computation(**{"device": "cpu", "precision": "float32", "site_key": key, **options})
    return Certifier(bundle, parameters, computation).certify(read_radiograph(film), accept_any=True).certificate


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def test_the_batch_changes_no_bit_under_a_site_key(film: Path, bundle: Bundle, tmp_path: Path) -> None:
    """Through the command line: the same SEG, pixel for pixel and by its UID, and the same radius map."""
    key = tmp_path / "key"
    key.write_text(os.urandom(32).hex())
    seen = []
    for batch in (1, 7, 10, 64):
        seg, radii = tmp_path / f"{batch}.dcm", tmp_path / f"{batch}.radius.dcm"
        words = ("--bundle", bundle.folder, "--sigma", "0.1", "--n", "60", *FEW, "--quiet", "--accept-any", "--site-key", key)
        assert run(film, "-o", seg, "--radius-map", radii, "--batch", batch, *words)[0] == 0
        written, mapped = dcmread(seg), dcmread(radii)
        seen.append((written.SOPInstanceUID, written.PixelData, mapped.SOPInstanceUID, mapped.FloatPixelData))
    assert all(other == seen[0] for other in seen)


def test_the_seed_depends_on_pixels_bundle_and_parameters(bundle: Bundle, tmp_path: Path) -> None:
    """Each of them alone gives other draws. Either mutation, a seed without pixels or without parameters, fails here."""
    dataset, _ = synthetic_film(rows=96, columns=80)
    draws = {"as it is": certificate_of(film_bytes(dataset), bundle).draw_identity}
    pixels = dataset.pixel_array.copy()
    pixels[40, 40] += 1
    nudged, _ = synthetic_film(rows=96, columns=80)
    nudged.PixelData = pixels.tobytes()
    draws["another pixel"] = certificate_of(film_bytes(nudged), bundle).draw_identity
    other = write_tiny_bundle(tmp_path / "other", seed=5)
    draws["another bundle"] = certificate_of(film_bytes(dataset), other).draw_identity
    draws["another key"] = certificate_of(film_bytes(dataset), bundle, key=b"the key of another site").draw_identity
    looks = {"looks": (55, 60)}
    changes = (
        {"sigma": 0.11},
        {"tau": 0.7},
        {"n0": 6},
        {"n": 61},
        {"alpha": 2e-3},
        looks,
        {**looks, "abstain_target": 0.1},
        {"unions": ((0, 1),)},
    )
    for change in changes:
        draws[str(change)] = certificate_of(film_bytes(dataset), bundle, replace(PARAMETERS, **change)).draw_identity
    assert len(set(draws.values())) == len(draws) == 12, draws


def test_the_seed_knows_nothing_else(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else were in it would be a second roll of the dice: batch, precision, threads, window, header, version."""
    dataset, _ = synthetic_film(rows=96, columns=80)
    first = certificate_of(film_bytes(dataset), bundle)
    others = [certificate_of(film_bytes(dataset), bundle, batch_size=3), certificate_of(film_bytes(dataset), bundle, precision="bfloat16")]
    dataset.PatientName, dataset.StationName, dataset.SOPInstanceUID = "Another^Name", "ELSEWHERE", "2.25.7"
    others.append(certificate_of(film_bytes(dataset), bundle))
    dataset.WindowCenter, dataset.WindowWidth = 1500, 2000
    windowed = certificate_of(film_bytes(dataset), bundle)
    assert windowed.window != first.window
    assert not np.array_equal(windowed.counts, first.counts)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads < 3 else 1)
        others.append(certificate_of(film_bytes(synthetic_film(rows=96, columns=80)[0]), bundle))
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr("certdicom.version.VERSION", "99")
    others.append(certificate_of(film_bytes(synthetic_film(rows=96, columns=80)[0]), bundle))
    assert {other.draw_identity for other in (*others, windowed)} == {first.draw_identity}
    assert all(np.array_equal(other.counts, first.counts) for other in (others[0], others[2], others[3], others[4]))


def test_a_film_changed_within_its_native_radius_and_read_again_keeps_its_certified_decisions(bundle: Bundle) -> None:
    """From stored values on: write the changed film, read it as any film, and certify it with other draws.

    A uniform change attains ‖A‖ where the grid divides the film, so that the bound is seen to be tight; the others are random, on a few
    pixels, and on one cell. Whole numbers, the window from the header.
    """
    dataset, _ = synthetic_film(rows=96, columns=80)
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    original = film_bytes(dataset)
    first = certificate_of(original, bundle, replace(PARAMETERS, n=150), key=None)
    assert (first.decisions != ABSTAIN).mean() > 0.2
    u = to_grid(read_radiograph(original), bundle.shape).u.astype(np.float64)
    stored, random = dataset.pixel_array.astype(np.int64), np.random.default_rng(0)
    few, cell = np.zeros(stored.shape), np.zeros(stored.shape)
    few[random.integers(0, 96, 9), random.integers(0, 80, 9)] = 1.0
    cell[48:54, 40:45] = 1.0
    ratios = []
    for direction in (np.ones(stored.shape), random.normal(size=stored.shape), few, cell):
        for sign in (1, -1):
            delta = np.trunc(sign * direction / np.linalg.norm(direction) * first.native_radius).astype(np.int64)
            changed = np.clip(stored + delta, 0, 4095)
            assert 0 < np.linalg.norm(changed - stored) <= first.native_radius
            again, _ = synthetic_film(rows=96, columns=80)
            again.WindowCenter, again.WindowWidth = 2048, 4096
            again.PixelData = changed.astype(dataset.pixel_array.dtype).tobytes()
            content = film_bytes(again)
            moved = to_grid(read_radiograph(content), bundle.shape).u.astype(np.float64) - u
            ratios.append(np.linalg.norm(moved) / first.radius)
            second = certificate_of(content, bundle, replace(PARAMETERS, n=150), key=None)
            flipped = (first.decisions != ABSTAIN) & (second.decisions != ABSTAIN) & (first.decisions != second.decisions)
            assert not flipped.any()
    assert 0.9 < max(ratios) <= 1.0


def test_a_network_that_gives_nan_is_a_bundle_error_and_nothing_is_written(film: Path, tmp_path: Path) -> None:
    """Exported, finite on the images that are tried when it is loaded, and NaN where noise makes the image negative."""

    class Logarithm(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.log(x + 1e-3), -x], dim=1)

    folder = tmp_path / "mine"
    folder.mkdir()
    torch.export.save(torch.export.export(Logarithm(), (torch.rand(1, 1, 16, 16),)), folder / "net.pt2")
    fields = {
        "format": 1,
        "name": "mine",
        "grid": 16,
        "channels": 1,
        "structures": [{"label": label, "code": CODES[label]} for label in ("lungs", "heart")],
        "sigma_range": [0.01, 1.0],
        "networks": {"segmenter": {"format": "torch.export", "file": "net.pt2"}},
    }
    (folder / "bundle.json").write_text(json.dumps(fields))
    files = sorted(path.name for path in film.parent.iterdir())
    common = ("--bundle", folder, "--sigma", "0.5", "--n", "60", *FEW)
    code, said = run(film, "-o", film.with_name("seg.dcm"), "--report", film.with_name("r.json"), "--quiet", "--accept-any", *common)
    assert code == 2
    assert said.count("\n") == 1
    assert "logits that are not finite in draw 0" in said
    assert sorted(path.name for path in film.parent.iterdir()) == files
