"""The lock of a run on a server that several machines share."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.serving.kit import until
from tidemill.errors import Conflict
from tidemill.ledger.database import open_database
from tidemill.workspace.run_locks import RunLocks


def _cut(postgres_url: str) -> None:
    """Close every connection to a database, as a restart of the server does."""
    plain = make_url(postgres_url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [make_url(postgres_url).database],
        )


def _open(folder: Path, url: str) -> RunLocks:
    folder.mkdir(exist_ok=True)
    return RunLocks(folder, open_database(url))


def test_after_a_restart_of_the_server_a_run_is_locked_again(postgres_url: str, tmp_path: Path) -> None:
    here, elsewhere = _open(tmp_path / "here", postgres_url), _open(tmp_path / "elsewhere", postgres_url)
    with here.lock("a-run"):
        assert elsewhere.is_running("a-run")
        for _ in range(2):
            _cut(postgres_url)
            until(lambda: elsewhere.is_running("a-run"))
        with pytest.raises(Conflict, match="on another machine"), elsewhere.lock("a-run"):
            pass
    assert not elsewhere.is_running("a-run")
