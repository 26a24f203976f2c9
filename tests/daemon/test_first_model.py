"""A new project: the daemon alone trains the first model from new rows, and does not train a second one."""

from pathlib import Path

import polars as pl

from tests.daemon.kit import run_in_place
from tests.projects import make_project
from tidemill.compose.session import open_session, predict
from tidemill.daemon.daemon import Daemon


def test_the_daemon_trains_the_first_model_and_more_rows_do_not_train_another(tmp_path: Path) -> None:
    quick = {'test = "14d"': 'test = "14d"\nrounds = 10\nearly_stopping = 0', 'cooldown = "1m"': 'cooldown = "0s"'}
    session = open_session(make_project(tmp_path / "shop", replace=quick))
    table = session.project.folder / "data" / "shop.csv"
    rows = pl.read_csv(table, try_parse_dates=True)
    daemon = Daemon(session, lambda _: None, run_in_place)
    for _ in range(3):
        daemon.run_once()
    assert predict(session, rows.head(2))["release"].to_list() == ["shop/1", "shop/1"]
    rows.with_columns(("n" + pl.col("order_id")).alias("order_id")).write_csv(table)
    for _ in range(3):
        daemon.run_once()
    jobs = session.workspace.ledger.jobs.find()
    assert [(job.trigger, job.pipeline, job.state) for job in jobs] == [
        ("new data", "ingestion", "done"),
        ("first model", "training", "done"),
        ("new data", "ingestion", "done"),
    ]
    daemon.stop()
