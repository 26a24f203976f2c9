"""The sandbox: no secrets, limits of time and memory, and no process that outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.errors import TidemillError
from tidemill.host import sandbox_process
from tidemill.host.sandbox import Limits, SandboxResult, run_sandboxed

Run = Callable[..., SandboxResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_code(code: str, seconds: float = 120, memory_mb: int = 512, **more: object) -> SandboxResult:
        limits = Limits(seconds=seconds, memory_mb=memory_mb)
        command = [sys.executable, "-I", "-c", code]
        return run_sandboxed(command, tmp_path, limits, home=tmp_path / "home", log=tmp_path / "log", **more)  # type: ignore[arg-type]

    return run_code


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_it_passes_no_address_token_or_key(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TIDEMILL_LEDGER", "DATABASE_URL", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "OTHER"):
        monkeypatch.setenv(name, "planted")
    assert run("import os; print(dict(os.environ))").succeeded
    log = (tmp_path / "log").read_text()
    assert "planted" not in log
    assert f"'HOME': '{tmp_path / 'home'}'" in log


def test_the_output_is_streamed_and_the_status_returned(run: Run, tmp_path: Path) -> None:
    lines: list[str] = []
    result = run("print('one'); import sys; sys.exit(3)", echo=lines.append)
    assert (result.ending, result.status, lines) == ("exit", 3, ["one\n"])
    assert (tmp_path / "log").read_text() == "one\n"
    assert "exit status 3" in result.describe(Limits(seconds=1, memory_mb=256))


def test_it_ends_a_command_that_hangs_and_ignores_signals(run: Run) -> None:
    result = run("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1000)", seconds=1)
    assert result.ending == "timeout"


FORKING = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("processes", "a") as file:
                file.write(f"{os.getpid()}\\n")
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
while not os.path.exists("processes") or len(open("processes").readlines()) < 2:
    time.sleep(0.01)
"""


def test_it_ends_processes_that_left_their_session_and_environment(run: Run, tmp_path: Path) -> None:
    result = run(FORKING)
    assert (result.succeeded, result.leftover) == (True, 2)
    processes = [int(line) for line in (tmp_path / "processes").read_text().split()]
    assert not [process for process in processes if is_running(process)]


def test_it_limits_the_memory(run: Run, tmp_path: Path) -> None:
    result = run("block = bytearray(1 << 30)\nprint('allocated', len(block))", memory_mb=256)
    assert not result.succeeded
    assert result.memory_limit in ("cgroup", "rlimit")
    assert "allocated" not in (tmp_path / "log").read_text()


def test_without_a_control_group_the_address_space_is_limited(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(Path(sandbox_process.__file__).read_text().replace("/sys/fs/cgroup", "/nothing/here"))
    endings = []
    for code in ("block = bytearray(1 << 31)", "block = bytearray(1 << 20)"):
        command = [sys.executable, "-I", "-c", code]
        request = {"command": command, "seconds": 120, "memory_mb": 1024, "parent": os.getpid()}
        reading, writing = os.pipe()
        supervisor = [sys.executable, "-I", "-S", str(program), str(writing), json.dumps(request)]
        assert subprocess.run(supervisor, pass_fds=(writing,), capture_output=True).returncode == 0
        os.close(writing)
        with os.fdopen(reading) as pipe:
            result = json.load(pipe)
        endings.append((result["memory_limit"], result["ending"], result["status"]))
    assert endings == [("rlimit", "exit", 1), ("rlimit", "exit", 0)]


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tidemill.host.sandbox import Limits, run_sandboxed\n"
        "limits = Limits(seconds=1000, memory_mb=512)\n"
        "run_sandboxed([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(1000)'],\n"
        f"    Path({str(tmp_path)!r}), limits, home=Path({str(tmp_path / 'home')!r}),\n"
        f"    log=Path({str(tmp_path / 'log')!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        log = tmp_path / "log"
        wait_until(lambda: log.exists() and log.read_text().strip() != "")
        child = int(log.read_text())
        assert is_running(child)
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(child))


def wait_until(test: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    limits = Limits(seconds=10, memory_mb=256)
    with pytest.raises(TidemillError, match="cannot be started"):
        run_sandboxed([str(tmp_path / "none")], tmp_path, limits, home=tmp_path / "home", log=tmp_path / "log")
