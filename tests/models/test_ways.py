"""The ways of calling networks on devices, walked on the CPU: calls of one shape, filled across films; feature maps keep their order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids
from certdicom.models.backends.torch import TorchBackend, load_denoiser, load_network
from certdicom.models.backends.ways import LARGE_GPU, PROCESSOR, SMALL_GPU, Way, way_of
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.models.networks.layout import GroupNorm, laid_out
from certdicom.models.networks.residual_unet import ResidualUNet
from tests.tiny import write_tiny_bundle

PARAMETERS = SmoothingParameters(sigma=0.1, n0=5, n=60)
TOGETHER = Way(images_a_call=11, layout="channels-last")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Kernels that share a batch out over threads round by place; one thread does not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 16, 16), np.float32)


def segmenter_of(bundle: Bundle, way: Way) -> BaseSegmenter:
    return TorchBackend(device="cpu", precision="float32", way=way).base_segmenter(bundle, sigma=0.1)


@pytest.mark.parametrize(
    "more", [{}, {"looks": (52, 55, 60), "abstain_target": 0.2}, {"looks": (50, 60), "unions": ((0, 1),)}, {"n": 120, "n0": 1}], ids=str
)
@pytest.mark.usefixtures("one_thread")
def test_a_film_gets_the_same_bits_alone_and_among_others(bundle: Bundle, more: dict) -> None:
    parameters = replace(PARAMETERS, **more)
    images, seeds = [image(index) for index in range(4)], [b"film %d" % index for index in range(4)]
    segmenter = segmenter_of(bundle, TOGETHER)
    among = certify_grids(images, [segmenter], [parameters], seeds=seeds, batch_size=30)
    for u, seed, (one,) in zip(images, seeds, among, strict=True):
        ((alone,),) = certify_grids([u], [segmenter], [parameters], seeds=[seed], batch_size=11)
        for name in ("decisions", "counts", "selected", "draws"):
            assert np.array_equal(getattr(one, name), getattr(alone, name)), name
        assert (one.unions is None) is (alone.unions is None)
        if one.unions and alone.unions:
            assert np.array_equal(one.unions.counts, alone.unions.counts)


def test_calls_are_filled_with_draws_of_later_stages_and_of_other_films() -> None:
    """65 draws of a film and calls of 11 images: 6 calls for one film, where n0 = 5 and n = 60 would take 1 + 6 by themselves."""
    calls: list[int] = []
    base = BaseSegmenter(lambda noisy: (calls.append(len(noisy)), noisy)[1], (0.5,), images_a_call=11)
    certify_grids([image(0)], [base], [PARAMETERS], seeds=[b"a"], batch_size=1)
    assert calls == [11] * 5 + [10]
    calls.clear()
    certify_grids([image(index) for index in range(11)], [base], [PARAMETERS], seeds=[b"%d" % index for index in range(11)], batch_size=30)
    assert calls == [33, 22, *[33] * 20], "batches are whole numbers of calls"


def test_draws_made_before_their_turn_are_counted_where_they_belong() -> None:
    """Looks at 50 and 60 of calls of 11 and 64 images: counts, selection and stops are those of single draws."""
    parameters = replace(PARAMETERS, sigma=0.3, looks=(50, 60), abstain_target=0.3)
    images, seeds = [image(index) for index in range(3)], [b"film %d" % index for index in range(3)]
    results = [
        certify_grids(
            images,
            [BaseSegmenter(lambda noisy: noisy - np.float32(0.5), (0.0,), images_a_call=call)],
            [parameters],
            seeds=seeds,
            batch_size=7,
        )
        for call in (1, 11, 64)
    ]
    for others in results[1:]:
        for (one,), (other,) in zip(results[0], others, strict=True):
            assert np.array_equal(one.counts, other.counts)
            assert np.array_equal(one.decisions, other.decisions)
            assert one.draws == other.draws


def test_a_certificate_names_the_way(bundle: Bundle) -> None:
    assert TorchBackend(device="cpu").name == f"PyTorch {torch.__version__}"
    assert TorchBackend(device="cpu", way=LARGE_GPU).name == f"PyTorch {torch.__version__}, 55 images a call, channels-last"
    assert str(replace(TOGETHER, compiled=True)) == "11 images a call, channels-last, compiled"


@pytest.mark.parametrize(("gib", "expected"), [(8, SMALL_GPU), (47, SMALL_GPU), (79, LARGE_GPU), (140, LARGE_GPU)])
def test_each_class_of_devices_has_one_way(gib: int, expected: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=gib * 2**30))
    assert way_of(torch.device("cuda")) is expected
    assert way_of(torch.device("cpu")) is PROCESSOR


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(3, 32, 12, 10), (2, 32, 50)])
def test_group_norm_in_channels_last_is_that_of_pytorch(precision: torch.dtype, shape: tuple[int, ...]) -> None:
    """Against the same in float64: no further off than PyTorch's own, with means far from zero."""
    torch.manual_seed(0)
    theirs = nn.GroupNorm(8, 32)
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    own = GroupNorm(8, 32)
    own.load_state_dict(theirs.state_dict())
    theirs, own = theirs.to(precision), own.to(precision)
    x = (3 * torch.randn(shape) + 20).to(precision)
    last = x.movedim(1, -1).contiguous().movedim(-1, 1)
    with torch.inference_mode():
        exact = nn.functional.group_norm(x.double(), 8, theirs.weight.double(), theirs.bias.double(), theirs.eps)
        found, expected = own(last), theirs(x)
        assert torch.equal(own(x), expected), "channels first are PyTorch's"
    assert found.dtype == precision
    assert found.stride() == last.stride()
    assert (found - exact).abs().max() <= 1.5 * (expected - exact).abs().max()


