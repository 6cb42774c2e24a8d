"""The OpenVINO backend: it answers as PyTorch does, one image at a time, in the precision that is stated, without PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids
from certdicom.errors import BundleError, UsageError
from certdicom.models.backends import choice
from certdicom.models.backends.choice import choose_backend
from certdicom.models.backends.cores import cores
from certdicom.models.backends.export import export_bundle, export_network
from certdicom.models.backends.openvino import OpenVINOBackend
from certdicom.models.backends.torch import TorchBackend
from certdicom.models.bundle import DESCRIPTION, Bundle, load_bundle, shipped_bundles
from certdicom.models.description import program_file
from certdicom.models.program import Program, read_program
from tests.models.foreign_networks import describe, network
from tests.models.foreign_networks import exported as torch_exported
from tests.tiny import write_tiny_bundle

PARAMETERS = SmoothingParameters(sigma=0.1, n0=5, n=60)


def exported(bundle: Bundle, **changes) -> Bundle:
    """The bundle with `changes` in its description, and its programs."""
    path = bundle.folder / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    outcomes = export_bundle(bundle.folder)
    assert all("kB" in outcome for outcome in outcomes.values()), outcomes
    return load_bundle(bundle.folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported(write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny"))


def noisy(count: int, bundle: Bundle, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.3, (count, bundle.channels, *bundle.shape)).astype(np.float32)


def apart(bundle: Bundle, *, sigma: float = 0.1) -> float:
    """How far the logits of both backends are apart."""
    images = noisy(4, bundle)
    ours = OpenVINOBackend().base_segmenter(bundle, sigma=sigma).logits(images)
    theirs = TorchBackend(device="cpu").base_segmenter(bundle, sigma=sigma).logits(images.copy())
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


@pytest.mark.parametrize("method", ["one-shot", "direct", "segcertify"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_logits_are_those_of_pytorch(method: str, activation: str, tmp_path: Path) -> None:
    made = exported(write_tiny_bundle(tmp_path / "tiny", method=method, activation=activation, architecture="UNet"))
    assert apart(made) < 1e-4


@pytest.mark.parametrize(
    ("denoising", "reading"),
    [
        ({"prediction": "sample"}, {}),
        ({"prediction": "v_prediction"}, {"input": {"mirror": True}}),
        ({"factor": 2}, {"input": {"factor": 2}}),
        ({"factor": 2}, {"input": {"mean": [0.4], "std": [0.2]}}),
    ],
)
def test_whatever_stands_around_the_networks_is_in_the_program(denoising: dict, reading: dict, tmp_path: Path) -> None:
    plain = write_tiny_bundle(tmp_path / "tiny", grid=32)
    networks = json.loads((plain.folder / DESCRIPTION).read_text())["networks"]
    networks["segmenter"] |= reading
    made = exported(plain, denoising={"method": "one-shot", **denoising}, networks=networks)
    assert apart(made) < 1e-4


def test_one_program_serves_every_sigma(bundle: Bundle) -> None:
    for sigma in (0.02, 0.072, 0.25, 0.9):
        assert apart(bundle, sigma=sigma) < 1e-4


def test_bits_depend_on_no_batch_and_no_number_of_threads(bundle: Bundle) -> None:
    images = noisy(9, bundle)
    expected = OpenVINOBackend(threads=1).base_segmenter(bundle, sigma=0.1).logits(images)
    for threads in (1, 2, 3):
        logits = OpenVINOBackend(threads=threads).base_segmenter(bundle, sigma=0.1).logits
        for size in (1, 2, 5, 9):
            found = np.concatenate([logits(images[start : start + size].copy()) for start in range(0, 9, size)])
            assert np.array_equal(found, expected)


def test_certificates_are_those_of_pytorch(bundle: Bundle) -> None:
    u = np.random.default_rng(3).random((1, 16, 16)).astype(np.float32)
    found = [
        certify_grids([u], [backend.base_segmenter(bundle, sigma=0.1)], [PARAMETERS], seeds=[b"seed"], batch_size=7)[0][0].counts
        for backend in (OpenVINOBackend(), TorchBackend(device="cpu"))
    ]
    assert np.abs(found[0] - found[1]).max() <= 1


def test_the_segmenter_alone_and_what_is_shared(bundle: Bundle) -> None:
    backend = OpenVINOBackend()
    image = noisy(1, bundle)[0]
    assert np.array_equal(
        backend.clean_segmenter(bundle).decide_image(image), TorchBackend(device="cpu").clean_segmenter(bundle).decide_image(image)
    )
    first, second = (backend.base_segmenter(replace(bundle, thresholds=((0.1, (level, level)),)), sigma=0.1) for level in (0.0, -1.0))
    assert first.logits is second.logits  # so that a batch is computed once for both


def test_the_precision_is_asked_for_and_read_back(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []
    compile_model = openvino.Core.compile_model

    class Elsewhere:
        """A processor that computes in bfloat16, whatever is asked for."""

        def __init__(self, compiled: openvino.CompiledModel) -> None:
            self._compiled = compiled

        def get_property(self, name: str) -> object:
            return openvino.Type.bf16 if name == "INFERENCE_PRECISION_HINT" else self._compiled.get_property(name)

    def compiled(self: openvino.Core, model: object, device: str, hints: dict) -> Elsewhere:
        asked.append(hints)
        return Elsewhere(compile_model(self, model, device, hints))

    monkeypatch.setattr(openvino.Core, "compile_model", compiled)
    with pytest.raises(UsageError, match=r"computes the .* in bfloat16 where float32 was asked for"):
        OpenVINOBackend().base_segmenter(bundle, sigma=0.1)
    assert asked[0]["INFERENCE_PRECISION_HINT"] == openvino.Type.f32


def test_bfloat16_is_computed_or_refused(bundle: Bundle) -> None:
    backend = OpenVINOBackend(precision="bfloat16")
    assert backend.precision == "bfloat16"
    try:
        segmenter = backend.base_segmenter(bundle, sigma=0.1)
    except UsageError as error:
        assert "float32 where bfloat16 was asked for" in str(error)  # noqa: PT017  # which of both, the processor says
        return
    images = noisy(4, bundle)
    exact = OpenVINOBackend().base_segmenter(bundle, sigma=0.1).logits(images.copy())
    assert 0 < np.abs(segmenter.logits(images) - exact).max() < 0.5


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown precision 'float8'"):
        OpenVINOBackend(precision="float8")


@pytest.mark.parametrize("name", shipped_bundles())
def test_shipped_weights_lie_in_a_bundle_once(name: str) -> None:
    shipped = load_bundle(name)
    assert shipped.has_programs
    for role, home in shipped.homes.items():
        program = read_program(shipped, role)
        assert len(program.constants) < 20_000
        assert (home / program_file(role)).stat().st_size < 100_000
    assert isinstance(choose_backend([shipped], device="cpu"), OpenVINOBackend)


def test_a_program_that_is_damaged_or_of_something_else_is_refused(tmp_path: Path) -> None:
    made = exported(write_tiny_bundle(tmp_path / "tiny"))
    path = made.folder / program_file("segmenter")
    whole = path.read_bytes()
    for content in (whole[:-1], b"", whole[:50] + b"\0" + whole[51:]):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="is damaged: its SHA-256"):
            OpenVINOBackend().base_segmenter(made, sigma=0.1)
    path.unlink()
    with pytest.raises(BundleError, match="cannot read the program"):
        OpenVINOBackend().base_segmenter(made, sigma=0.1)
    path.write_bytes(whole)
    with pytest.raises(BundleError, match="differs in input: export it again"):
        OpenVINOBackend().base_segmenter(replace(made, input_spec=replace(made.input_spec, mirror=True)), sigma=0.1)
    for content in (b"PK", whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match=r"\w"):
            Program.from_bytes(content)


def test_exporting_again_gives_the_same_file(bundle: Bundle) -> None:
    assert export_network(bundle, "denoiser").to_bytes() == bundle.program("denoiser")


def test_forms_that_run_faster_are_in_use_and_stay_finite_on_flat_images(tmp_path: Path) -> None:
    """Group norms by channel means, and convolutions of repeated pixels: computed as PyTorch does, as the export itself checks."""
    made = exported(write_tiny_bundle(tmp_path / "tiny", grid=128))
    graph = read_program(made, "denoiser").graph.decode()
    assert 'type="ReduceMean"' in graph
    assert 'type="Interpolate"' not in graph, "the enlargement before a convolution is part of it"
    images = np.stack([np.full((1, 128, 128), level, np.float32) for level in (-3.0, 0.0, 0.5, 4.0)])
    assert np.isfinite(OpenVINOBackend().base_segmenter(made, sigma=0.1).logits(images)).all()
    assert apart(made) < 1e-4


def test_the_archive_is_the_same_for_the_same_program(bundle: Bundle) -> None:
    content = bundle.program("denoiser")
    assert Program.from_bytes(content).to_bytes() == content


def test_what_cannot_be_exported_is_left_to_pytorch_with_the_reason(tmp_path: Path) -> None:
    made = write_tiny_bundle(tmp_path / "tiny", method="multi-step")
    outcomes = export_bundle(made.folder)
    assert "called many times a draw (multi-step): it runs in PyTorch alone" in outcomes["denoiser"]
    assert "kB" in outcomes["segmenter"]
    found = load_bundle(made.folder)
    assert not found.has_programs
    assert isinstance(choose_backend([found]), TorchBackend)
    with pytest.raises(UsageError, match="holds no programs for OpenVINO, or not for multi-step denoising"):
        choose_backend([found], backend="openvino")


def test_the_backend_is_chosen_by_what_is_there(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write_tiny_bundle(tmp_path / "plain")
    assert isinstance(choose_backend([bundle], device="cpu"), OpenVINOBackend)
    assert isinstance(choose_backend([bundle, plain], device="cpu"), TorchBackend)
    assert isinstance(choose_backend([bundle], backend="torch", device="cpu"), TorchBackend)
    with pytest.raises(UsageError, match="unknown backend 'onnx'"):
        choose_backend([bundle], backend="onnx")
    with pytest.raises(UsageError, match="OpenVINO computes on the processor here, not on cuda"):
        choose_backend([bundle], backend="openvino", device="cuda")
    for missing, request, said in (
        ("torch", {"backend": "torch"}, "PyTorch was asked for, and PyTorch is not installed"),
        ("torch", {"device": "cuda"}, "device cuda was asked for, and PyTorch is not installed"),
        ("openvino", {"backend": "openvino"}, "OpenVINO was asked for and is not installed"),
    ):
        monkeypatch.setattr(choice, "find_spec", lambda name, missing=missing: None if name == missing else object())
        with pytest.raises(UsageError, match=said):
            choose_backend([bundle], **request)
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(UsageError, match=r"bundle plain holds no programs .* pip install 'certdicom"):
        choose_backend([plain], device="cpu")
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "openvino" else object())
    assert isinstance(choose_backend([bundle], device="cpu"), TorchBackend)


def test_a_container_with_a_share_of_the_cores_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = cores()
    for content, expected in (("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("99900000 100000", None)):
        monkeypatch.setattr(Path, "read_text", lambda _self, encoding, content=content: content)
        assert cores() == (expected or max(everything, cores()))


WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in {"torch", "monai", "diffusers", "safetensors", "SimpleITK"}
        return None if absent else PathFinder.find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
from certdicom.cli.main import main
code = main(sys.argv[1:])
print(sorted({"scipy.stats", "torch"} & set(sys.modules)))
sys.exit(code)
"""


