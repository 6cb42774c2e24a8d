"""The parts of the GPU benchmark, in order; each gives figures by name, and is told with what they are shares of."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import films as film_files
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from certdicom.certification.batches import Batch, Part
from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.noise import noisy_image
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import GridResult, certify_grids
from certdicom.models.backends.draws import noisy_batch, noisy_images
from certdicom.models.backends.torch import PRECISIONS, TorchBackend, load_network
from certdicom.models.backends.ways import LARGE_GPU, SMALL_GPU, Way, way_of
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle
from certdicom.models.networks.layout import laid_out
from certdicom.research.training.weights import save_network

SIGMA = 0.25
LAYOUTS = ("channels-first", "channels-last", "as built")


@dataclass
class Run:
    """What is asked for, and what was found so far."""

    arguments: argparse.Namespace
    started: float
    found: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def device(self) -> torch.device:
        return torch.device(self.arguments.device)

    @property
    def on_gpu(self) -> bool:
        return self.device.type != "cpu"

    @property
    def seconds_left(self) -> float:
        return self.started + 60 * self.arguments.minutes - time.monotonic()

    @cached_property
    def bundle(self) -> Any:
        return load_bundle(self.arguments.bundle or DEFAULT_BUNDLE)

    @cached_property
    def data(self) -> Path | None:
        """The films that were packed, as a plain data set."""
        packed = Path(__file__).resolve().parent / "films"
        if not packed.is_dir():
            return None
        folder = Path(tempfile.mkdtemp(), "films")
        self.say(f"{film_files.unpack(packed, folder)} films unpacked")
        return folder

    @cached_property
    def images(self) -> list[NDArray[np.float64]]:
        return film_files.images_of(self.data, self.arguments.films, side=self.bundle.shape[0])

    @property
    def way(self) -> Way:
        """That of the device's class; on a processor the one of a small GPU, so that the same code runs."""
        return way_of(self.device) if self.on_gpu else SMALL_GPU

    @property
    def parameters(self) -> SmoothingParameters:
        return SmoothingParameters(sigma=SIGMA, n=self.arguments.n)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()

    def timed(self, function: Callable[[], object], *, rounds: int = 3) -> float:
        """The median number of seconds of a call, after one to warm up."""
        function()
        times = []
        for _ in range(rounds):
            self.wait()
            start = time.perf_counter()
            function()
            self.wait()
            times.append(time.perf_counter() - start)
        return float(np.median(times))

    def segmenter(self, way: Way | None = None, precision: str = "auto") -> Any:
        backend = TorchBackend(device=str(self.device), precision=precision, way=way or self.way)
        return backend.base_segmenter(self.bundle, sigma=SIGMA)

    def certified(self, segmenter: Any, images: Sequence[NDArray[Any]], *, first: int = 0) -> list[GridResult]:
        seeds = [b"benchmark %d" % number for number in range(first, first + len(images))]
        rows = certify_grids(images, [segmenter], [self.parameters], seeds=seeds, batch_size=segmenter.images_a_call)
        return [result for (result,) in rows]


def everything(arguments: argparse.Namespace, *, started: float) -> int:
    run = Run(arguments, started)
    arguments.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name, (part, least) in PARTS.items():
        if name == "compiled" and arguments.no_compile:
            continue
        if run.seconds_left < least:
            run.say(f"{name}: left out, {run.seconds_left:.0f} s are left")
            run.found[name] = {"left out": "no time"}
            continue
        run.say(f"{name} …")
        try:
            run.found[name] = part(run)
        except Exception:  # noqa: BLE001  # the other parts are worth having
            failed += 1
            run.found[name] = {"failed": traceback.format_exc(limit=-4)}
            run.say(f"{name} failed:\n{traceback.format_exc(limit=-4)}")
        (arguments.out / "results.json").write_text(json.dumps(run.found, indent=1) + "\n")
        (arguments.out / "results.md").write_text(table(run.found))
    print("\n" + table(run.found))
    run.say(f"done, {failed} parts failed; {arguments.out}/results.json")
    return int(failed > 0)


def machine(run: Run) -> dict[str, Any]:
    """What it is, and the peaks that shares are of: measured, not promised."""
    low = torch.bfloat16
    size, batch, side = (8192, 64, 128) if run.on_gpu else (256, 1, 16)
    a, b = (torch.randn(size, size, device=run.device, dtype=low) for _ in range(2))
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(run.device) if run.on_gpu else f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "product_tflops_bf16": 2 * size**3 / run.timed(lambda: a @ b) / 1e12,
    }
    for channels in (32, 64, 128, 256):
        image = torch.randn(batch, channels, side, side, device=run.device, dtype=low).to(memory_format=torch.channels_last)
        kernel = torch.randn(channels, channels, 3, 3, device=run.device, dtype=low).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            seconds = run.timed(lambda image=image, kernel=kernel: functional.conv2d(image, kernel, padding=1))
        found[f"convolution_{channels}_tflops_bf16"] = 2 * batch * side**2 * 9 * channels**2 / seconds / 1e12
    run.say(", ".join(f"{name} {short(value)}" for name, value in found.items()))
    return found


