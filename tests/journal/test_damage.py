"""Damaged files of a journal: each is named and set aside, the other rows are read, and no wrong value is returned."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest

from tests.journal.test_files import HOUR, filled
from tidemill.core.route import Route
from tidemill.errors import Corrupt
from tidemill.journal.board import FileBoard
from tidemill.journal.files import FileJournal
from tidemill.testing.board import route, token_list
from tidemill.testing.journal import START, rows

KIND = "labels/late"
TRIES = 300


def list_segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.arrow"))


def damage_file(file: Path, chance: random.Random) -> str:
    """Flip a bit of a file, cut it, empty it, or replace its bytes with those of another segment."""
    return damage_content(file, chance, lambda: chance.choice([x for x in list_segments(file.parent) if x != file]))


def damage_content(file: Path, chance: random.Random, choose_other: Callable[[], Path]) -> str:
    """Flip a bit of a file, cut it, empty it, or replace its bytes with those of another file."""
    content = bytearray(file.read_bytes())
    way = chance.choice(["flip", "flip", "flip", "cut", "empty", "other"])
    if way == "flip":
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif way == "cut":
        del content[chance.randrange(1, len(content)) :]
    elif way == "empty":
        content.clear()
    else:
        content[:] = choose_other().read_bytes()
    file.write_bytes(content)
    return way


def test_300_damaged_segments_are_each_named_and_give_no_wrong_value(tmp_path: Path) -> None:
    chance = random.Random(9)
    journal = filled(tmp_path, 10)
    journal.append(KIND, rows(*[START] * 500, value=[chance.randrange(1000) for _ in range(500)]))
    whole = {file.name: file.read_bytes() for file in list_segments(tmp_path)}
    values = {name: pl.read_ipc(tmp_path / KIND / name)["value"].to_list() for name in whole}
    for number in range(TRIES):
        target = chance.choice(list_segments(tmp_path))
        way = damage_file(target, chance)
        found = FileJournal(tmp_path)
        read = found.read(KIND)
        remaining = sorted(value for name, these in values.items() if name != target.name for value in these)
        assert sorted(read["value"]) == remaining, (number, way, target.name)
        (damage,) = found.damages()
        assert (damage.name, damage.state) == (f"{KIND}/{target.name}", "damaged"), (number, way)
        target.with_name(f"{target.name}.damaged").unlink()
        target.write_bytes(whole[target.name])
    assert sorted(FileJournal(tmp_path).read(KIND)["value"]) == sorted(v for these in values.values() for v in these)


ACTS: list[Callable[[FileJournal], object]] = [
    lambda journal: journal.read(KIND),
    lambda journal: journal.tidy(KIND, keep=1),
    lambda journal: journal.erase(KIND, lambda found: found["value"] == 4),
    lambda journal: [name for name, _ in journal.export()],
    lambda journal: list(journal.check()),
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("content", [b"", b"ARROW1", None])
def test_everything_goes_on_beside_a_damaged_segment(
    tmp_path: Path, act: Callable[[FileJournal], object], content: bytes | None
) -> None:
    filled(tmp_path)
    target = list_segments(tmp_path)[3]
    target.write_bytes(target.read_bytes()[:-40] if content is None else content)
    act(FileJournal(tmp_path))
    journal = FileJournal(tmp_path)
    assert [damage.name for damage in journal.damages()] == [f"{KIND}/{target.name}"]
    assert set(journal.read(KIND)["value"]) - {4} == {v for n in range(10) if n != 3 for v in (n, -n)} - {4}
    journal.append(KIND, rows(START + 99 * HOUR, value=[99]))
    assert 99 in journal.read(KIND)["value"].to_list()


def test_a_deleted_segment_is_missing_and_a_merged_one_is_not(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    target = list_segments(tmp_path)[3]
    target.unlink()
    assert [(damage.name, damage.state) for damage in journal.damages()] == [(f"{KIND}/{target.name}", "missing")]
    journal.tidy(KIND, keep=1)
    assert [damage.state for damage in journal.damages()] == ["missing"]
    journal.append(KIND, rows(START, value=[1]))
    journal.tidy(KIND, keep=1)
    journal.erase(KIND, lambda found: found["value"] < 99)
    assert [damage.name for damage in journal.damages()] == [f"{KIND}/{target.name}"]
    journal.accept_loss(f"{KIND}/{target.name}")
    assert journal.damages() == []


def test_a_segment_of_another_kind_in_the_place_is_damaged(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    journal.append("labels/other", rows(START, value=[7]))
    (other,) = (tmp_path / "labels" / "other").glob("*.arrow")
    (tmp_path / KIND / other.name).write_bytes(other.read_bytes())
    assert journal.read(KIND).height == 20
    assert [damage.name for damage in journal.damages()] == [f"{KIND}/{other.name}"]


def test_segments_of_an_earlier_version_are_read_and_get_checksums_when_they_are_merged(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    for file in list_segments(tmp_path):
        file.rename(file.with_name(file.name[: -len("0123456789abcdef.arrow")] + ".arrow"))
    (tmp_path / KIND / ".segments").unlink()
    old = FileJournal(tmp_path)
    assert sorted(old.read(KIND)["value"]) == sorted(journal.read(KIND)["value"])
    list_segments(tmp_path)[0].write_bytes(b"")
    assert FileJournal(tmp_path).read(KIND).height == 18
    old.tidy(KIND, keep=1)
    (merged,) = list_segments(tmp_path)
    merged.write_bytes(merged.read_bytes()[:-1] + b"x")
    assert FileJournal(tmp_path).read(KIND).is_empty()
    assert len(old.damages()) == 2


def test_drafts_and_compactions_of_killed_writers_are_swept(tmp_path: Path) -> None:
    journal = filled(tmp_path)
    folder = tmp_path / KIND
    for name in (".0123456789ab.4711", ".segments.4711"):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (0, 0))
    (folder / ".aaaaaaaaaaaa.4711").write_bytes(b"of a writer that writes now")
    journal.tidy(KIND)
    assert sorted(file.name for file in folder.glob(".*")) == [".aaaaaaaaaaaa.4711", ".compacting", ".segments"]


def test_thousands_of_segments_are_merged_in_bounded_steps(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    for number in range(1500):
        journal.append(KIND, rows(START + number * HOUR, value=[number]))
    assert FileJournal(tmp_path).read(KIND)["value"].to_list() == list(range(1500))
    assert len(list_segments(tmp_path)) <= 32
    assert journal.damages() == []


def damage_board(folder: Path, chance: random.Random, names: list[str]) -> str:
    """Damage one file of a board; return its name."""
    file = folder / chance.choice(names)
    damage_content(file, chance, lambda: folder / next(name for name in names if name != file.name))
    return file.name


def test_300_damaged_board_files_are_each_named_and_give_no_wrong_route(tmp_path: Path) -> None:
    chance = random.Random(4)
    board = FileBoard(tmp_path)
    published = {model: route(3, model) for model in ("late", "full", "other")}
    for each in published.values():
        board.publish(each)
    board.publish_tokens(token_list(2))
    whole = {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.name.startswith(".")}
    for number in range(TRIES):
        name = damage_board(tmp_path, chance, list(whole))
        read = FileBoard(tmp_path)
        assert read.routes() == {m: each for m, each in published.items() if f"{m}.json" != name}, (number, name)
        if name == "access.tokens":
            with pytest.raises(Corrupt, match=r"access\.tokens"):
                read.tokens()
            with pytest.raises(Corrupt, match="set aside"):
                FileBoard(tmp_path).tokens()
        assert [(damage.name, damage.state) for damage in read.damages()] == [(name, "damaged")], number
        assert name not in {exported for exported, _ in read.export()}
        if number % 10:  # publishing waits for the disk
            (tmp_path / name).write_bytes(whole[name])
            (tmp_path / f"{name}.damaged").unlink()
            continue
        if name == "access.tokens":
            read.publish_tokens(token_list(2))
        else:
            read.publish(published[name.removesuffix(".json")])
        assert read.damages() == []
        assert (read.routes(), read.tokens()) == (published, token_list(2))
        assert (tmp_path / name).read_bytes() == whole[name]


def test_board_files_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "late.json").write_bytes(msgspec.json.encode(route(2)))
    board = FileBoard(tmp_path)
    assert board.routes() == {"late": route(2)}
    board.publish(route(3))
    assert b'{"checksum":"' in (tmp_path / "late.json").read_bytes()
    assert msgspec.json.decode((tmp_path / "late.json").read_bytes(), type=Route) == route(3)
