"""Erasure: one person's rows leave everything, nobody else's do, and it is recorded without saying who it was."""

import hashlib
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tidemill.blobs import artifacts
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.feature import Entity, FeatureView
from tidemill.core.policy import Inputs, ModelPolicy, Policy, Problem
from tidemill.core.release import Release
from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import Conflict, Corrupt, InputError, NotFound
from tidemill.upkeep.erasure import Eraser, Erasure, parse_person
from tidemill.upkeep.lock import upkeep

NOW = datetime.now(UTC) + timedelta(days=1)  # later than every file that the suite writes
POLICY = Policy(
    name="shop",
    sources={
        "orders": Source(path="orders/*.csv", time="at", key=("order_id",)),
        "customers": Source(path="customers.csv", key=("customer_id",)),
    },
    models={
        "late": ModelPolicy(
            name="late", problem=Problem(decision="d", source="orders", label="late"), inputs=Inputs(views=("spend",))
        ),
        "other": ModelPolicy(name="other", problem=Problem(decision="d", source="elsewhere", label="late")),
    },
)
CUSTOMER, PAIR = Entity("customer", ("customer_id",)), Entity("pair", ("customer_id", "shop"))
VIEWS = {
    "spend": FeatureView(name="spend", entity=CUSTOMER, source="orders", columns=("amount",)),
    "pair": FeatureView(name="pair", entity=PAIR, source="orders", columns=("amount",)),
}
ORDERS = pl.DataFrame(
    {
        "order_id": [1, 2, 3, 7],
        "customer_id": [7, 8, 7, 9],
        "shop": ["Zürich", "7", "x|y", "a"],
        "at": ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2024-01-03T00:00:00Z", "2024-01-04T00:00:00Z"],
        "amount": [1.5, 2.5, 3.5, 4.5],
        "late": [True, False, True, False],
    }
)


