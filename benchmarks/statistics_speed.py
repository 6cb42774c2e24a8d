"""The statistics beside the per-pixel way.

    python benchmarks/statistics_speed.py [--side 512]

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    benchmark_statistics(parser.parse_args().side)


if __name__ == "__main__":
    main()
