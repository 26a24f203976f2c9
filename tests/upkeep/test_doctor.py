"""The doctor finds the damage of every store, mends what it can, and the other stores are used meanwhile."""

import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.journal.test_damage import damage_file
from tests.upkeep.filled import ABOUT
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.artifact import Artifact
from tidemill.errors import Corrupt
from tidemill.testing.board import route, token_list
from tidemill.testing.journal import START, rows
from tidemill.upkeep.backup import back_up
from tidemill.upkeep.doctor import Doctor, Finding
from tidemill.upkeep.restore import restore
from tidemill.workspace.workspace import Workspace

NOW = datetime(2013, 3, 1, tzinfo=UTC)
KIND = "predictions/late"
VALUES = {f"customer-{number}": {"spent": float(number)} for number in range(50)}


def fill_online(workspace: Workspace) -> None:
    workspace.online.write("shop", [(entity, NOW, values) for entity, values in VALUES.items()])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with something in each store."""
    made = open_workspace(tmp_path / "workspace", urls={})
    digest = made.blobs.put(b"a result")
    made.ledger.artifacts.add(Artifact(id=digest, kind="bytes", size=8))
    for number in range(5):
        made.journal.append(KIND, rows(START, START, value=[number, -number]))
    for model in ("late", "full"):
        made.ledger.routes.add(route(3, model))
        made.board.publish(route(3, model))
    for day in range(3):
        made.tables.append("flights", f"day {day}", pl.DataFrame({"delay": [day, day + 1], "dest": ["BOS", "SFO"]}))
    fill_online(made)
    return made


def reopen(workspace: Workspace) -> Workspace:
    return open_workspace(workspace.root, urls={})


def doctor_of(workspace: Workspace) -> Doctor:
    return Doctor(workspace, VirtualClock(NOW), fill_online)


def named(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.damage.store, finding.damage.state) for finding in findings]


def pick(workspace: Workspace, store: str) -> Path:
    folder = workspace.root / "environments" / "production"
    return {
        "journal": lambda: sorted(folder.glob("journal/predictions/late/*.arrow"))[2],
        "board": lambda: folder / "routes" / "late.json",
        "online": lambda: folder / "online.db",
        "tables": lambda: sorted(folder.glob("tables/flights/*.parquet"))[1],
        "blobs": lambda: next(file for file in (workspace.root / "blobs").glob("??/*") if file.is_file()),
    }[store]()


WAYS: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flip": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
    "other": lambda file: file.write_bytes(b'{"a":1}'),
    "deleted": lambda file: file.unlink(),
}


def test_an_intact_workspace_has_no_finding(workspace: Workspace) -> None:
    assert list(doctor_of(workspace).examine()) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("store", ["journal", "board", "online", "blobs", "tables"])
def test_each_damage_is_found_and_mended(workspace: Workspace, tmp_path: Path, store: str, way: str) -> None:
    with (tmp_path / "backup.tar").open("wb") as sink:
        assert back_up(workspace, sink, ABOUT, NOW).damaged == ()
    with sqlite3.connect(pick(workspace, "online")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    WAYS[way](pick(workspace, store))
    opened = reopen(workspace)
    findings = list(doctor_of(opened).examine())
    assert {finding.damage.store for finding in findings} == {store}, findings
    assert all(finding.damage.problem and finding.damage.cure for finding in findings)
    with (tmp_path / "backup.tar").open("rb") as source:
        mended = doctor_of(opened).mend(findings, source)
    assert all(finding.mended for finding in mended), mended
    again = reopen(workspace)
    assert list(doctor_of(again).examine()) == []
    assert again.journal.read(KIND).height == 10
    assert sorted(again.tables.read("flights", 2)["delay"]) == [0, 1, 1, 2, 2, 3]
    assert again.board.routes() == {"late": route(3), "full": route(3, "full")}
    assert again.online.read("shop", list(VALUES)) == [(NOW, values) for values in VALUES.values()]
    assert again.blobs.get(next(iter(again.ledger.artifacts.find())).id) == b"a result"


def test_without_a_backup_results_are_computed_again_and_lost_rows_are_given_up(workspace: Workspace) -> None:
    pick(workspace, "blobs").write_bytes(b"")
    pick(workspace, "journal").unlink()
    opened = reopen(workspace)
    findings = list(doctor_of(opened).examine())
    assert sorted(named(findings)) == [("blobs", "damaged"), ("journal", "missing")]
    mended = {finding.damage.store: finding.mended for finding in doctor_of(opened).mend(findings)}
    assert mended == {"blobs": "the next run computes it again", "journal": ""}
    remaining = list(doctor_of(reopen(workspace)).examine())
    assert named(remaining) == [("journal", "missing")]
    assert "lost" in doctor_of(opened).mend(remaining, accept=True)[0].mended
    assert list(doctor_of(reopen(workspace)).examine()) == []


def test_a_damaged_ledger_is_found_and_the_other_stores_are_examined(workspace: Workspace) -> None:
    workspace.ledger.close()
    file = workspace.root / "ledger.db"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(file.read_bytes())
    for page in range(4096, len(content) - 4096, 4096):
        content[page : page + 40] = random.Random(page).randbytes(40)
    file.write_bytes(content)
    pick(workspace, "journal").write_bytes(b"")
    stores = {finding.damage.store for finding in doctor_of(reopen(workspace)).examine()}
    assert {"ledger", "journal"} <= stores


def test_a_bit_that_flipped_in_a_record_of_the_ledger_is_found(workspace: Workspace) -> None:
    workspace.ledger.close()
    with sqlite3.connect(workspace.root / "ledger.db") as connection:
        connection.execute("""UPDATE artifacts SET body = replace(body, '"size":8', '"size":9')""")
    connection.close()
    (finding,) = doctor_of(reopen(workspace)).examine()
    assert (finding.damage.store, finding.damage.name) == ("ledger", "artifacts")


def test_damaged_tokens_are_published_again(workspace: Workspace) -> None:
    for token in token_list(2).tokens:
        workspace.ledger.tokens.add(token)
    workspace.board.publish_tokens(token_list(2))
    (workspace.root / "environments/production/routes/access.tokens").write_bytes(b"")
    opened = reopen(workspace)
    with pytest.raises(Corrupt):
        opened.board.tokens()
    findings = list(doctor_of(opened).examine())
    assert [finding.damage.name for finding in findings] == ["access.tokens"]
    assert all(finding.mended for finding in doctor_of(opened).mend(findings))
    assert opened.board.tokens() == token_list(2)


def test_a_backup_goes_on_beside_damage_and_names_it(workspace: Workspace, tmp_path: Path) -> None:
    chance = random.Random(1)
    target = pick(workspace, "journal")
    damage_file(target, chance)
    (workspace.root / "environments/production/routes/full.json").write_bytes(b"")
    opened = reopen(workspace)
    opened.board.routes()
    with (tmp_path / "backup.tar").open("wb") as sink:
        manifest = back_up(opened, sink, ABOUT, NOW)
    assert sorted(manifest.damaged) == [
        "environments/production/board/full.json",
        f"environments/production/journal/{KIND}/{target.name}",
    ]
    there = open_workspace(tmp_path / "there", urls={})
    there.ledger.artifacts.find()
    with (tmp_path / "backup.tar").open("rb") as source:
        restore(there, source, NOW)
    there = open_workspace(tmp_path / "there", urls={})
    assert there.journal.read(KIND).height == 8
    assert set(there.board.routes()) == {"late"}
