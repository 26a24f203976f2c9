"""CI that is killed, or that meets a full disk: one build, and a message."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.delivery.repositories import Repository
from tests.processes import in_child

_RUN = "01900000-0000-7000-8000-00000000000c"


def run_once(repository: Repository, fault: str = "") -> int:
    """Run the pipeline `ci` as the daemon does, in a process that may kill itself; return its exit status."""
    command = [sys.executable, "-m", "tidemill", "run", "ci", "--env", "ci", "--as", _RUN, "--json"]
    parameters = ["--param", f"remote={repository.bare}", "--param", "branch=main"]
    variables = os.environ | ({"TIDEMILL_FAULT": fault} if fault else {})
    return subprocess.run([*command, *parameters], cwd=repository.host, env=variables, capture_output=True).returncode


@pytest.mark.parametrize("fault", ["step is handed over#4", "build is recorded"])
def test_a_run_that_is_killed_goes_on_and_records_one_build(repository: Repository, fault: str) -> None:
    assert run_once(repository, fault) == -9
    assert run_once(repository) == 0
    (build,) = repository.builds
    assert (build.state, build.number, build.run) == ("passed", 1, _RUN)
    ledger = repository.session.workspace.ledger
    assert len(ledger.verdicts.find(check="ci_tests")) == 1
    assert len(ledger.events.find(kind="build")) == 1


def test_a_full_disk_is_an_error_with_its_cause(tmp_path: Path) -> None:
    environments = tmp_path / "environments"
    environments.mkdir()
    repository = Repository(tmp_path, environments)
    program = f"""
        import os
        from tidemill.cli.main import main

        os.chdir({str(repository.host)!r})
        print("exit", main(["ci", "run", "--remote", {str(repository.bare)!r}]))
    """
    printed = in_child(program, limits={resource.RLIMIT_FSIZE: 4_000_000})
    assert "exit 3" in printed
    (build,) = repository.builds
    assert build.state == "error"
    assert "the environment cannot be written below" in build.reason
    assert "File too large" in build.reason
    assert list(environments.iterdir()) == []
