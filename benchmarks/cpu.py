"""How fast films are certified on this processor: backends, precisions, peaks, memory, and the first edition beside them.

    python benchmarks/cpu.py [--film FILE] [--rounds 3] [--first-edition CHECKOUT] [--json FILE]

Everything that is compared runs in turn, round by round, each in a process of its own; medians are printed. Let the machine
do nothing else. Draws: sigma 0.25, n0 = 10, n = 100, on random pixels. Shell: the command as a user types it, on a film, and
the same film a second time in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
DRAWS = 110
PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--film", type=Path, help="a DICOM film (default: the one of scripts/run)")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--first-edition", type=Path, metavar="CHECKOUT", help="another version of the project, as 0.1.0, to be beside")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(WORKERS[arguments.worker.partition(":")[0]](arguments.worker)))
        return
    figures = measured(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(table(figures))


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    film = arguments.film or Path(subprocess.check_output([sys.executable, HERE / "scripts/sample_film"], text=True).strip())
    editions = {"this": HERE} | ({"first edition": arguments.first_edition.resolve()} if arguments.first_edition else {})
    runs: dict[str, Callable[[], dict[str, Any]]] = {"peaks": lambda: in_process(HERE, "peaks")}
    for backend in ("openvino", "torch"):
        for precision in PRECISIONS:
            name = f"draws:{backend}:{precision}"
            runs[name] = lambda name=name: in_process(HERE, name)
    if "first edition" in editions:
        for precision in PRECISIONS:
            runs[f"draws:first edition:{precision}"] = lambda precision=precision: in_process(
                editions["first edition"], f"first:{precision}"
            )
    for edition, checkout in editions.items():
        runs[f"shell:{edition}"] = lambda checkout=checkout: from_shell(checkout, film)
    runs["warm:this"] = lambda: in_process(HERE, f"warm:{film}")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for number in range(arguments.rounds):
        for name, run in runs.items():
            if _is_pointless(name, found):
                continue
            found[name].append(run())
            print(f"round {number + 1}: {name}: {json.dumps(found[name][-1])}", file=sys.stderr, flush=True)
    flops = in_process(HERE, "flops")
    found = {name: rows for name, rows in found.items() if rows}
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gflop_a_draw": flops,
        "runs": {name: medians(rows) for name, rows in found.items()},
    }


def _is_pointless(name: str, found: dict[str, list[dict[str, Any]]]) -> bool:
    """What failed before, and a precision in which the processor does not compute: emulated, it takes minutes."""
    precision = name.rpartition(":")[2]
    asked = [name, f"draws:openvino:{precision}"] if name.startswith("draws:") else [name]
    return any("error" in row for other in asked for row in found[other][:1])


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    if "error" in rows[0]:
        return rows[0]
    return {
        name: round(statistics.median(row[name] for row in rows), 4) if isinstance(value, int | float) else value
        for name, value in rows[0].items()
    }


def in_process(checkout: Path, worker: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, __file__, "--worker", worker], capture_output=True, text=True, check=False, env=environment, cwd=checkout
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no answer"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def from_shell(checkout: Path, film: Path) -> dict[str, Any]:
    """Seconds and memory of the command in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        words = [str(film), "-o", f"{folder}/seg.dcm", "--precision", "float32", "--quiet"]
        code = (
            "import resource, subprocess, sys, json, time\n"
            "start = time.perf_counter()\n"
            f"code = subprocess.run([sys.executable, '-m', 'certdicom', *{words!r}]).returncode\n"
            "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
            "print(json.dumps({'s': time.perf_counter() - start, 'peak_mb': used.ru_maxrss / 1e3, 'code': code}))"
        )
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=folder)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer if not answer.pop("code") else {"error": done.stderr.strip()[-200:]}


def draws(worker: str) -> dict[str, Any]:
    """Draws of the default bundle through the sampler, with what share of the time is spent outside the networks."""
    import numpy as np

    from certdicom.certification.base_segmenter import BaseSegmenter
    from certdicom.certification.parameters import SmoothingParameters
    from certdicom.certification.sampling import certify_grids
    from certdicom.models.backends.choice import choose_backend
    from certdicom.models.bundle import load_bundle

    _, name, precision = worker.split(":")
    bundle = load_bundle()
    backend = choose_backend([bundle], backend=name, device="cpu", precision=precision)
    segmenter = backend.base_segmenter(bundle, sigma=0.25)
    inside = [0.0]

    def timed(noisy: Any) -> Any:
        start = time.perf_counter()
        logits = segmenter.logits(noisy)
        inside[0] += time.perf_counter() - start
        return logits

    measured = BaseSegmenter(logits=timed, thresholds=segmenter.thresholds)
    u = np.random.default_rng(0).random((1, *bundle.shape), dtype=np.float32)
    total = 0.0
    for _ in range(2):  # the first time to warm up
        inside[0], start = 0.0, time.perf_counter()
        certify_grids([u], [measured], [SmoothingParameters(sigma=0.25)], seeds=[b"benchmark"], batch_size=10)
        total = time.perf_counter() - start
    return {"ms": 1e3 * total / DRAWS, "outside": 1 - inside[0] / total, "peak_mb": peak_mb(), "by": f"{backend.name}, {backend.precision}"}


