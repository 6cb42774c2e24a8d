"""The conformance statement is the code's own."""

from __future__ import annotations

from pathlib import Path

from certdicom.node.conformance import conformance_statement


def test_the_statement_in_the_documentation_is_the_one_that_the_code_makes():
    written = (Path(__file__).parents[2] / "docs" / "conformance-node.md").read_text(encoding="utf-8")
    assert written == conformance_statement(), "run: python -m certdicom.node.conformance > docs/conformance-node.md"
