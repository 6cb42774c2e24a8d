"""Draws per second, the networks' share of them, and the statistics beside the per-pixel way.

    python benchmarks/benchmark.py [--draws 110] [--skip-networks]

The per-pixel way is what published implementations do: scipy's exact test once per pixel, then statsmodels' Holm. It is
written here for comparison only.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests


def per_pixel_holm(counts: np.ndarray, *, n: int, tau: float, alpha: float) -> np.ndarray:
    p = np.array([binomtest(int(count), n, tau, alternative="greater").pvalue for count in counts.ravel()])
    return multipletests(p, alpha=alpha, method="holm")[0].reshape(counts.shape)


def best_of(repeats: int, function) -> tuple[float, object]:  # noqa: ANN001  # any callable without arguments
    times, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def benchmark_statistics(side: int) -> None:
    from certdicom.certification import holm_reject

    random = np.random.default_rng(0)
    counts = random.binomial(100, random.beta(8, 0.3, (side, side)))
    ours, decided = best_of(5, lambda: holm_reject(counts, n=100, tau=0.75, alpha=1e-3))
    theirs, reference = best_of(1, lambda: per_pixel_holm(counts, n=100, tau=0.75, alpha=1e-3))
    if not np.array_equal(decided, reference):
        raise SystemExit("the two ways decide differently")
    print(f"statistics at {side} x {side}: {ours * 1e3:.2f} ms; per pixel {theirs:.2f} s; ratio {theirs / ours:.0f} x, equal decisions")


def benchmark_draws(draws: int, batch: int) -> None:
    import torch

    from certdicom import SmoothingParameters, load_bundle
    from certdicom.certification import certify_grid
    from certdicom.models.runtime import DenoisedSegmenter, choose_device, choose_precision

    bundle = load_bundle()
    device = choose_device("auto")
    precision = choose_precision("auto", device)
    decide = DenoisedSegmenter(bundle, sigma=0.25, device=device, precision=precision)
    spent = 0.0

    def timed(noisy: torch.Tensor) -> torch.Tensor:
        nonlocal spent
        start = time.perf_counter()
        decisions = decide(noisy)
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent += time.perf_counter() - start
        return decisions

    u = np.random.default_rng(0).random((bundle.channels, bundle.grid, bundle.grid), dtype=np.float32)
    certify_grid(u, decide, SmoothingParameters(n0=batch, n=100), seed=b"warm up", batch_size=batch)
    start = time.perf_counter()
    certify_grid(torch.from_numpy(u).to(device), timed, SmoothingParameters(n0=10, n=draws - 10), seed=b"benchmark", batch_size=batch)
    total = time.perf_counter() - start
    print(
        f"{draws} draws on {device} in {precision}, {torch.get_num_threads()} threads, batch {batch}: {draws / total:.1f} draws/s, "
        f"networks {spent / total:.1%} of {total:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=110)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--skip-networks", action="store_true")
    arguments = parser.parse_args()
    benchmark_statistics(arguments.side)
    if not arguments.skip_networks:
        benchmark_draws(arguments.draws, arguments.batch)


if __name__ == "__main__":
    main()