def first(worker: str) -> dict[str, Any]:
    """The same draws in version 0.1.0."""
    import numpy as np
    import torch
    from certdicom.models.runtime import DenoisedSegmenter  # type: ignore[import-not-found]  # of that version

    from certdicom import SmoothingParameters, load_bundle
    from certdicom.certification import certify_grid

    bundle, precision = load_bundle(), worker.partition(":")[2]
    decide = DenoisedSegmenter(bundle, sigma=0.25, device=torch.device("cpu"), precision=precision)
    u = torch.from_numpy(np.random.default_rng(0).random((1, 256, 256), dtype=np.float32))
    certify_grid(u, decide, SmoothingParameters(n0=10, n=100), seed=b"warm up", batch_size=10)
    start = time.perf_counter()
    certify_grid(u, decide, SmoothingParameters(n0=10, n=100), seed=b"benchmark", batch_size=10)
    return {"ms": 1e3 * (time.perf_counter() - start) / DRAWS, "peak_mb": peak_mb(), "by": f"PyTorch {torch.__version__}, {precision}"}


def warm(worker: str) -> dict[str, Any]:
    """A film → SEG where the networks are loaded."""
    from certdicom.pipeline import Certifier

    film, certifier = worker.partition(":")[2], Certifier()
    seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            start = time.perf_counter()
            result = certifier.certify(film)
            result.save(f"{folder}/{number}.dcm")
            seconds = time.perf_counter() - start
    return {"s": seconds, "draws_s": result.certificate.seconds["draws"]}


def peaks(_: str) -> dict[str, Any]:
    """GFLOP/s of one matrix product, and of one 3 × 3 convolution, on all cores in float32."""
    import torch
    from torch.nn import functional

    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    image, kernel = torch.rand(2, 64, 128, 128), torch.rand(64, 64, 3, 3)
    with torch.inference_mode():
        product = best(lambda: a @ b)
        convolution = best(lambda: functional.conv2d(image, kernel, padding=1))
    return {"product": 2 * 2048**3 / product / 1e9, "convolution": 2 * 2 * 64 * 64 * 9 * 128 * 128 / convolution / 1e9}


def best(function: Callable[[], object]) -> float:
    times = []
    for _ in range(12):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def flops(_: str) -> dict[str, Any]:
    """GFLOP of the default bundle's networks a draw, 2 × multiply-adds."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from certdicom.models.backends.torch import load_network
    from certdicom.models.bundle import load_bundle

    bundle, found = load_bundle(), {}
    image = torch.rand(1, bundle.channels, *bundle.shape)
    for role in bundle.networks:
        network = load_network(bundle, role)
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            network(image) if role == "segmenter" else network(image, torch.tensor([100]))
        found[role] = round(counter.get_total_flops() / 1e9, 2)
    return found


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        return platform.processor()
    return name + (" with AVX-512" if "avx512f" in flags else " without AVX-512")


WORKERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "draws": draws,
    "first": first,
    "warm": warm,
    "peaks": peaks,
    "flops": flops,
}


def table(figures: dict[str, Any]) -> str:
    runs, gflop = figures["runs"], sum(figures["gflop_a_draw"].values())
    peak = runs["peaks"]["convolution"]
    lines = [
        f"{figures['processor']}, {figures['cores']} cores. Matrix product {runs['peaks']['product']:.0f}, 3 × 3 convolution "
        f"{peak:.0f} GFLOP/s (PyTorch, float32). A draw: {gflop:.1f} GFLOP.",
        "",
        "| draws | ms a draw | GFLOP/s | of the convolution's | outside the networks | peak MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in runs.items():
        if not name.startswith("draws:"):
            continue
        title = ", ".join(name.split(":")[1:])
        if "error" in row:
            lines.append(f"| {title} | {row['error'].rpartition(': ')[2][:90]} | | | | |")
            continue
        own = "first edition" not in name
        speed = gflop / row["ms"] * 1e3 if own else None
        shares = f"{speed:.0f} | {speed / peak:.0%} | {row['outside']:.1%}" if speed else " | | "
        lines.append(f"| {title} ({row['by']}) | {row['ms']:.1f} | {shares} | {row['peak_mb']:.0f} |")
    lines += ["", "| film → SEG | s | peak MB |", "| --- | ---: | ---: |"]
    for name, row in runs.items():
        if name.startswith(("shell:", "warm:")):
            kind = "from the shell" if name.startswith("shell:") else "networks loaded"
            said = f"{row['s']:.1f} | {row.get('peak_mb', float('nan')):.0f}" if "s" in row else f"{row['error']} |"
            lines.append(f"| {kind}, {name.partition(':')[2]} | {said} |")
    ratio = [runs.get(f"draws:{who}:float32", {}).get("ms") for who in ("first edition", "openvino")]
    if all(ratio):
        lines += ["", f"Draws: {ratio[0] / ratio[1]:.1f} × the first edition's, both in float32."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
