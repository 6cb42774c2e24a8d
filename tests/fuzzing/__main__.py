"""`python tests/fuzzing`: search for inputs that break a rule; see `--help`, or start it as `scripts/fuzz`."""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

HERE: Final = Path(__file__).parent
WORK: Final = HERE.parents[1] / "build" / "fuzz"
"""Where inputs that reached new code are kept from run to run; not part of the repository."""

_LONGEST_INPUT_S: Final = 70
"""An input that takes longer is a hang: a decoder gets 60 s."""

_MOST_MB: Final = 3072


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz",
        description="Look for inputs that certdicom neither takes nor refuses properly. What is found is written to tests/fuzzing/corpus, "
        "which the tests go through from then on.",
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="films, codestreams, texts, pdus, bundles (default: all)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, help="in all, shared among the targets")
    length.add_argument("--seconds", type=float, default=60.0, help="the same in seconds (default 60)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the search, so that two runs look at the same inputs (default: another each time)"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seconds = 3600 * arguments.hours if arguments.hours else arguments.seconds
    if arguments.one:
        return _search(arguments.one, seconds, seed=arguments.seed)
    from targets import TARGETS

    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    wanted = arguments.targets or list(TARGETS)
    failed = []
    for name in wanted:
        print(f"{name}: {seconds / len(wanted):.0f} s", flush=True)
        options = ["--one", name, "--seconds", str(seconds / len(wanted)), "--seed", str(arguments.seed)]
        done = subprocess.run([sys.executable, str(HERE), *options], check=False)
        failed += [name] * (done.returncode != 0)
    print(f"fuzz: {'nothing was found' if not failed else 'something was found in ' + ', '.join(failed) + ': see tests/fuzzing/corpus'}")
    return 1 if failed else 0


def _search(name: str, seconds: float, *, seed: int) -> int:
    """Search in this process, by coverage where atheris is installed."""
    try:
        import atheris
    except ImportError:
        return _by_chance(name, seconds, seed=seed)
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["certdicom", "pydicom", "pynetdicom"]):  # it names each module
        from targets import TARGETS, quietly
    target = TARGETS[name]
    seeds, found, kept = WORK / name / "seeds", WORK / name / "reached", HERE / "corpus" / name
    for folder in (seeds, found, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for content in target.seeds():
        (seeds / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    options = [
        f"-seed={seed}",
        f"-max_total_time={max(int(seconds), 1)}",
        f"-max_len={target.most_bytes}",
        f"-timeout={_LONGEST_INPUT_S}",
        f"-rss_limit_mb={_MOST_MB}",
        f"-artifact_prefix={kept}/",
        "-len_control=0",
        "-verbosity=0",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(seeds), str(kept)], lambda data: quietly(target, data))
    atheris.Fuzz()
    return 0


def _by_chance(name: str, seconds: float, *, seed: int) -> int:
    """Search by hypothesis, without coverage: atheris has no wheel for this Python or system."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as hypothesis_seed
    from hypothesis import strategies as st
    from targets import TARGETS, quietly

    target = TARGETS[name]
    seeds = [*target.seeds(), *(path.read_bytes() for path in target.kept())]
    edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=8)
    until = time.monotonic() + seconds

    @settings(max_examples=200, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), edits)
    def attempt(seed: bytes, edits: list[tuple[float, int, bytes]]) -> None:
        data = bytearray(seed)
        for place, removed, inserted in edits:
            start = int(place * (len(data) + 1))
            data[start : start + removed] = inserted
        try:
            quietly(target, bytes(data[: target.most_bytes]))
        except Exception:
            kept = HERE / "corpus" / name
            kept.mkdir(parents=True, exist_ok=True)
            (kept / f"crash-{hashlib.sha256(data).hexdigest()}").write_bytes(data)
            raise

    searching = hypothesis_seed(seed)(attempt) if seed else attempt
    while time.monotonic() < until:
        searching()
    return 0


if __name__ == "__main__":
    sys.exit(main())
