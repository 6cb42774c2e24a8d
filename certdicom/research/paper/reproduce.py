"""The paper's tables, run with the data sets and bundles that are there, beside the paper's own figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certdicom.certification.parameters import SmoothingParameters
from certdicom.errors import UsageError, one_line
from certdicom.models.backends.base import Backend
from certdicom.models.bundle import Bundle
from certdicom.research.datasets.dataset import Dataset
from certdicom.research.datasets.splits import select
from certdicom.research.datasets.structures import match, structure_of
from certdicom.research.evaluation.models import CLEAN, MULTI_STEP, ONE_SHOT, Candidate
from certdicom.research.evaluation.plan import Plan, subset
from certdicom.research.evaluation.protocol import adapter_for, noise_grid_of
from certdicom.research.evaluation.run import evaluate
from certdicom.research.evaluation.summary import Summary, summarise
from certdicom.research.evaluation.tables import Table, without_nan
from certdicom.research.paper.inventory import STRUCTURES, Missing, find_bundle, find_dataset, how_to_make, other_bundles
from certdicom.research.paper.paper import Cell, paper


@dataclass(frozen=True)
class Entry:
    """One line of a reproduction: a cell of the paper (figures None for a network that it has not), and the candidate for it."""

    cell: Cell
    candidate: Candidate | None


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a table needs, found or missing."""

    table: str
    entries: tuple[Entry, ...]
    datasets: Mapping[str, Dataset]
    missing: tuple[Missing, ...]


def take_stock(table: str, *, data: Path, bundles: Sequence[Bundle], split: str, steps: int | None = None) -> Inventory:
    """Find the data sets in `data` and a bundle for every network of `table`, and say what is missing.

    `steps`: network calls of multi-step denoising, None for every step.
    """
    cells = [cell for cell in paper().cells if cell.table == table]
    datasets: dict[str, Dataset] = {}
    missing: list[Missing] = []
    for name in dict.fromkeys(cell.data for cell in cells):
        found = find_dataset(data, name, split=split)
        if isinstance(found, Missing):
            missing.append(found)
        else:
            datasets[name] = found
    candidates: dict[tuple[str, str, str], Candidate | None] = {}
    for cell in cells:
        method = ONE_SHOT if cell.method == CLEAN else cell.method
        key = (cell.model, method, cell.data)
        if key not in candidates:
            candidates[key], lack = _candidate(*key, bundles=bundles, datasets=datasets, folder=data, steps=steps)
            missing += [lack] if lack else []
    entries = [Entry(cell, candidates[cell.model, ONE_SHOT if cell.method == CLEAN else cell.method, cell.data]) for cell in cells]
    entries += _one_shot_beside(entries, bundles=bundles) if table in ("s1", "s3") else _others(cells, bundles=bundles, datasets=datasets)
    return Inventory(table, tuple(entries), datasets, tuple(missing))


def _candidate(
    model: str, method: str, data: str, *, bundles: Sequence[Bundle], datasets: Mapping[str, Dataset], folder: Path, steps: int | None
) -> tuple[Candidate | None, Missing | None]:
    bundle = find_bundle(bundles, model=model, method=method, data=data)
    if bundle is None:
        return None, how_to_make(model=model, method=method, data=data, folder=folder)
    if data in datasets and (objection := _objection(bundle, datasets[data])):
        return None, Missing(f"bundle {bundle.name} for {data}", objection)
    return Candidate(bundle, f"{method}:{steps}" if method == MULTI_STEP and steps is not None else method), None


def _objection(bundle: Bundle, dataset: Dataset) -> str | None:
    """Why a bundle cannot be run in the paper's setting; None if it can."""
    try:
        adapter_for(noise_grid_of("paper", bundle, dataset), bundle)
    except UsageError as error:
        return one_line(error)
    return None


def _one_shot_beside(entries: Sequence[Entry], *, bundles: Sequence[Bundle]) -> list[Entry]:
    """Tables S1 and S3 ask whether another way to denoise is better: Table 1's lines of the networks that there is a candidate for."""
    found = {(entry.cell.model, entry.cell.data) for entry in entries if entry.candidate}
    cells = [cell for cell in paper().cells if cell.table == "table1" and (cell.model, cell.data) in found]
    bundle = {key: find_bundle(bundles, model=key[0], method=ONE_SHOT, data=key[1]) for key in found}
    return [Entry(cell, Candidate(own, ONE_SHOT)) for cell in cells if (own := bundle[cell.model, cell.data]) is not None]


def _others(cells: Sequence[Cell], *, bundles: Sequence[Bundle], datasets: Mapping[str, Dataset]) -> list[Entry]:
    """Our networks that the table has not, on the cells of its first network with one-shot denoising."""
    shots = [cell for cell in cells if cell.method == ONE_SHOT]
    theirs = {cell.model for cell in shots}
    entries = []
    for cell in (cell for cell in shots if cell.model == shots[0].model):
        for bundle in other_bundles(bundles, method=ONE_SHOT, data=cell.data, than=theirs):
            if cell.data in datasets and _objection(bundle, datasets[cell.data]) is None:
                ours = {**asdict(cell), "model": bundle.name, "dice": None, "iou": None, "abstain": None}
                entries.append(Entry(Cell(**ours), Candidate(bundle, ONE_SHOT)))
    return entries


