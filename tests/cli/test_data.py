"""The data commands, as a user types them."""

from pathlib import Path

import msgspec
import polars as pl
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.blobs.artifacts import read_artifact
from tidemill.compose.session import open_session
from tidemill.project.project import Project


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return make_project(tmp_path / "shop", replace={'path = "data/shop.csv"': 'path = "data/*.csv"'}).folder


def later(shop: Path) -> pl.DataFrame:
    """A month of other orders."""
    rows = pl.read_csv(shop / "data" / "shop.csv", try_parse_dates=True).head(500)
    return rows.with_columns(pl.col("ordered").dt.offset_by("90d"), order_id=pl.lit("n") + pl.col("order_id"))


def test_a_stopped_run_keeps_its_bad_rows_and_continues_with_them_once_they_are_accepted(shop: Path) -> None:
    tidemill(shop, "run", "training")
    rows = later(shop)
    weights = pl.when(pl.int_range(pl.len()) < 7).then(pl.col("items") + 0.5).otherwise(pl.col("items"))
    distances = pl.when(pl.int_range(pl.len()) < 3).then(99_000.0).otherwise(pl.col("distance_km"))
    rows.with_columns(distance_km=distances, items=weights).write_csv(shop / "data" / "more.csv")

    stopped = tidemill(shop, "run", "training", code=3)
    assert "items" in stopped.stderr
    run = listed(shop, "runs", "list", "--state", "stopped")[0]
    (verdict,) = listed(shop, "checks", "list", "--check", "schema", "--action", "stop")
    link = verdict["evidence"]["bad_rows"]
    session = open_session(Project(shop))
    bad = read_artifact(session.workspace.blobs, session.workspace.ledger.artifacts.get(link["digest"]), pl.DataFrame)
    assert bad.height == link["rows"] == 500
    assert set(bad["_tidemill_why"].unique()) == {"items: wrong type", "items: wrong type; distance_km: above range"}
    assert listed(shop, "events", "list", "--kind", "verdict")
    assert tidemill(shop, "runs", "resume", run["id"], code=3).stderr

    accepted = tidemill(shop, "data", "accept", "rows", "--reason", "parcels are weighed now")
    assert f"runs resume {run['id'][:18]}" in accepted.stderr
    again = tidemill(shop, "data", "accept", "rows", "--reason", "the answer of the first command was lost")
    assert "accepts this already: it has version 2" in again.stdout
    assert len(session.workspace.ledger.schemas.find(source="rows")) == 2
    tidemill(shop, "runs", "resume", run["id"])
    assert listed(shop, "runs", "list", "--state", "stopped") == []
    newest = session.workspace.ledger.releases.find()[-1]
    assert newest.run == run["id"]
    assert newest.data["rows"] == 3500
    table = session.workspace.tables.read("rows", session.workspace.tables.version("rows"))
    first = pl.read_csv(shop / "data" / "shop.csv")
    assert sum(table["items"]) == pytest.approx(sum(rows["items"]) + 3.5 + sum(first["items"]))
    assert (
        tidemill(shop, "data", "accept", "rows", "--reason=test", code=2).stderr.count(
            "no batch of source 'rows' is stopped"
        )
        == 1
    )


def test_a_table_that_is_accepted_twice_makes_one_version(shop: Path, tmp_path: Path) -> None:
    tidemill(shop, "run", "ingestion")
    later(shop).with_columns(items=pl.lit(9999)).write_csv(tmp_path / "wider.csv")
    command = ("data", "accept", "rows", str(tmp_path / "wider.csv"), "--reason", "larger orders")
    assert "has now version 2" in tidemill(shop, *command).stdout
    assert "accepts this already: it has version 2" in tidemill(shop, *command).stdout
    assert [each["action"] for each in listed(shop, "audit", "list")].count("accepted schema") == 1


