"""docs/python.md says what people can type: its snippets run, in order, as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from certdicom.imaging.synthetic import synthetic_film, write_film

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def test_every_snippet_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_film(synthetic_film(rows=512, columns=448, seed=1)[0], tmp_path / "film.dcm")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "none.dcm").write_bytes(b"no film")
    names: dict[str, object] = {}
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(snippets) == 3
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102  # our own page
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.dcm", "films", "map.dcm", "picture.png", "seg.dcm"]
    certified = names["certified"]
    assert certified.decisions.shape == (2, 64, 64)  # type: ignore[attr-defined]
