"""The pipeline `upgrade` answers the rows of the journal in both environments and stores its verdict."""

from pathlib import Path

import polars as pl

from tests.delivery.upgrades import lock_here, older
from tests.projects import listed, make_project
from tidemill import open_session, predict, run
from tidemill.core.upgrade import Upgrade
from tidemill.flow import engine


def test_the_journal_is_answered_in_both_environments_and_the_verdict_is_stored(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", replace={"share = 0.2": "share = 0.2\ncanary = false"})
    session = open_session(project.folder, environment="production")
    assert run(session, "training").state == "done"
    rows = pl.read_csv(project.folder / "data" / "shop.csv", try_parse_dates=True).drop("late").head(37)
    predict(session, rows)

    here = lock_here(project.folder)
    params = {"old": older(here, "lightgbm"), "new": here, "settings": Upgrade(rows=300)}
    done, failed = engine.run(session, session.pipeline("upgrade"), params)
    assert failed is None, failed
    (verdict,) = session.workspace.ledger.verdicts.find(run=done.id)
    assert (verdict.check, verdict.outcome, verdict.action) == ("upgrade_equivalence", "pass", "proceed")
    assert verdict.evidence["answered"] == "37 rows of the journal"
    assert verdict.evidence["difference"]["rows"] == 37
    assert verdict.evidence["difference"]["metrics"]
    (stored,) = listed(project.folder, "checks", "list", "--check", "upgrade_equivalence")
    assert stored["id"] == verdict.id
    assert "equal answers for 37 rows" in stored["reason"]
