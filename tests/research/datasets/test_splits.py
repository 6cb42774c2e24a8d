"""Splits: published, listed, or drawn with patients and videos kept whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from certdicom.errors import UsageError
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.splits import draw, read_listing, select
from certdicom.research.datasets.structures import match, structure_of


def dataset(*, groups: int = 100, each: int = 3, parts: dict[str, str] | None = None) -> Dataset:
    def never():
        raise AssertionError("no image may be read")

    samples = tuple(
        Sample(f"{g}-{i}", f"patient {g}", never, part=(parts or {}).get(f"{g}-{i}")) for g in range(groups) for i in range(each)
    )
    return Dataset("set", Path("set"), "test", 1, ("lungs",), samples)


def test_a_seed_draws_70_10_20_and_keeps_patients_whole() -> None:
    drawn = draw(dataset().samples, seed=0)
    sizes = {part: sum(sample.part == part for sample in drawn) for part in ("train", "val", "test")}
    assert sizes["train"] == pytest.approx(210, abs=3)
    assert sizes["val"] == pytest.approx(30, abs=3)
    assert sum(sizes.values()) == 300
    for patient in {sample.group for sample in drawn}:
        assert len({sample.part for sample in drawn if sample.group == patient}) == 1
    assert drawn == draw(dataset().samples, seed=0) or [s.part for s in drawn] == [s.part for s in draw(dataset().samples, seed=0)]
    assert [s.part for s in drawn] != [s.part for s in draw(dataset().samples, seed=1)]


def test_the_three_parts_share_nothing_and_leave_nothing_out() -> None:
    parts = [{sample.name for sample in select(dataset(), part)} for part in ("train", "val", "test")]
    assert parts[0] | parts[1] | parts[2] == {sample.name for sample in select(dataset(), "all")}
    assert not parts[0] & parts[1]
    assert not parts[1] & parts[2]


def test_a_published_split_is_used_unless_a_seed_is_given() -> None:
    published = dataset(groups=4, each=1, parts={"0-0": "val", "1-0": "train", "2-0": "train", "3-0": "train"})
    assert [sample.name for sample in select(published, "val")] == ["0-0"]
    with pytest.raises(UsageError, match=r"no part 'test'; it has train \(3\), val \(1\)"):
        select(published, "test")
    assert len(select(published, "train", seed=1)) == 3


def test_a_list_file_has_the_last_word(tmp_path: Path) -> None:
    table = tmp_path / "split.csv"
    table.write_text("id,split\n0-0,test\n1-0,train\n")
    assert [sample.name for sample in select(dataset(), "test", listing=table)] == ["0-0"]
    names = tmp_path / "names.txt"
    names.write_text("2-1\n\n5-0\n")
    assert read_listing(names) == {"2-1": None, "5-0": None}
    assert [sample.name for sample in select(dataset(), "test", listing=names)] == ["2-1", "5-0"]
    names.write_text("nobody\n")
    with pytest.raises(UsageError, match="'nobody'"):
        select(dataset(), "test", listing=names)
    with pytest.raises(UsageError, match="both"):
        select(dataset(), "test", listing=names, seed=1)


def test_structures_go_by_one_name() -> None:
    assert structure_of("left_clavicle") == structure_of("Right Clavicle") == "clavicles"
    assert structure_of("spleen") == "spleen"
    assert match(("lungs", "heart"), ("lungs",), where="x") == {"lungs": "lungs"}
    assert match(("skin lesion",), ("foreground",), where="x") == {"skin lesion": "foreground"}
    assert match(("skin lesion",), ("lesion",), where="x") == {"skin lesion": "lesion"}
    with pytest.raises(UsageError, match="masks of polyp"):
        match(("lungs", "heart"), ("polyp",), where="x")
