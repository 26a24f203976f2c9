"""Programs that a step starts end with it: after a timeout, a failure, a cancellation, a kill of the run's process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

CODE = """
import os
import subprocess
import sys
import time
from pathlib import Path
from tidemill import pipeline, step

SLEEP = [sys.executable, "-S", "-c", "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); time.sleep(600)"]

def daemonize(name, variables):
    if os.fork() == 0:
        os.setsid()
        program = subprocess.Popen(SLEEP, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        Path(name).write_text(str(program.pid))
        os._exit(0)
    os.wait()

def start(name):
    child = subprocess.Popen(SLEEP)
    group = subprocess.Popen(SLEEP, start_new_session=True)
    below = subprocess.Popen([sys.executable, "-S", "-c", f"import subprocess; subprocess.run({SLEEP!r})"])
    daemonize(f"{name}-daemon.pid", dict(os.environ))
    daemonize(f"{name}-bare.pid", {})
    kept = subprocess.Popen(SLEEP, env=os.environ | {"TIDEMILL_OUTLIVES_STEP": "1"})
    for what, program in {"child": child, "group": group, "below": below, "kept": kept}.items():
        Path(f"{name}-{what}.pid").write_text(str(program.pid))

@step(timeout="120s")
def work(name: str) -> int:
    start(name)
    time.sleep(1)
    Path(f"{name}.started").touch()
    if name == "fail":
        raise ValueError("this step fails")
    if name == "exit":
        os._exit(3)
    if name == "end":
        return 1
    while True:
        try:
            time.sleep(600)
        except Exception:
            pass

@step(timeout="8s")
def hurry(name: str) -> int:
    return work.function(name)

@pipeline
def go(name: str) -> None:
    work(name)

@pipeline
def late(name: str) -> None:
    hurry(name)
"""
WAYS = ("timeout", "fail", "cancel", "kill", "end")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str, str], "subprocess.Popen[bytes]"]]:
    (tmp_path / "tidemill.toml").write_text('[project]\nname = "programs"\n')
    (tmp_path / "pipeline.py").write_text(CODE)

    def start(way: str, engine: str) -> "subprocess.Popen[bytes]":
        pipeline = "late" if way == "timeout" else "go"
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill", "run", pipeline, "-p", f"name={way}", "--engine", engine],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    yield start
    for file in tmp_path.glob("*.pid"):
        if is_running(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def have_ended(programs: dict[str, int]) -> bool:
    return not any(map(is_running, programs.values()))


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the programs of a step are found in /proc")
@pytest.mark.parametrize("engine", ["inline", "processes"])
def test_programs_of_a_step_end_with_it(
    started: Callable[[str, str], "subprocess.Popen[bytes]"], tmp_path: Path, engine: str
) -> None:
    ways = (*WAYS, "exit") if engine == "processes" else WAYS  # with `inline`, it would be the process of the run
    runs = {way: started(way, engine) for way in ways}
    for way, run in runs.items():
        assert wait_until((tmp_path / f"{way}.started").exists), way
        if way == "kill":
            run.kill()
        if way == "cancel":
            run.send_signal(signal.SIGTERM)
    for way, run in runs.items():
        assert run.wait(300) == {"kill": -9, "cancel": 130, "end": 0}.get(way, 1), way
        programs = {file.stem.partition("-")[2]: int(file.read_text()) for file in tmp_path.glob(f"{way}-*.pid")}
        assert len(programs) == 6
        assert is_running(programs.pop("kept"))
        if way in ("kill", "end", "exit"):  # the guardian ends them, after the process of the run
            assert wait_until(partial(have_ended, programs), 300), (way, programs)
        else:
            assert have_ended(programs), (way, programs)


SERVER = "import subprocess, sys, time; [subprocess.Popen(sys.argv[1:]) for _ in sys.stdin]; time.sleep(600)"
EARLIER = f"""
import os, signal, subprocess, sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tidemill.host.process_tree import find_descendants
from tidemill.host.programs import end_programs_on_error, guard_programs

def start_another_in_the_server():
    known = find_descendants(os.getpid())
    server.stdin.write(b"\\n")
    while not (new := find_descendants(os.getpid()) - known):
        time.sleep(0.01)
    return new.pop().id

sleep = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
server = subprocess.Popen([sys.executable, "-S", "-c", {SERVER!r}, *sleep], stdin=subprocess.PIPE, bufsize=0)
time.sleep(0.1)
with guard_programs():
    before = subprocess.Popen(sleep)
    time.sleep(0.1)
    try:
        with end_programs_on_error():
            during, by_server = subprocess.Popen(sleep), start_another_in_the_server()
            raise ValueError
    except ValueError:
        print(before.pid, server.pid, by_server, during.pid, before.poll(), during.poll(), flush=True)
    time.sleep(2)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the programs of a step are found in /proc")
def test_programs_that_no_step_started_go_on(tmp_path: Path) -> None:
    """A server that ran before the run, with the processes that it starts meanwhile, is not of the run."""
    with (tmp_path / "printed").open("w+") as printed:
        run = subprocess.Popen([sys.executable, "-c", EARLIER], stdout=printed)
        assert run.wait(300) == -9
        printed.seek(0)
        *programs, before_ended, during_ended = printed.read().split()
    before, server, by_server, during = map(int, programs)
    try:
        assert before_ended == "None"
        assert during_ended != "None"
        assert wait_until(lambda: not is_running(before), 300)  # its run was killed: the guardian ends it
        assert is_running(server)
        assert is_running(by_server)
        assert not is_running(during)
    finally:
        for program in (server, by_server):
            os.kill(program, signal.SIGKILL)
