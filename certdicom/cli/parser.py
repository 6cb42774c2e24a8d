"""The argument parser: a mistake is one line that says what was probably meant."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

USAGE = 2

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line with a suggestion, and that itself refuses what it does not know."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where the options are listed; end with exit code 2."""
        text = re.sub(r"^argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)$", self._choice, message)
        print(f"certdicom: {' '.join(text.split())}; {self.prog} --help says more", file=sys.stderr)
        sys.exit(USAGE)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]  # its overloads are about namespaces of other types
        """As argparse's, but an option that this parser does not know is an error here, where the known ones are at hand."""
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            words = [word.partition("=")[0] for word in rest if word.startswith("-")] or rest
            self.error(f"unknown {'option' if words[0].startswith('-') else 'argument'} {words[0]}{self._meant(words[0])}")
        return known, rest

    def _meant(self, word: str) -> str:
        return did_you_mean(word, [option for option in self._option_string_actions if option.startswith("--")])

    @staticmethod
    def _choice(match: re.Match[str]) -> str:
        name, given, choices = match.groups()
        known = re.findall(r"[^\s',]+", choices)
        return f"{name} {given!r} is none of {', '.join(known)}{did_you_mean(given, known)}"


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of what the next word may be, by that word."""
    branches = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    return {word: child for branch in branches for word, child in branch.items()}


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`: did you mean X?` if there is something close to `word`, otherwise nothing."""
    close = get_close_matches(word, known, n=1)
    return f": did you mean {close[0]}?" if close else ""


def with_window_joined(words: Sequence[str]) -> list[str]:
    """`--window LO HI` as one word: argparse would take a film for the third end of a window, and -1000 for an option."""
    joined: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--window" and len(rest) > 1 and all(_NUMBER.fullmatch(end) for end in rest[:2]):
            word = f"--window={rest.pop(0)},{rest.pop(0)}"
        joined.append(word)
    return joined
