"""Arrows between modules run one way: no module needs, directly or by way of others, one that needs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in (ROOT / "certdicom").rglob("*.py")
}


def imported(path: Path) -> Iterator[str]:
    """The package's own modules that a file imports, in functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def test_no_module_imports_itself_by_way_of_others() -> None:
    # The package's face names what it offers, and loads it on first use.
    graph = {
        module: set(imported(path)) - {"certdicom"}
        for module, path in MODULES.items()
        if module not in ("certdicom", "certdicom.certification")
    }
    for needed in graph.values():
        needed.discard("certdicom.certification")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


HEAVY = {"torch", "monai", "diffusers", "highdicom", "pynetdicom", "SimpleITK", "scipy", "sqlalchemy", "dbos", "pydantic", "pydicom"}


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        (["--version"], HEAVY),
        (["--help"], HEAVY),
        (["node", "--help"], HEAVY),
        (["train", "--help"], HEAVY),
        (["a.dcm", "--help"], HEAVY - {"scipy"}),
    ],
)
def test_help_loads_nothing_heavy(words: list[str], heavy: set[str]) -> None:
    code = f"import sys\nfrom certdicom.cli.main import main\nmain({words})\nprint(sorted({heavy} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
