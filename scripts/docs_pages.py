"""Pages of the documentation site that are made from the code, so that they cannot tell something else: a hook of mkdocs.yml."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

API: dict[str, tuple[str, ...]] = {
    "Images to results": (
        "pipeline.certify",
        "pipeline.Certifier",
        "pipeline.Computation",
        "outputs.result.Result",
        "pipeline.write_segmentation",
    ),
    "Values": (
        "certification.parameters.SmoothingParameters",
        "certification.certificate.Certificate",
        "certification.certificate.Structure",
    ),
    "Films and bundles": (
        "imaging.reading.read_radiograph",
        "imaging.image.Radiograph",
        "models.bundle.load_bundle",
        "models.bundle.Bundle",
    ),
    "The mathematics by itself": (
        "certification.sampling.certify_grid",
        "certification.statistics.holm_reject",
        "certification.statistics.simultaneous_lower_bounds",
        "certification.explanation.explain",
    ),
    "Errors": ("errors",),
}
PROOFS = ("certification.intervals", "certification.statistics", "certification.explanation", "certification.looks", "certification.unions")


def on_config(config: Any) -> Any:
    """Put pages that the navigation does not name at its end, so that none is lost (an event of MkDocs)."""
    named = set(_targets(config.nav))
    rest = sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in named)
    if rest:
        config.nav.append({"More": rest})
    return config


def _targets(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from _targets(inner)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages (an event of MkDocs)."""
    from mkdocs.structure.files import File

    pages: dict[str, Callable[[], str]] = {
        "commands": commands,
        "settings": settings,
        "api": api,
        "proofs": proofs,
        "model-cards": model_cards,
        "changelog": lambda: (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
    }
    for name, make in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def commands() -> str:
    """Every command with its options, as `--help` has them."""
    from certdicom.cli.main import COMMANDS, build_parser

    subparsers = next(action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    lines = ["# Commands", "", "Made from the commands' own help.", ""]
    for name, help_line in COMMANDS.items():
        parser = subparsers.choices[name]
        lines += [f"## certdicom {name}", "", f"{help_line[0].upper()}{help_line[1:]}.", "", *_table(parser), ""]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for verb, child in action.choices.items():
                    lines += [f"### certdicom {name} {verb}", "", *_table(child), ""]
    return "\n".join(lines)


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield "| option | |"
    yield "| --- | --- |"
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction) or action.help == argparse.SUPPRESS:
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar or ())
        named = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
        value = "" if action.nargs == 0 else metavar or named
        name = ", ".join(action.option_strings) or value
        shown = f"{name} {value}" if action.option_strings and value else name
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| {_code(shown)} | {_cell(text)} |"


def settings() -> str:
    """Every setting of the node."""
    from certdicom.node.settings import DESTINATION_SETTINGS, SECTIONS, SETTINGS

    lines = ["# Settings of the node", "", "Made from the table that the node itself reads. See [the node](../node.md).", ""]
    for section, model in SECTIONS.items():
        table = [setting for setting in (*SETTINGS, *DESTINATION_SETTINGS) if setting.section == section]
        lines += [f"## [{section}]", "", model.__doc__ or "", "", "| setting | default | environment | |", "| --- | --- | --- | --- |"]
        for setting in table:
            choices = f" ({', '.join(setting.choices)})" if setting.choices else ""
            variable = "" if section == "destination" else _code(setting.variable)
            default = "" if setting.default == "" else _code(str(setting.default))
            lines.append(f"| {_code(setting.name)} | {default} | {variable} | {_cell(setting.help + choices)} |")
        lines.append("")
    return "\n".join(lines)


def api() -> str:
    """The public names, from their docstrings."""
    lines = ["# Python", "", "Names are stable where `import certdicom` offers them; the others may move.", ""]
    for title, names in API.items():
        lines += [f"## {title}", "", *(f"::: certdicom.{name}\n" for name in names)]
    return "\n".join(lines)


def proofs() -> str:
    """The arguments that stand beside the code they are about."""
    lines = [
        "# Proofs beside the code",
        "",
        "What [the certificate](../certificate.md) rests on, as it stands in the modules that compute it.",
        "",
    ]
    for name in PROOFS:
        if (ROOT / "certdicom" / f"{name.replace('.', '/')}.py").exists():
            lines += [f"::: certdicom.{name}", "    options:", "      heading_level: 2", "      members: false", ""]
    return "\n".join(lines)


def model_cards() -> str:
    """The cards of all bundles; their links lead from the bundle's folder, so they are made to lead from here."""
    texts = ["# Model cards"]
    shelves = (ROOT / "certdicom" / "bundles", ROOT / "packaging" / "bundles" / "certdicom_bundles")
    for card in sorted(card for shelf in shelves for card in shelf.glob("*/MODEL_CARD.md")):
        text = card.read_text(encoding="utf-8").replace("](../../../docs/", "](../")
        texts.append(re.sub(r"^#", "##", text, flags=re.MULTILINE))
    return "\n\n".join(texts)


def _code(text: str) -> str:
    return f"<code>{_cell(text)}</code>"


def _cell(text: str) -> str:
    """As it may stand in a cell of a table, where a bar would end it."""
    return escape(" ".join(text.split()), quote=False).replace("|", "&#124;")
