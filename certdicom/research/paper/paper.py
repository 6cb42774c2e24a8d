"""The paper's figures, from one data file beside this module, with their source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLES = ("table1", "table2", "table3", "s1", "s2", "s3")
MODELS = ("UNet", "ResUNet++", "DeepLabV2")
"""The paper's networks, by the names of our architectures."""


@dataclass(frozen=True)
class Cell:
    """One figure of the paper: a structure of a data set, by one network in one way, at one noise level (0: without noise).

    `dice`, `iou`, `abstain` (a share) are None where the figure is not at hand; JSRT's structures share one abstention.
    """

    table: str
    model: str
    method: str
    data: str
    sigma: float
    structure: str
    dice: float | None
    iou: float | None
    abstain: float | None


@dataclass(frozen=True)
class Paper:
    """All cells, their source, and what the tables are called."""

    source: str
    split: str
    titles: Mapping[str, str]
    cells: tuple[Cell, ...]


@cache
def paper() -> Paper:
    """The figures of Laousy et al. 2023. Those of Tables S1 and S3 are not at hand and stand as None."""
    fields = json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8"))
    return Paper(fields["source"], fields["split"], fields["titles"], tuple(Cell(**cell) for cell in fields["cells"]))


def best_of_table1(sigma: float) -> tuple[float, ...]:
    """Table 1, JSRT: the best Dice of the three networks for lungs, heart and clavicles."""
    cells = [cell for cell in paper().cells if cell.table == "table1" and cell.data == "jsrt" and cell.sigma == sigma]
    return tuple(max(cell.dice or 0.0 for cell in cells if cell.structure == name) for name in ("lungs", "heart", "clavicles"))