def test_certifying_needs_no_pytorch(tmp_path: Path) -> None:
    from certdicom.imaging.synthetic import film_bytes, synthetic_film

    film = tmp_path / "film.dcm"
    film.write_bytes(film_bytes(synthetic_film(rows=300, columns=256, seed=1)[0]))
    extras = [f"--preview={tmp_path / 'p.png'}", f"--report={tmp_path / 'r.json'}", f"--sr={tmp_path / 'sr.dcm'}"]
    words = [str(film), "-o", str(tmp_path / "seg.dcm"), *extras, "--n0", "5", "--n", "80", "--accept-any", "--quiet"]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["backend"].startswith("OpenVINO ")
    assert report["precision"] == "float32"


@pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning")
def test_somebody_elses_graph_is_exported_too(tmp_path: Path) -> None:
    segmenter = {"format": "torch.export", "file": "net.pt2", "input": {"channels": 3}, "output": {"channels": 3}}
    folder = describe(tmp_path / "mine", segmenter=segmenter)
    (folder / "net.pt2").write_bytes(torch_exported(network(), torch.zeros(1, 3, 32, 32)))
    outcomes = export_bundle(folder)
    assert "kB" in outcomes["segmenter"], outcomes
    assert apart(load_bundle(folder)) < 1e-4


