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
    from dataclasses import replace

    import torch

    from certdicom import SmoothingParameters, load_bundle
    from certdicom.certification.sampling import certify_grids
    from certdicom.models.backends.torch import TorchBackend

    bundle = load_bundle()
    backend = TorchBackend()
    backend.counts_on_device = False  # so that the clock sees the networks alone
    segmenter = backend.base_segmenter(bundle, sigma=0.25)
    spent = 0.0

    def timed(noisy: np.ndarray) -> np.ndarray:
        nonlocal spent
        start = time.perf_counter()
        logits = segmenter.logits(noisy)
        spent += time.perf_counter() - start
        return logits

    u = np.random.default_rng(0).random((bundle.channels, *bundle.shape), dtype=np.float32)
    measured = replace(segmenter, logits=timed)
    for n in (100, draws - 10):  # the first time to warm up
        spent, start = 0.0, time.perf_counter()
        certify_grids([u], [measured], [SmoothingParameters(n0=10, n=n)], seeds=[b"benchmark"], batch_size=batch)
        total = time.perf_counter() - start
    print(
        f"{draws} draws on {backend.device} in {backend.precision}, {torch.get_num_threads()} threads, batch {batch}: "
        f"{draws / total:.1f} draws/s, networks {spent / total:.1%} of {total:.2f} s"
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