def reproduce(
    stock: Inventory,
    *,
    split: str,
    backend: Backend,
    out: Path,
    images: int | None = None,
    images_seed: int | None = None,
    batch_size: int = 10,
    images_at_once: int = 1,
    processes: int = 1,
    parameters: SmoothingParameters | None = None,
    progress: Callable[[str], Callable[[int, int], None] | None] | None = None,
) -> list[dict[str, Any]]:
    """Run every candidate on its data set in the paper's setting; one dict a line of the table, ours None where it is open.

    Rows are kept under `out`, a folder a data set, so that tables share what they have in common and an interrupted run goes on.
    `progress`: given a data set's name, the callback for its run.
    """
    summaries: dict[str, list[Summary]] = {}
    for name, dataset in stock.datasets.items():
        entries = [entry for entry in stock.entries if entry.cell.data == name and entry.candidate is not None]
        candidates = {(e.candidate.bundle.sha256, e.candidate.method): e.candidate for e in entries if e.candidate}
        if not candidates:
            continue
        plan = Plan(
            dataset=dataset,
            part=split,
            samples=subset(select(dataset, split), images, seed=images_seed),
            candidates=tuple(candidates.values()),
            sigmas=tuple(sorted({entry.cell.sigma for entry in entries if entry.cell.sigma})),
            protocol="paper",
            parameters=parameters or SmoothingParameters(),
        )
        callback = progress(name) if progress else None
        rows = evaluate(
            plan,
            backend=backend,
            folder=out / f"{name}-{split}",
            batch_size=batch_size,
            images_at_once=images_at_once,
            processes=processes,
            progress=callback,
        )
        summaries[name] = summarise(rows)
    return [_line(entry, stock, summaries.get(entry.cell.data, [])) for entry in stock.entries]


def _line(entry: Entry, stock: Inventory, summaries: Sequence[Summary]) -> dict[str, Any]:
    cell, candidate = entry.cell, entry.candidate
    line: dict[str, Any] = {
        **{name: getattr(cell, name) for name in ("model", "method", "data", "sigma", "structure")},
        **({"method": candidate.method} if candidate is not None and cell.sigma else {}),
        "paper": {"dice": cell.dice, "iou": cell.iou, "abstain": cell.abstain},
        "ours": None,
    }
    if candidate is None or cell.data not in stock.datasets:
        return line
    method = CLEAN if not cell.sigma else candidate.method
    key = (candidate.bundle.sha256, method, cell.sigma)
    found = next((s for s in summaries if (s.bundle_sha256, s.method, s.sigma) == key), None)
    if found is None:
        return line
    names = match([cell.structure], [structure_of(name) for name in found.structures], where=candidate.bundle.name)
    at = [structure_of(name) for name in found.structures].index(names[cell.structure])
    line["ours"] = without_nan(
        {
            "bundle": found.bundle,
            "dice": found.dice()[at].mean,
            "interval": [found.dice()[at].low, found.dice()[at].high],
            "iou": found.iou()[at].mean,
            "worst_case": found.dice("worst_case")[at].mean,
            "abstain": None if found.is_clean else found.abstain.mean if len(STRUCTURES[cell.data]) > 1 else found.abstain_by[at],
            "images": found.images,
            "seconds": round(found.seconds, 2),
        }
    )
    return line


def reproduction_file(stock: Inventory, lines: Sequence[dict[str, Any]], *, command: str, split: str, machine: str) -> dict[str, Any]:
    """The JSON content of one reproduced table."""
    return {
        "table": stock.table,
        "title": paper().titles[stock.table],
        "source": paper().source,
        "command": command,
        "machine": machine,
        "split": split,
        "lines": list(lines),
        "missing": [str(missing) for missing in stock.missing],
    }


def reproduction_table(content: dict[str, Any]) -> Table:
    """A reproduced table: theirs and ours side by side, one line a structure."""
    head = ("network", "way", "data", "structure", "sigma", "paper", "ours", "worst case", "⊘ paper", "⊘ ours", "reached")
    return Table(f"{content['title']} ({content['source']})", head, tuple(_cells(line) for line in content["lines"]), text_columns=4)


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    theirs, ours = line["paper"], line["ours"]
    known = theirs["dice"] is not None
    start = (line["model"], line["method"], line["data"], line["structure"], f"{line['sigma']:g}")
    paper_cell = f"{theirs['dice']:.2f}/{theirs['iou']:.2f}" if known else ""
    paper_abstain = "" if theirs["abstain"] is None else f"{theirs['abstain']:.2f}"
    if ours is None or ours["dice"] is None:
        return (*start, paper_cell, "open", "", paper_abstain, "", "open")
    low, high = ours["interval"]
    reached = "" if not known else "yes" if ours["dice"] > theirs["dice"] else "no"
    abstain = "" if ours["abstain"] is None else f"{ours['abstain']:.2f}"
    interval = "" if low is None else f" [{low:.3f}–{high:.3f}]"  # of one patient there is none
    figures = f"{ours['dice']:.3f}{interval}/{ours['iou']:.3f}"
    return (*start, paper_cell, figures, f"{ours['worst_case']:.3f}", paper_abstain, abstain, reached)


def reproduction_section(content: dict[str, Any]) -> str:
    """One reproduced table as a section of docs/results.md."""
    lines = [f"## {content['title']}", "", reproduction_table(content).markdown(), ""]
    lines += [f"Paper: {content['source']}. `{content['command']}` on {content['machine']}.", ""]
    if notes := content.get("notes"):
        lines += [notes, ""]
    if content["missing"]:
        lines += ["Open cells:", "", *(f"* {missing}" for missing in content["missing"]), ""]
    return "\n".join(lines)
