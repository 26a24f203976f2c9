"""The lock of a run on a server that several machines share."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.parts import cut_connections
from tests.serving.kit import until
from tidemill.errors import Conflict
from tidemill.ledger.database import open_database
from tidemill.workspace.run_locks import RunLocks


def _open(folder: Path, url: str) -> RunLocks:
    folder.mkdir(exist_ok=True)
    return RunLocks(folder, open_database(url))


def test_after_a_restart_of_the_server_a_run_is_locked_again(postgres_url: str, tmp_path: Path) -> None:
    here, elsewhere = _open(tmp_path / "here", postgres_url), _open(tmp_path / "elsewhere", postgres_url)
    with here.lock("a-run"):
        assert elsewhere.is_running("a-run")
        for _ in range(2):
            cut_connections(postgres_url)
            until(lambda: elsewhere.is_running("a-run"))
        with pytest.raises(Conflict, match="on another machine"), elsewhere.lock("a-run"):
            pass
        cut_connections(postgres_url)
        assert list(elsewhere.list_dead()) == [], "a refused lock leaves no file of a dead run"
        assert not elsewhere.has_died("a-run"), "until it is locked again, nobody else resumes it"
    assert not elsewhere.is_running("a-run")


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_run(postgres_url: str, tmp_path: Path) -> None:
    program = f"""
        import os, time
        from pathlib import Path
        from tidemill.ledger.database import open_database
        from tidemill.workspace.run_locks import RunLocks
        Path({str(tmp_path / "here")!r}).mkdir()
        with RunLocks(Path({str(tmp_path / "here")!r}), open_database({postgres_url!r})).lock("a-run"):
            child = os.fork()
            if child == 0:
                time.sleep(600)
            print(child, flush=True)
            time.sleep(600)
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    child = int(run.stdout.readline())
    elsewhere = _open(tmp_path / "elsewhere", postgres_url)
    assert elsewhere.is_running("a-run")
    run.kill()
    run.wait()
    try:
        until(lambda: not elsewhere.is_running("a-run"))
    finally:
        os.kill(child, signal.SIGKILL)
        run.stdout.close()
