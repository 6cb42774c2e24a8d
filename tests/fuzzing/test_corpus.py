"""What fuzzing once found stays found; and the seeds that it begins with do what they should."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from targets import TARGETS, quietly, run_film, stop_listening

KEPT = [(target, path) for target in TARGETS.values() for path in target.kept()]


@pytest.fixture(scope="module", autouse=True)
def _no_node_is_left():
    yield
    stop_listening()


@pytest.mark.parametrize(("target", "path"), KEPT, ids=[f"{target.name}-{path.name}" for target, path in KEPT])
@pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")
def test_what_was_found_once_is_right_now(target, path: Path) -> None:
    quietly(target, path.read_bytes())


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")
def test_every_seed_passes(target) -> None:
    for seed in target.seeds():
        assert len(seed) <= target.most_bytes, "seeds must be short enough to be tried"
        quietly(target, seed)


def test_a_rule_that_is_broken_is_seen(monkeypatch) -> None:
    monkeypatch.setattr("targets.image_of", lambda *_, **__: (_ for _ in ()).throw(KeyError("defect")))
    with pytest.raises(KeyError):
        run_film(b"anything")
