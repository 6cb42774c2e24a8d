"""Completion of commands, options, bundles and files by the shell, through argcomplete."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import argcomplete

from certdicom.cli.parser import verbs_of


def complete(parser: Any, *, commands: Collection[str]) -> None:
    """Answer the shell and end, as argcomplete does. The word "certify" may be left out here as well."""
    words = os.environ.get("COMP_LINE", "").split()
    first = words[1] if len(words) > 1 else ""
    short_form = len(words) > 2 or os.environ["COMP_LINE"].endswith(" ")
    if short_form and first and first not in commands and not first.startswith("-"):
        parser = verbs_of(parser)["certify"]
    for child in _all_parsers(parser):
        for action in child._actions:
            if "--bundle" in action.option_strings:
                action.completer = _bundles
    argcomplete.autocomplete(parser)


def _all_parsers(parser: Any) -> list[Any]:
    return [parser, *(below for child in verbs_of(parser).values() for below in _all_parsers(child))]


def _bundles(**_: object) -> list[str]:
    from certdicom.models.bundle import shipped_bundles

    return list(shipped_bundles())