@pytest.mark.filterwarnings("ignore")  # NNCF's own
def test_a_bundle_in_int8_is_another_function_that_says_so(tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="int8 needs NNCF")
    from certdicom.models.backends.quantise import quantise_bundle

    made = exported(write_tiny_bundle(tmp_path / "tiny", grid=32, architecture="UNet"))
    images = noisy(4, made)
    exact = OpenVINOBackend().base_segmenter(made, sigma=0.1).logits(images)
    quantise_bundle(made, [*np.random.default_rng(0).random((6, 1, 32, 32), np.float32)])
    whole = load_bundle(made.folder)
    assert whole.sha256 != made.sha256
    backend = choose_backend([whole])
    assert choice.stated_precision(backend, whole) == "int8 with float32"
    error = np.abs(backend.base_segmenter(whole, sigma=0.1).logits(images.copy()) - exact)
    assert 0 < error.max() < np.ptp(exact)
    for wrong in ({"backend": "torch"}, {"device": "cuda"}):
        with pytest.raises(UsageError, match="computes in int8, which only OpenVINO runs"):
            choose_backend([whole], **wrong)
    with pytest.raises(BundleError, match="differs in integers"):
        OpenVINOBackend().base_segmenter(replace(whole, integers=None), sigma=0.1)
    export_bundle(made.folder)  # and back
    assert load_bundle(made.folder).integers is None