def test_a_file_is_judged_with_its_anomalies(shop: Path, tmp_path: Path) -> None:
    later(shop).with_columns(distance_km=pl.lit(float("inf")), wind=1).write_csv(tmp_path / "bad ü.csv")
    reported = tidemill(shop, "data", "validate", str(tmp_path / "bad ü.csv"), code=3)
    assert "wind: is not in the schema" in reported.stdout
    judged = tidemill(shop, "data", "validate", str(tmp_path / "bad ü.csv"), "--json", code=3)
    verdict = msgspec.json.decode(judged.stdout)
    assert [(a["column"], a["kind"], a["rows"]) for a in verdict["evidence"]["anomalies"]] == [
        ("wind", "unexpected column", 500),
        ("distance_km", "not finite", 500),
    ]
    (tmp_path / "none.csv").write_text(",".join(later(shop).columns) + "\n")
    assert "has 0 rows" in tidemill(shop, "data", "validate", str(tmp_path / "none.csv"), code=3).stdout
    tidemill(shop, "data", "validate", str(tmp_path / "nowhere.csv"), code=2)


def test_an_inferred_schema_is_written_to_a_file_and_in_force_as_it_was_edited(shop: Path) -> None:
    message = tidemill(shop, "data", "schema", "--to", "schemas/rows.toml")
    assert 'schema = "schemas/rows.toml" under [sources.rows]' in message.stderr
    file = shop / "schemas" / "rows.toml"
    carrier = '[columns."carrier"]\n'
    assert carrier in file.read_text(encoding="utf-8")
    domain = 'domain = ["swift", "steady", "thrifty"]\n'
    file.write_text(file.read_text(encoding="utf-8").replace(carrier, carrier + domain), encoding="utf-8")
    policy = shop / "tidemill.toml"
    declared = '[sources.rows]\nschema = "schemas/rows.toml"'
    policy.write_text(policy.read_text(encoding="utf-8").replace("[sources.rows]", declared), encoding="utf-8")
    later(shop).with_columns(carrier=pl.lit("reckless")).write_csv(shop / "other.csv")
    judged = tidemill(shop, "data", "validate", "other.csv", code=3)
    assert " values outside its domain, such as reckless; the domain is swift, steady, thrifty" in judged.stdout
    assert "(schema of 'rows', version 2)" in judged.stdout
    assert "version = 2" in tidemill(shop, "data", "schema", "rows").stdout
    tidemill(shop, "data", "schema", "--to", "schemas/rows.toml", code=2)
    tidemill(shop, "data", "schema", "nowhere", code=2)


def test_an_empty_batch_and_one_with_a_column_more_are_accepted_together(shop: Path) -> None:
    tidemill(shop, "run", "ingestion")
    rows = later(shop)
    rows.with_columns(wind=pl.lit(1)).write_csv(shop / "data" / "more.csv")
    (shop / "data" / "none.csv").write_text(",".join(rows.columns) + "\n")
    (shop / "data" / "cut.csv").write_text("")
    assert "and 2 more verdicts stopped it" in tidemill(shop, "run", "ingestion", code=3).stderr
    reported = tidemill(shop, "data", "accept", "rows", "--reason", "we have weather now").stderr
    assert "skipped: " in reported
    assert "cut.csv is empty" in reported
    (shop / "data" / "cut.csv").unlink()
    tidemill(shop, "run", "ingestion")


def test_a_source_or_a_file_is_profiled_with_proposals(shop: Path, tmp_path: Path) -> None:
    reported = tidemill(shop, "data", "profile", "rows", "--report", str(tmp_path / "look.html"))
    assert "3,000 rows" in reported.stdout
    assert "wrote" in reported.stderr
    assert "Data profile of" in (tmp_path / "look.html").read_text(encoding="utf-8")
    roles = {one["column"]: one["role"] for one in listed(shop, "data", "profile", "rows")["proposals"]}
    assert (roles["late"], roles["ordered"], roles["order_id"]) == ("label", "event time", "key")
    later(shop).with_columns(reported=pl.col("late").cast(pl.String)).write_parquet(tmp_path / "loose.parquet")
    found = listed(tmp_path, "data", "profile", str(tmp_path / "loose.parquet"), "--label", "late")
    assert [one["column"] for one in found["proposals"] if one["exclude"]] == ["order_id", "reported"]
    tidemill(tmp_path, "data", "profile", str(tmp_path / "loose.parquet"), "--label", "lat", code=2)
    tidemill(shop, "data", "profile", "nothing", code=2)
    tidemill(shop, "data", "profile", "rows", "--report", "/dev/null/folder.html", code=2)
