"""The workspace: one folder for the state of a project, and stores that open when they are asked for."""

from pathlib import Path

import polars as pl
import pytest

from tests.processes import in_child
from tidemill.compose.backends import open_workspace
from tidemill.errors import InputError, TidemillError
from tidemill.testing.journal import START, rows
from tidemill.testing.ledger import run


def test_its_state_is_in_one_folder_that_git_ignores(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path / "deep" / "state")
    workspace.ledger.runs.add(run(1))
    workspace.blobs.put(b"tide")
    workspace.journal.append("labels/late", rows(START, value=[1]))
    assert (tmp_path / "deep" / "state" / ".gitignore").read_text() == "*\n"
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_environments_share_the_ledger_and_the_blobs_and_nothing_else(tmp_path: Path) -> None:
    test, production = open_workspace(tmp_path, "test"), open_workspace(tmp_path, "production")
    digest = test.blobs.put(b"tide")
    test.ledger.runs.add(run(1))
    test.journal.append("labels/late", rows(START, value=[1]))
    test.tables.append("rows", "a", pl.DataFrame({"x": [1]}))
    assert production.blobs.get(digest) == b"tide"
    assert production.ledger.runs.find() == [run(1)]
    assert production.journal.read("labels/late").is_empty()
    assert production.tables.version("rows") == -1
    assert production.online != test.online


def test_urls_put_ledger_and_blobs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str, s3_url: str
) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
    monkeypatch.setenv("TIDEMILL_BLOBS", f"{s3_url}/blobs")
    digest = open_workspace(tmp_path / "one").blobs.put(b"tide")
    open_workspace(tmp_path / "one").ledger.runs.add(run(1))
    other = open_workspace(tmp_path / "other")
    assert other.blobs.get(digest) == b"tide"
    assert other.ledger.runs.find() == [run(1)]
    assert not list(tmp_path.rglob("ledger.db"))


def test_a_ledger_that_is_gone_is_not_begun_anew(tmp_path: Path) -> None:
    first = open_workspace(tmp_path)
    first.ledger.runs.add(run(1))
    first.ledger.close()
    (tmp_path / "ledger.db").rename(tmp_path / "aside.db")
    with pytest.raises(TidemillError, match=r"the ledger at .*ledger.db is missing") as raised:
        _ = open_workspace(tmp_path).ledger
    assert not (tmp_path / "ledger.db").exists()
    (tmp_path / "aside.db").rename(tmp_path / "ledger.db")
    assert open_workspace(tmp_path).ledger.runs.find() == [run(1)]
    (tmp_path / "ledger.db").unlink()
    Path(raised.value.cure.partition("delete ")[2]).unlink()
    assert open_workspace(tmp_path).ledger.runs.find() == []


def test_a_ledger_elsewhere_is_missed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prüfung").mkdir()
    monkeypatch.setenv("TIDEMILL_LEDGER", f"sqlite:///{tmp_path}/prüfung/ledger.db")
    open_workspace(tmp_path / "state").ledger.close()
    assert not open_workspace(tmp_path / "state").has_lost_ledger
    (tmp_path / "prüfung" / "ledger.db").unlink()
    assert open_workspace(tmp_path / "state").has_lost_ledger
    monkeypatch.delenv("TIDEMILL_LEDGER")
    assert not open_workspace(tmp_path / "state").has_lost_ledger, "here none was begun"


def test_a_ledger_in_memory_leaves_nothing_to_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", "sqlite:///:memory:")
    open_workspace(tmp_path).ledger.close()
    assert not open_workspace(tmp_path).has_lost_ledger


@pytest.mark.parametrize("name", ["", "..", "../other", "a/b", " ", "a\n"])
def test_an_environments_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not the name of an environment"):
        open_workspace(tmp_path, name)
    assert open_workspace(tmp_path, "prüfung-2.1").state_folder.parent == tmp_path / "environments"


def test_a_place_that_cannot_be_a_folder_is_reported_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TidemillError, match="cannot be written") as refused:
        open_workspace(tmp_path / "file" / "state")
    assert "TIDEMILL_WORKSPACE" in refused.value.cure


def test_a_read_only_folder_is_reported(tmp_path: Path) -> None:
    open_workspace(tmp_path)
    raised = in_child(
        f"""
        from pathlib import Path
        from tidemill.compose.backends import open_workspace
        explain(lambda: open_workspace(Path({str(tmp_path)!r})))
        """,
        read_only=tmp_path,
    )
    assert "is read-only" in raised
