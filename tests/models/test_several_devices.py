"""Devices that share the draws of each image: the counts of one, bit for bit, and a certificate that names them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.batches import Batch, Part
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids
from certdicom.errors import BundleError, UsageError
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.backends.base import Backend
from certdicom.models.backends.choice import choose_backend
from certdicom.models.backends.export import export_bundle
from certdicom.models.backends.openvino import OpenVINOBackend
from certdicom.models.backends.several import SeveralDevices
from certdicom.models.backends.torch import TorchBackend
from certdicom.models.backends.ways import Way
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.pipeline import Certifier
from tests.tiny import write_tiny_bundle

ASKED = SmoothingParameters(sigma=0.1, n0=5, n=75, looks=(60, 75), unions=((0, 1),))
BACKENDS = {"torch": lambda: TorchBackend(device="cpu", precision="float32"), "openvino": lambda: OpenVINOBackend(threads=1)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").folder
    export_bundle(folder)
    return replace(load_bundle(folder), thresholds=((0.1, (0.02, -0.03)),))


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 16, 16), np.float32)


def counted(segmenters: list[BaseSegmenter], *, batch_size: int) -> list[np.ndarray]:
    """All that is decided about two images."""
    results = certify_grids([image(0), image(1)], segmenters, [ASKED] * len(segmenters), seeds=[b"a", b"b"], batch_size=batch_size)
    return [array for of_image in results for r in of_image for array in (r.counts, r.decisions, r.unions.counts, np.array(r.draws))]


@pytest.mark.parametrize("kind", list(BACKENDS))
def test_two_devices_count_what_one_counts(bundle: Bundle, kind: str) -> None:
    """Whatever the batch and the block, images of which one may stop before the other, and a segmenter at other thresholds beside it."""
    make: Callable[[], Backend] = BACKENDS[kind]

    def segmenters(backend: Backend) -> list[BaseSegmenter]:
        own = backend.base_segmenter(bundle, sigma=0.1)
        return [own, replace(own, thresholds=(-0.1, 0.1))]

    expected = counted(segmenters(make()), batch_size=10)
    assert not np.array_equal(expected[0], expected[4]), "thresholds are looked at"
    for batch_size, block in ((7, 1), (160, 3)):
        several = SeveralDevices([make(), make()], block=block)
        found = counted(segmenters(several), batch_size=batch_size)
        assert all(np.array_equal(one, two) for one, two in zip(expected, found, strict=True))
    assert several.device == "cpu,cpu"
    assert several.devices == 2


class _Counting(Backend):
    """A device that notes which draws it is given; with every pixel above 0.5 present."""

    device, precision, name = "cpu", "float32", "notes"

    def __init__(self) -> None:
        self.given: list[list[tuple[int, int]]] = []

    def base_segmenter(self, bundle, *, sigma, adapter=None):
        given = self.given

        class Noting(BaseSegmenter):
            def count(self, batch, unions):
                given.append([(part.image, draw) for part, draw in batch.draws])
                return super().count(batch, unions)

        return Noting(logits=lambda noisy: noisy - 0.5, thresholds=(0.0,))

    clean_segmenter = base_segmenter


@pytest.mark.parametrize(
    ("draws", "shares"),
    [(20, [10, 10]), (16, [10, 6]), (40, [20, 20]), (35, [20, 15]), (9, [9])],
)
def test_each_device_gets_whole_blocks_in_a_row(draws: int, shares: list[int]) -> None:
    devices = [_Counting(), _Counting()]
    segmenter = SeveralDevices(devices, block=10).base_segmenter(None, sigma=0.1)
    half = draws // 2
    parts = (Part(0, image(0), b"a", range(3, 3 + half)), Part(1, image(1), b"b", range(draws - half)))
    batch = Batch(0.1, parts)
    votes = segmenter.count(batch, ())
    assert [len(given) for device in devices for given in device.given] == shares
    assert [draw for device in devices for given in device.given for draw in given] == [(part.image, draw) for part, draw in batch.draws]
    expected = [
        (np.stack([entry for (part, _), entry in zip(batch.draws, batch.noisy, strict=True) if part is own]) > 0.5).sum(0) for own in parts
    ]
    assert np.array_equal(votes, expected)


def test_an_error_of_any_device_is_an_error(bundle: Bundle) -> None:
    devices = [BACKENDS["torch"](), BACKENDS["torch"]()]
    damaged = devices[1].base_segmenter(bundle, sigma=0.1)
    devices[1].base_segmenter = lambda *_, **__: replace(damaged, logits=lambda noisy: damaged.logits(noisy) * np.inf)
    with pytest.raises(BundleError, match="not finite"):
        counted([SeveralDevices(devices).base_segmenter(bundle, sigma=0.1)], batch_size=10)


def test_the_certificate_names_all_devices(bundle: Bundle) -> None:
    film = film_bytes(synthetic_film(rows=96, columns=64)[0])
    results = []
    for backend in (BACKENDS["torch"](), SeveralDevices([BACKENDS["torch"](), BACKENDS["torch"]()])):
        certifier = Certifier(bundle, replace(ASKED, n=200, looks=()))
        certifier._seed = lambda _image: (b"seed" * 8, "site-key")
        certifier._loaded = backend, backend.base_segmenter(bundle, sigma=0.1)
        results.append(certifier.certify(film))
    one, two = (result.certificate for result in results)
    assert (one.device, two.device) == ("cpu", "cpu,cpu")
    assert np.array_equal(one.counts, two.counts)
    assert results[0].encode("report") != results[1].encode("report")


@pytest.mark.parametrize("device", ["cuda:0,cuda:0", "cpu,cpu", "cuda:0,cpu", "cuda,cuda:1", "cuda:0,"])
def test_a_list_that_is_none_of_gpus_is_refused(bundle: Bundle, device: str) -> None:
    with pytest.raises(UsageError, match="several devices must be different GPUs, as cuda:0,cuda:1"):
        choose_backend([bundle], device=device)


def test_gpus_that_are_not_there_are_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    for device in ("cuda:all", "cuda:0,cuda:1"):
        with pytest.raises(UsageError, match="sees no CUDA device"):
            choose_backend([bundle], device=device)
    with pytest.raises(UsageError, match="OpenVINO computes on the processor"):
        choose_backend([bundle], backend="openvino", device="cuda:all")


@pytest.mark.parametrize("kinds", [("A", "A"), ("A", "B")])
def test_gpus_of_one_kind_are_one_backend_and_others_are_refused(
    bundle: Bundle, kinds: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed to see how they are put together."""

    class Gpu(_Counting):
        def __init__(self, *, device: str, precision: str) -> None:
            super().__init__()
            self.device, self.precision, self.images_at_once = device, precision, 8
            self.way = Way(images_a_call=11)

    monkeypatch.setattr("certdicom.models.backends.torch.TorchBackend", Gpu)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: kinds[int(device[-1])])
    for request in ("cuda:all", "cuda:0, cuda:1"):
        if kinds == ("A", "B"):
            with pytest.raises(UsageError, match="A and B may round differently"):
                choose_backend([bundle], device=request)
        else:
            backend = choose_backend([bundle], device=request)
            assert (backend.device, backend.devices, backend.images_at_once) == ("cuda:0,cuda:1", 2, 16)


def test_devices_that_compute_differently_are_refused() -> None:
    with pytest.raises(UsageError, match="must compute alike"):
        SeveralDevices([TorchBackend(device="cpu", precision="float32"), TorchBackend(device="cpu", precision="bfloat16")])