class Shop:
    """A workspace with a person's rows everywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = open_workspace(folder / "state")
        self.clock = VirtualClock(NOW, os.getpid())
        self.sources = FileSources(folder, POLICY.sources)

    def fill(self) -> None:
        (self.folder / "orders").mkdir(parents=True)
        ORDERS[:2].write_csv(self.folder / "orders" / "a.csv")
        ORDERS[2:].write_csv(self.folder / "orders" / "b.csv")
        pl.DataFrame({"customer_id": [8], "name": ["Ann"]}).write_csv(self.folder / "customers.csv")
        for batch in self.sources.batches("orders", NOW):
            self.workspace.tables.append("orders", batch.id, self.sources.read(batch))
        times = pl.Series("known_at", [NOW] * 4, dtype=pl.Datetime("us", "UTC"))
        served = pl.DataFrame(
            {"id": list("abcd"), "key": ["1", "2", "3.0", "7"], "value": ["true"] * 4, "role": "champion"}
        )
        served = served.with_columns(times, ORDERS.select(pl.struct("amount").alias("features"))["features"])
        self.workspace.journal.append("predictions/late", served)
        self.workspace.journal.append("predictions/late", served[:1].with_columns(pl.lit("shadow").alias("role")))
        labels = pl.DataFrame({"id": ["a", "b", "", ""], "key": ["", "", "3", "7"], "value": ["true"] * 4})
        self.workspace.journal.append("labels/late", labels.with_columns(times))
        by_value = served.with_columns(
            ORDERS.select(pl.struct("customer_id").alias("features"))["features"], key=pl.lit("")
        )
        open_workspace(self.folder / "state", "test").journal.append("predictions/late", by_value)
        online = self.workspace.online
        online.write("spend", [(entity, NOW, {"spend_amount": 99.25}) for entity in ("7", "8")])
        online.write("pair", [(entity, NOW, {"pair_amount": 1.0}) for entity in ("7|Zürich", "8|7", r"7|x\|y")])
        online.write("gone", [(entity, NOW, {}) for entity in ("7", "8")])
        books, blobs = self.workspace.ledger, self.workspace.blobs
        with_keys, without = ORDERS.select("order_id", "amount"), ORDERS.filter(pl.col("customer_id") == 8)
        for value in (ORDERS, with_keys, without, ORDERS.select("amount"), [ORDERS[:1], without]):
            books.artifacts.add(artifacts.write_artifact(blobs, value))
        for version, created in ((1, datetime(2023, 12, 1, tzinfo=UTC)), (2, NOW)):
            for name in ("late", "other"):
                books.releases.add(
                    Release(
                        id=f"{name}-{version}",
                        name=name,
                        version=version,
                        package="p",
                        flavor="f",
                        environment="production",
                        created=created,
                    )
                )

    def erase(self, text: str, *, dry_run: bool = False) -> Erasure:
        eraser = Eraser(self.workspace, POLICY, self.sources, VIEWS, self.clock)
        return eraser.erase(parse_person(text, VIEWS), actor="jürg", reason="asked on Monday", dry_run=dry_run)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.fill()
    return made


def left(shop: Shop) -> dict[str, list[object]]:
    """What is left in every store."""
    place = shop.workspace
    online = place.online
    pairs = ["7|Zürich", "8|7", r"7|x\|y"]
    cached = [one for one in place.ledger.artifacts.find() if place.blobs.has(one.id)]
    return {
        "predictions": sorted(place.journal.read("predictions/late")["id"]),
        "labels": sorted(place.journal.read("labels/late").select("id", "key").rows()),
        "test": sorted(open_workspace(place.root, "test").journal.read("predictions/late")["id"]),
        "spend": [row is not None for row in online.read("spend", ["7", "8"])],
        "pair": [row is not None for row in online.read("pair", pairs)],
        "gone": [row is not None for row in online.read("gone", ["7", "8"])],
        "frames": sorted(one.size for one in cached if one.kind == "frame"),
        "table": sorted(place.tables.read("orders", place.tables.version("orders"))["order_id"]),
    }


def test_a_persons_rows_leave_everything_and_nobody_elses_do(shop: Shop) -> None:
    before = left(shop)
    tried = shop.erase("customer_id=7", dry_run=True)
    assert left(shop) == before
    assert shop.workspace.ledger.audit.find() == []
    done = shop.erase("customer_id=7")
    assert done == tried
    assert done.rows == {
        "production journal labels/late": 2,
        "production journal predictions/late": 3,
        "production online gone": 1,
        "production online pair": 2,
        "production online spend": 1,
        "production table orders": 2,
        "test journal predictions/late": 2,
    }
    after = left(shop)
    assert {name: rows for name, rows in after.items() if name != "frames"} == {
        "predictions": ["b", "d"],
        "labels": [("", "7"), ("b", "")],
        "test": ["b", "d"],
        "spend": [False, True],
        "pair": [False, True, False],
        "gone": [False, True],
        "table": [2, 7],
    }
    assert done.frames == len(before["frames"]) - len(after["frames"]) + 1 == 3
    collected = [one for one in shop.workspace.ledger.artifacts.find() if one.collected]
    assert {one.collected for one in collected} == {NOW}
    assert sorted(Path(path).name for path in done.sources) == ["a.csv", "b.csv"]
    assert done.releases == ("late/2",)


@pytest.mark.parametrize("is_dry", [True, False])
@pytest.mark.parametrize("store", ["journal", "online"])
def test_a_damaged_file_that_could_not_be_searched_is_named(shop: Shop, store: str, is_dry: bool) -> None:
    state = shop.workspace.state_folder
    file = sorted((state / "journal").rglob("*.arrow"))[0] if store == "journal" else state / "online.db"
    content = bytearray(file.read_bytes())
    if store == "journal":
        content[len(content) // 2] ^= 4
    else:
        content[:100] = bytes(100)
        for name in ("online.db-wal", "online.db-shm"):
            (state / name).unlink(missing_ok=True)
    file.write_bytes(content)
    opened = Shop(shop.folder)
    done = opened.erase("customer_id=7", dry_run=is_dry)
    assert [name for name in done.unread if file.name in name and name.startswith(f"production {store}")], done.unread
    assert done.rows["test journal predictions/late"] == 2, "the other files are searched"


def test_a_damaged_table_is_not_rewritten_by_an_erasure(shop: Shop) -> None:
    file = sorted((shop.workspace.state_folder / "tables" / "orders").glob("*.parquet"))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(Corrupt, match=file.name):
        Shop(shop.folder).erase("customer_id=7")


def test_it_is_recorded_without_the_key(shop: Shop) -> None:
    shop.erase("customer_id=7")
    ended, began = sorted(shop.workspace.ledger.audit.find(), key=lambda one: one.action, reverse=True)
    assert (began.action, ended.action, ended.actor, ended.reason) == (
        "began to erase",
        "erased",
        "jürg",
        "asked on Monday",
    )
    assert ended.detail["rows"]["production table orders"] == 2
    assert ended.detail["releases"] == ["late/2"]
    salt = bytes.fromhex(ended.detail["salt"])
    assert hashlib.scrypt(b"7", salt=salt, n=2**14, r=8, p=1, dklen=32).hex() == ended.detail["hash"]
    assert ended.subject == f"person/{ended.detail['hash'][:16]}"


def test_it_may_be_repeated(shop: Shop) -> None:
    shop.erase("customer_id=7")
    once = left(shop)
    again = shop.erase("customer_id=7")
    assert (again.rows, again.frames) == ({}, 0)
    assert left(shop) == once


def test_an_entity_names_its_keys(shop: Shop) -> None:
    assert shop.erase("customer=7").rows["production table orders"] == 2
    assert shop.erase("pair=8|7").rows["production table orders"] == 1
    assert parse_person("customer=7", VIEWS).columns == ("customer_id",)
    for wrong in ("customer_id", "customer_id=", "=7", "pair=8"):
        with pytest.raises(InputError):
            parse_person(wrong, VIEWS)


def test_a_column_that_nothing_has_is_an_error_and_a_person_that_nobody_is_not(shop: Shop) -> None:
    before = left(shop)
    with pytest.raises(NotFound, match="costumer_id"):
        shop.erase("costumer_id=7")
    none = shop.erase("customer_id=4711")
    assert (none.rows, none.frames, none.sources, none.releases) == ({}, 0, {}, ())
    assert left(shop) == before


def test_what_only_a_step_has_read_is_erased_too(shop: Shop) -> None:
    books, blobs = shop.workspace.ledger, shop.workspace.blobs
    read = artifacts.write_artifact(blobs, pl.DataFrame({"visitor": [4711, 4712]}))
    books.artifacts.add(read)
    assert shop.erase("visitor=4711", dry_run=True).frames == 1
    assert shop.erase("visitor=4711").frames == 1
    assert not blobs.has(read.digest)
    with pytest.raises(NotFound, match="visitor"):
        shop.erase("visitor=4711")


def test_a_file_that_cannot_be_read_is_named(shop: Shop) -> None:
    (shop.folder / "orders" / "c.csv").write_bytes(b"")
    done = shop.erase("customer_id=7")
    assert [Path(path).name for path in done.unread] == ["c.csv"]
    assert len(done.sources) == 2


def test_nothing_is_erased_beside_a_backup(shop: Shop) -> None:
    with upkeep(shop.workspace.root, shop.workspace.database, shared=True), pytest.raises(Conflict, match="is running"):
        shop.erase("customer_id=7")


def test_deleted_values_are_not_in_the_files_of_the_online_store(shop: Shop) -> None:
    files = list(shop.workspace.state_folder.glob("online.db*"))
    needle = b"spend_amount"
    before = sum(file.read_bytes().count(needle) for file in files)
    shop.erase("customer_id=7")
    shop.erase("customer_id=8")
    assert before >= 2
    assert sum(file.read_bytes().count(needle) for file in files if file.exists()) == 0


_ERASE = """
import sys
from pathlib import Path
from tests.upkeep.test_erasure import Shop
Shop(Path(sys.argv[1])).erase("customer_id=7")
"""


@pytest.mark.parametrize(
    "fault",
    [
        "erasure begins",
        "erasure has a kind",
        "erasure has an environment#2",
        "table is rewritten",
    ],
)
def test_killed_anywhere_it_is_done_again(shop: Shop, tmp_path_factory: pytest.TempPathFactory, fault: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TIDEMILL_FAULT": fault}
    done = subprocess.run([sys.executable, "-c", _ERASE, str(shop.folder)], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    shop.erase("customer_id=7")
    whole = Shop(tmp_path_factory.mktemp("whole"))
    whole.fill()
    whole.erase("customer_id=7")
    assert left(shop) == left(whole)
