"""Sessions on rows in hand: a frame from a notebook is judged, learned from and answered like any other data."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import polars as pl
import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.compose.session import open_session, predict
from tidemill.core.policy import Serving
from tidemill.core.run import Run
from tidemill.errors import DataError, NotFound, Transient
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.project.project import Project

KINDS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda orders: orders,
    "pandas": lambda orders: orders.to_pandas().set_index("order_id"),
    "arrow": lambda orders: orders.to_arrow(),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop whose file is gone: its rows are only in hand."""
    quick = {'test = "14d"': 'test = "14d"\nrounds = 10\nearly_stopping = 0'}
    return make_project(tmp_path_factory.mktemp("in-hand") / "shop", replace=quick)


@pytest.fixture(scope="module")
def orders(shop: Project) -> pl.DataFrame:
    rows = pl.read_csv(shop.folder / "data" / "shop.csv", try_parse_dates=True)
    (shop.folder / "data" / "shop.csv").unlink()
    return rows


def done(session: Session, pipeline: str, **params: Any) -> Run:
    ran, failed = run(session, session.project.code.pipeline(pipeline), params)
    if failed is not None:
        raise failed
    return ran


def admitted(session: Session) -> int:
    return len(session.workspace.ledger.verdicts.find(check="schema", environment=session.workspace.environment))


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_learned_from_and_answered(shop: Project, orders: pl.DataFrame, kind: str) -> None:
    frame = KINDS[kind](orders)
    session = open_session(shop, kind, frames={"rows": frame})
    with pytest.raises(Transient):
        predict(session, frame)
    assert done(session, "training").metrics["test_roc_auc"] > 0.6
    answers = predict(session, KINDS[kind](orders.head(3)))
    assert answers["key"].to_list() == ["o00000", "o00001", "o00002"]
    assert set(answers["value"]) <= {"true", "false"}
    assert session.workspace.journal.read("predictions/shop").height == 3
    done(open_session(shop, kind, frames={"rows": KINDS[kind](orders)}), "ingestion")
    assert admitted(session) == 1, "the same rows are nothing new"


def test_a_frame_that_does_not_fit_is_refused_or_warned_about(shop: Project, orders: pl.DataFrame) -> None:
    session = open_session(Project(shop.folder), "strict", frames={"rows": orders})
    done(session, "training")
    odd = orders.head(3).rename({"items": "itms"})
    with pytest.raises(DataError, match=r"column 'itms' is unknown \(in every row\); did you mean 'items'\?"):
        predict(session, odd)
    lenient = {
        name: replace(model, serving=Serving(strict=False)) for name, model in session.project.policy.models.items()
    }
    session.project.policy = replace(session.project.policy, models=lenient)
    with pytest.warns(UserWarning, match="'itms' is unknown"):
        assert predict(session, odd).height == 3


def test_another_frame_takes_the_place_of_the_one_before(shop: Project, orders: pl.DataFrame) -> None:
    half = orders.head(2000)
    for frame, batches in ((orders, 1), (half, 2), (half, 2), (orders, 3), (orders, 3), (half, 4)):
        session = open_session(shop, "again", frames={"rows": frame})
        done(session, "ingestion")
        assert admitted(session) == batches
        tables = session.workspace.tables
        rows = tables.read("rows", tables.version("rows"))
        assert rows["_tidemill_batch"].n_unique() == batches, "nothing that was let in is lost"
        assert rows["_path"].n_unique() == 1, "a training takes what came last of it"
        assert rows.filter(pl.col("_tidemill_arrived") == pl.col("_tidemill_arrived").max()).height == frame.height


def test_a_frame_is_taken_as_it_was_when_it_was_handed_over(shop: Project, orders: pl.DataFrame) -> None:
    frame = orders.to_pandas()
    session = open_session(shop, "changed", frames={"rows": frame})
    frame["items"] = -1
    done(session, "ingestion")
    assert session.workspace.tables.read("rows", 0)["items"].min() == 1


def test_what_is_in_a_frame_is_judged(shop: Project, orders: pl.DataFrame) -> None:
    done(open_session(shop, "judged", frames={"rows": orders}), "ingestion")
    wrong = orders.with_columns(pl.col("ordered") + timedelta(days=99_999))
    session = open_session(shop, "judged", frames={"rows": wrong})
    ran, failed = run(session, shop.code.pipeline("ingestion"))
    assert ran.state == "stopped"
    assert failed is not None
    assert failed.exit_code == 3


def test_other_processes_have_the_frame_too(shop: Project, orders: pl.DataFrame) -> None:
    session = open_session(shop, "processes", frames={"rows": orders.to_pandas()})
    ran, failed = run(session, shop.code.pipeline("ingestion"), engine="processes")
    assert failed is None, failed
    assert session.workspace.tables.read("rows", 0).height == orders.height
    assert ran.state == "done"


def test_what_stands_in_for_no_source_or_is_no_frame_is_reported(shop: Project) -> None:
    with pytest.raises(NotFound, match="no source is called 'row'") as raised:
        open_session(shop, frames={"row": pd.DataFrame({"a": [1]})})
    assert "rows" in raised.value.cure
    with pytest.raises(DataError, match="a dict is not a frame"):
        open_session(shop, frames={"rows": {"a": [1]}})
    with pytest.raises(DataError, match="Python objects"):
        open_session(shop, frames={"rows": pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)})})