def test_instance_norms_keep_the_layout_too() -> None:
    torch.manual_seed(0)
    network = ResidualUNet(channels=1, structures=2, features=[4, 8], strides=[2], residual_units=1).eval()
    x = torch.rand(2, 1, 16, 16)
    with torch.inference_mode():
        expected = network(x)
        other = laid_out(network, "channels-last")
        assert any(isinstance(module, GroupNorm) for module in other.modules())
        torch.testing.assert_close(other(x), expected, rtol=1e-4, atol=1e-5)


class _Copies(TorchDispatchMode):
    """Counts copies of feature maps into another order in memory; on GPUs, PyTorch's group norm makes one of what is not channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name == "native_group_norm":
            self.count += not args[0].is_contiguous()
        elif name in ("clone", "copy_", "_to_copy"):
            before, after = (args[1], args[0]) if name == "copy_" else (args[0], result)
            self.count += before.ndim == 4 and min(before.shape[1:]) > 1 and before.stride() != after.stride()
        return result


def test_the_shipped_denoiser_copies_no_feature_map_between_layouts() -> None:
    """In channels-last memory, but for the image that is put in order first, and the answer that is shuffled to pixels."""
    bundle = load_bundle()
    found = {}
    for layout in ("as built", "channels-last"):
        network = load_network(bundle, "denoiser", layout=layout)
        with torch.no_grad(), _Copies() as copies:  # in inference mode it would see the norms alone
            network(torch.rand(3, 1, 64, 64), torch.full((3,), 100))
        found[layout] = copies.count
    assert found["channels-last"] <= 2
    assert found["as built"] > 20, "the count can see copies"


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
def test_the_shipped_networks_say_the_same_in_every_layout(layout) -> None:
    bundle = load_bundle()
    noisy = torch.rand(1, 1, 256, 256)
    with torch.inference_mode():
        expected, found = (
            load_network(bundle, "segmenter", layout=each)(
                load_denoiser(bundle, sigma=0.25, device=torch.device("cpu"), precision="float32", layout=each)(noisy)
            )
            for each in ("as built", layout)
        )
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_the_whole_decision_can_be_traced_by_a_compiler(bundle: Bundle) -> None:
    denoise = load_denoiser(bundle, sigma=0.1, device=torch.device("cpu"), precision="float32", layout="channels-last")
    network = load_network(bundle, "segmenter", layout="channels-last")
    noisy = torch.rand(3, 1, 16, 16)

    def decide(images: torch.Tensor) -> torch.Tensor:
        return network(denoise(images)) > 0

    with torch.inference_mode():
        assert torch.equal(torch.compile(decide, fullgraph=True, backend="eager")(noisy), decide(noisy))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own
def test_compiled_networks_decide_alike(bundle: Bundle) -> None:
    counts = []
    for way in (TOGETHER, replace(TOGETHER, compiled=True)):
        ((result,),) = certify_grids([image(0)], [segmenter_of(bundle, way)], [PARAMETERS], seeds=[b"film"], batch_size=11)
        counts.append(result.counts)
    assert np.mean(counts[0] != counts[1]) < 1e-2, "they may round differently where a logit is at its threshold"
