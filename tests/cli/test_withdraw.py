"""Withdraw a batch: its rows no longer count, and what learned from them is named; a corrected file is accepted."""

from pathlib import Path

import msgspec
import polars as pl
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_history
from tidemill.project.project import Project

VIEW = """
from tidemill import Entity, FeatureView

tariff = FeatureView(name="tariff", entity=Entity("carrier", ("carrier",)), source="tariffs", columns=("level",))
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_project(tmp_path / "shop", replace={'path = "data/shop.csv"': 'path = "data/*.csv"'}).folder


def write_orders(file: Path, shop: Path, rows: int = 300, distance: float | None = None) -> None:
    """Write orders of a later month."""
    orders = pl.read_csv(shop / "data" / "shop.csv", try_parse_dates=True).head(rows)
    later = orders.with_columns(pl.col("ordered").dt.offset_by("90d"), order_id=pl.lit("n") + pl.col("order_id"))
    later = later if distance is None else later.with_columns(distance_km=pl.lit(distance))
    later.write_csv(file)


def test_withdrawn_rows_do_not_count_until_they_are_restored(shop: Path) -> None:
    tidemill(shop, "run", "training")
    write_orders(shop / "data" / "more.csv", shop)
    tidemill(shop, "run", "training")
    rows = [release["data"]["rows"] for release in listed(shop, "models", "list")]
    assert rows == [3300, 3000]

    done = tidemill(shop, "data", "withdraw", "more.csv", "--reason", "a sensor was broken")
    assert "300 rows do not count" in done.stdout
    assert "releases that learned from it: shop/2" in done.stdout
    assert "serving now: shop/2" in done.stdout
    assert "models promote shop/1" in done.stderr
    (record,) = listed(shop, "data", "batches", "--state", "withdrawn")
    assert (record["path"], record["rows"]) == ("data/more.csv", 300)
    assert "a sensor was broken" in record["reason"]
    assert "is withdrawn already" in tidemill(shop, "data", "withdraw", "more.csv", "--reason=test", code=2).stderr

    tidemill(shop, "run", "ingestion")
    assert [batch["state"] for batch in listed(shop, "data", "batches")] == ["withdrawn", "accepted"]
    assert listed(shop, "data", "profile", "rows")["profile"]["rows"] == 3000
    tidemill(shop, "run", "training")
    assert listed(shop, "models", "show", "shop")["data"]["rows"] == 3000

    assert "300 rows count again" in tidemill(shop, "data", "withdraw", "more.csv", "--undo", "--reason=test").stdout
    assert listed(shop, "data", "profile", "rows")["profile"]["rows"] == 3300
    assert (
        "is not withdrawn" in tidemill(shop, "data", "withdraw", "more.csv", "--undo", "--reason=test", code=2).stderr
    )


def test_a_corrected_file_of_a_withdrawn_batch_is_accepted(shop: Path) -> None:
    write_orders(shop / "data" / "more.csv", shop)
    tidemill(shop, "run", "ingestion")
    tidemill(shop, "data", "withdraw", "more.csv", "--reason=test")
    write_orders(shop / "data" / "more.csv", shop, rows=200)
    tidemill(shop, "run", "ingestion")
    states = {(batch["rows"], batch["state"]) for batch in listed(shop, "data", "batches")}
    assert states == {(3000, "accepted"), (300, "withdrawn"), (200, "accepted")}
    assert listed(shop, "data", "profile", "rows")["profile"]["rows"] == 3200


def test_every_stopped_batch_stays_in_sight_until_it_is_settled(shop: Path) -> None:
    tidemill(shop, "run", "ingestion")
    for name in ("one", "two", "three"):
        write_orders(shop / "data" / f"{name}.csv", shop, distance=1e9)
    tidemill(shop, "run", "ingestion", code=3)
    tidemill(shop, "run", "ingestion")

    def list_needs() -> list[str]:
        return [need["what"].partition(" ")[0] for need in listed(shop, "status")["needs"] if need["kind"] == "batch"]

    assert list_needs() == ["data/one.csv", "data/two.csv", "data/three.csv"]
    assert "needs a person: data/one.csv of source rows was stopped" in tidemill(shop, "status").stdout
    assert "set aside" in tidemill(shop, "data", "withdraw", "data/one.csv", "--reason=test").stdout
    assert list_needs() == ["data/two.csv", "data/three.csv"]
    write_orders(shop / "data" / "two.csv", shop)
    tidemill(shop, "run", "ingestion")
    assert list_needs() == ["data/three.csv"], "a corrected file replaces its batch"
    tidemill(shop, "data", "accept", "rows", "--reason=test")
    tidemill(shop, "run", "ingestion")
    assert list_needs() == []
    assert {batch["state"] for batch in listed(shop, "data", "batches")} == {"accepted", "withdrawn", "replaced"}


def test_a_backtest_does_not_see_withdrawn_rows(shop: Path) -> None:
    write_orders(shop / "data" / "more.csv", shop)
    tidemill(shop, "run", "ingestion")
    assert open_history(Project(shop)).source_history("rows").height == 3300
    tidemill(shop, "data", "withdraw", "more.csv", "--reason=test")
    assert open_history(Project(shop)).source_history("rows").height == 3000


def test_the_champion_that_learned_from_a_withdrawn_batch_can_be_replaced(shop: Path) -> None:
    """The rows of the next training end before those of the champion: the gate must not refuse it for that."""
    write_orders(shop / "data" / "more.csv", shop)
    tidemill(shop, "run", "training")
    assert "serving now: shop/1" in tidemill(shop, "data", "withdraw", "more.csv", "--reason=test").stdout
    assert "release shop/2 serves" in tidemill(shop, "run", "training").stdout


def test_features_of_a_withdrawn_file_are_computed_again(tmp_path: Path) -> None:
    tariffs = '[sources.tariffs]\npath = "data/tariff-*.csv"\ntime = "since"\n'
    shop = make_project(tmp_path / "shop", replace={"[inputs]": tariffs + "\n[inputs]\nviews = ['tariff']"}).folder
    (shop / "features.py").write_text(VIEW)
    header = "carrier,since,level\n"
    (shop / "data" / "tariff-1.csv").write_text(f"{header}steady,2025-12-01T00:00:00Z,1\n")
    (shop / "data" / "tariff-2.csv").write_text(
        f"{header}steady,2026-01-01T00:00:00Z,70\nswift,2026-01-01T00:00:00Z,3\n"
    )
    tidemill(shop, "run", "materialization")

    def read_level(carrier: str, code: int = 0) -> int | None:
        done = tidemill(shop, "features", "get", "tariff", f"carrier={carrier}", "--json", code=code)
        stored = {} if code else msgspec.json.decode(done.stdout)
        return next((value for name, value in stored.items() if name.endswith("level")), None)

    assert (read_level("steady"), read_level("swift")) == (70, 3)
    done = tidemill(shop, "data", "withdraw", "tariff-2.csv", "--reason", "wrong units")
    assert "new values of view 'tariff'" in done.stdout
    assert read_level("steady") == 1
    read_level("swift", code=2)
    tidemill(shop, "data", "withdraw", "tariff-2.csv", "--undo", "--reason=test")
    assert (read_level("steady"), read_level("swift")) == (70, 3)


def test_an_unknown_batch_is_an_error(shop: Path) -> None:
    tidemill(shop, "run", "ingestion")
    assert "data batches" in tidemill(shop, "data", "withdraw", "nope", "--reason=test", code=2).stderr