def draws(run: Run) -> dict[str, Any]:
    """The same numbers as on the host, and how fast."""
    side, seed, differing, at_once = 500, b"the same draws", 0, 40
    count = max(1, run.arguments.values // side**2)
    u = np.random.default_rng(0).random((1, side, side))
    for start in range(0, count, at_once):
        batch = Batch(SIGMA, (Part(0, u, seed, range(start, min(start + at_once, count))),))
        here = noisy_batch(batch, run.device).cpu().numpy()
        differing += int((here != batch.noisy).sum())
    small = np.zeros((1, 256, 256))
    batch = Batch(SIGMA, (Part(0, small, seed, range(run.way.images_a_call)),))
    seconds = run.timed(lambda: noisy_batch(batch, run.device))
    found = {"values": count * side**2, "differing": differing, "ms_a_draw": 1e3 * seconds / len(batch.draws)}
    run.say(f"{differing} of {found['values']:,} values differ from the host's; {found['ms_a_draw']:.3f} ms a draw of 256 × 256")
    return found


def correctness(run: Run) -> dict[str, Any]:
    """Decisions against the processor's in float32, precision by precision; repeated runs; a film alone and among others."""
    chosen = run.images[: min(8, len(run.images))] if run.on_gpu else run.images[:1]
    noisy = np.stack([noisy_image(u, SIGMA, seed=b"flips", draw=draw) for u in chosen for draw in range(5 if run.on_gpu else 1)])
    processor = TorchBackend(device="cpu", precision="float32").base_segmenter(run.bundle, sigma=SIGMA)
    expected = np.stack(processor.decide(processor.logits(noisy)))
    found: dict[str, Any] = {"decisions": int(expected.size)}
    for precision in PRECISIONS:
        segmenter = run.segmenter(precision=precision)
        decided = np.stack(segmenter.decide(segmenter.logits(noisy)))
        found[f"flips_{precision}"] = float((decided != expected).mean())
        run.say(f"{precision}: {found[f'flips_{precision}']:.2e} of {expected.size:,} decisions are others than the processor's in float32")
    segmenter = run.segmenter()
    among, again = run.certified(segmenter, chosen), run.certified(segmenter, chosen)
    alone = [run.certified(segmenter, [u], first=number)[0] for number, u in enumerate(chosen)]
    found["votes"] = int(sum(result.counts.size for result in among))
    found["votes_that_repeat_otherwise"] = votes_apart(among, again)
    found["votes_otherwise_alone"] = votes_apart(among, alone)
    reference = [run.certified(processor, [u], first=number)[0] for number, u in enumerate(chosen[:2])]
    pairs = [(one.decisions, other.decisions) for one, other in zip(among, reference, strict=False)]
    found["certified_otherwise_than_processor"] = float(np.mean([(one != other).mean() for one, other in pairs]))
    found["certified_opposite_of_processor"] = int(sum(((a != b) & (a != ABSTAIN) & (b != ABSTAIN)).sum() for a, b in pairs))
    run.say(", ".join(f"{name} {value:.3g}" for name, value in found.items() if not name.startswith("flips")))
    return found


def votes_apart(some: Sequence[GridResult], others: Sequence[GridResult]) -> int:
    return int(sum((one.counts != other.counts).sum() for one, other in zip(some, others, strict=True)))


def speed_of(run: Run, way: Way, precision: str) -> dict[str, Any]:
    """Films from memory in one way, and whether a second run gives the same bits."""
    segmenter = run.segmenter(way, precision)
    if run.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    run.certified(segmenter, run.images[:1])
    times, results = [], []
    for _ in range(2):
        run.wait()
        start = time.perf_counter()
        results.append(run.certified(segmenter, run.images))
        times.append(time.perf_counter() - start)
    found = {
        "films_a_second": len(run.images) / min(times),
        "repeats": votes_apart(*results) == 0,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if run.on_gpu else None,
    }
    run.say(f"{precision}, {way}: {found['films_a_second']:.2f} films/s, {'repeats' if found['repeats'] else 'DOES NOT REPEAT'}")
    return found


def tried(run: Run, ways: Sequence[tuple[Way, str]]) -> dict[str, Any]:
    """The speed of each way for which there is time, and the fastest that repeats."""
    found: dict[str, Any] = {}
    for way, precision in ways:
        if run.seconds_left < 20:
            found[f"{precision}, {way}"] = {"left out": "no time"}
            continue
        try:
            found[f"{precision}, {way}"] = speed_of(run, way, precision)
        except Exception as error:  # noqa: BLE001  # no compiler, or no memory, in this way
            found[f"{precision}, {way}"] = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
            run.say(f"{precision}, {way}: {type(error).__name__}: {str(error)[:200]}")
    repeating = {name: row["films_a_second"] for name, row in found.items() if row.get("repeats")}
    if repeating:
        fastest = max(repeating, key=lambda name: repeating[name])
        run.say(f"the fastest that repeats: {fastest}, {repeating[fastest]:.2f} films/s")
        found["fastest"] = fastest
    return found


def speed(run: Run) -> dict[str, Any]:
    """All ways without a compiler, the chosen one first."""
    precisions = ("bfloat16", "float16") if run.on_gpu else ("float32",)
    calls = (LARGE_GPU.images_a_call, 110, SMALL_GPU.images_a_call) if run.on_gpu else (SMALL_GPU.images_a_call,)
    ways = [
        (Way(images_a_call=call, layout=layout), precision)
        for call, layout, precision in itertools.product(calls, LAYOUTS, precisions)
        if precision == precisions[0] or call == calls[0]
    ]
    chosen = (run.way, precisions[0])
    return share(run, tried(run, [chosen, *(way for way in ways if way != chosen)]))


def compiled(run: Run) -> dict[str, Any]:
    """The chosen way, compiled, and with channels first."""
    precision = "bfloat16" if run.on_gpu else "float32"
    ways = [(replace(run.way, compiled=True, layout=layout), precision) for layout in ("channels-last", "channels-first")]
    found = share(run, tried(run, ways))
    try:
        found["draws"] = compiled_draws(run)
    except Exception as error:  # noqa: BLE001  # the networks' speeds are worth having
        found["draws"] = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    run.say(f"draws, compiled: {found['draws']}")
    return found


def compiled_draws(run: Run) -> dict[str, Any]:
    """How fast compiled draws are, and how many values the compiler makes others."""
    keys = torch.zeros(10, 2, run.way.images_a_call, 1, dtype=torch.int64, device=run.device)
    images = torch.zeros(run.way.images_a_call, 1, 256, 256, dtype=torch.float64, device=run.device)
    drawing = torch.compile(noisy_images, fullgraph=True)
    return {
        "ms_a_draw": 1e3 * run.timed(lambda: drawing(images, keys, SIGMA)) / len(images),
        "differing": int((drawing(images, keys, SIGMA) != noisy_images(images, keys, SIGMA)).sum()),
    }


def share(run: Run, found: dict[str, Any]) -> dict[str, Any]:
    """With the share of the measured matrix product that each speed is."""
    gflop = gflop_a_draw(run)
    peak = run.found.get("machine", {}).get("product_tflops_bf16")
    found["gflop_a_draw"] = gflop
    for row in found.values():
        if isinstance(row, dict) and "films_a_second" in row and peak:
            draws_a_film = run.parameters.n0 + run.parameters.n
            row["share_of_product"] = row["films_a_second"] * draws_a_film * gflop / 1e3 / peak
    return found


def gflop_a_draw(run: Run) -> float:
    """2 × multiply-adds of both networks."""
    from torch.utils.flop_counter import FlopCounterMode

    image = torch.rand(1, run.bundle.channels, *run.bundle.shape)
    total = 0.0
    for role in run.bundle.networks:
        network = load_network(run.bundle, role)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(image) if role == "segmenter" else network(image, torch.tensor([100]))
        total += counter.get_total_flops() / 1e9
    return total


def dicom(run: Run) -> dict[str, Any]:
    """From DICOM files to SEG files, with the networks loaded, in one process."""
    from certdicom.pipeline import Certifier, Computation

    count = run.arguments.films if run.on_gpu else 1
    with tempfile.TemporaryDirectory() as folder:
        film_files.write_dicom(Path(folder, "films"), count, side=run.arguments.side)
        certifier = Certifier(run.bundle, run.parameters, Computation(backend="torch", device=str(run.device)))
        paths = sorted(Path(folder, "films").iterdir())
        certifier.certify(paths[0], accept_any=True).save(Path(folder, "warm.dcm"))
        start = time.perf_counter()
        for number, result in enumerate(certifier.certify_many(paths, accept_any=True)):
            result.save(Path(folder, f"{number}.dcm"))
        seconds = time.perf_counter() - start
    found = {"films": count, "side": run.arguments.side, "films_a_second": count / seconds}
    run.say(f"{count} DICOM films of {run.arguments.side}² pixels to SEG: {found['films_a_second']:.2f} films/s")
    return found


def adm(run: Run) -> dict[str, Any]:
    """ADM-256 with random weights in bfloat16: its share of the measured matrix product."""
    from torch.utils.flop_counter import FlopCounterMode

    from certdicom.models.networks import ADMUNet

    torch.manual_seed(0)
    small = (
        {}
        if run.on_gpu
        else {"image_size": 64, "num_channels": 32, "num_res_blocks": 1, "attention_resolutions": (16,), "num_head_channels": 16}
    )
    with run.device:
        network = ADMUNet(**small).eval().requires_grad_(False)
    weights, side, low = sum(weight.numel() for weight in network.parameters()), small.get("image_size", 256), torch.bfloat16
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.rand(1, 3, side, side, device=run.device), torch.tensor([100], device=run.device))
    tflop, peak = counter.get_total_flops() / 1e12, run.found["machine"]["product_tflops_bf16"]
    found: dict[str, Any] = {"weights": weights, "tflop_an_image": tflop, "peak_tflops_bf16": peak}
    network = network.to(low)
    for layout in ("channels-last", "channels-first"):
        network = laid_out(network, layout)  # type: ignore[arg-type]  # a literal type, fed from a tuple
        batch = run.way.images_a_call if run.on_gpu else 2
        x, t = torch.rand(batch, 3, side, side, device=run.device, dtype=low), torch.full((batch,), 100, device=run.device)
        with torch.inference_mode():
            seconds = run.timed(lambda network=network, x=x, t=t: network(x, t), rounds=2)
        found[layout] = {
            "batch": batch,
            "s": seconds,
            "tflops": batch * tflop / seconds,
            "share_of_product": batch * tflop / seconds / peak,
        }
        run.say(f"ADM, {layout}, {batch} images: {seconds:.3f} s, {found[layout]['share_of_product']:.1%} of {short(peak)} TFLOP/s")
    return found


def training(run: Run) -> dict[str, Any]:
    """`certdicom train segmenter` behind the shipped denoiser for so many seconds; weights and logs are kept."""
    if run.data is None:
        run.say("training: no films were packed")
        return {"left out": "no films"}
    seconds = min(run.arguments.train_seconds, run.seconds_left - 20)
    shipped = load_bundle()
    with tempfile.TemporaryDirectory() as folder:
        denoiser = Path(folder, "denoiser.safetensors")
        save_network(load_network(shipped, "denoiser"), denoiser, description=shipped.networks["denoiser"])
        options = {
            "--data": run.data,
            "--out": Path(folder, "out"),
            "--denoiser": denoiser,
            "--factor": 2,
            "--grid": 256 if run.on_gpu else 64,
            "--network": json.dumps({"architecture": "UNet", "width": 16, "padding": "zero", "norm": "batch", "dropout": 0.2}),
            "--batch-size": 64 if run.on_gpu else 2,
            "--steps": 1_000_000,
            "--validate-every": 1_000_000,
            "--minutes": seconds / 60,
            "--device": run.device,
        }
        words = [str(word) for pair in options.items() for word in pair]
        done = subprocess.run(
            [sys.executable, "-m", "certdicom", "train", "segmenter", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + 120,
        )
        kept = run.arguments.out / "training"
        kept.mkdir(exist_ok=True)
        (kept / "log.txt").write_text(done.stdout + done.stderr)
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        for path in Path(folder, "out").iterdir():
            if path.suffix in (".safetensors", ".csv") and path.stat().st_size < 15e6:
                shutil.copy(path, kept / path.name)
        with (kept / "learning.csv").open(newline="") as stream:
            last = list(csv.DictReader(stream))[-1]
    found = {"batch": int(options["--batch-size"]), "steps": int(last["step"]), "seconds": float(last["seconds"])}
    found["steps_a_second"] = found["steps"] / max(found["seconds"], 1.0)
    run.say(f"{found['steps']} steps of {found['batch']} films in {found['seconds']:.0f} s: {found['steps_a_second']:.2f} steps/s")
    return found


PARTS: dict[str, tuple[Callable[[Run], dict[str, Any]], float]] = {
    "machine": (machine, 0),
    "draws": (draws, 30),
    "correctness": (correctness, 30),
    "speed": (speed, 30),
    "dicom": (dicom, 30),
    "adm": (adm, 30),
    "training": (training, 45),
    "compiled": (compiled, 60),
}
"""In order of how much they are wanted, and how many seconds must be left for each to begin."""


def table(found: dict[str, Any]) -> str:
    """Everything as text, one figure a line."""
    lines = []
    for name, part in found.items():
        lines += [f"## {name}", ""]
        for key, value in part.items():
            shown = ", ".join(f"{inner} {short(one)}" for inner, one in value.items()) if isinstance(value, dict) else short(value)
            lines.append(f"* {key}: {shown}")
        lines.append("")
    return "\n".join(lines)


def short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
