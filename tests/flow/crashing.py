"""Kills runs with `kill -9`, at random instants or at named points, and looks at what they left.

`python -m tests.flow.crashing FOLDER KILLS SEED [POINT…]` prints one line of JSON. Each run is a fork of a process that
has imported everything and done nothing, so that hundreds of them take seconds.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import tests.flow.crashing_pipeline  # so that each fork has it
from tidemill.blobs.artifacts import is_intact
from tidemill.blobs.store import compute_digest
from tidemill.compose.session import open_session
from tidemill.core.run import StepRun
from tidemill.flow.engine import resume, run, sweep
from tidemill.flow.session import Session
from tidemill.project.project import Project

_POLICY = '[project]\nname = "kit"\n'
_CODE = "from tests.flow.crashing_pipeline import crashing\n"


def opened(folder: Path) -> Session:
    return open_session(Project(folder), "test")


def forked(work: Any) -> tuple[int, int]:
    """Do work in a fork; the process, and where its lines come from."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        code = 1
        try:
            work(lambda line: os.write(write, f"{line}\n".encode()))
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    return child, read


def ended(child: int, read: int) -> tuple[int, list[str]]:
    """Its exit status, and the lines that it acknowledged."""
    with os.fdopen(read) as lines:
        message = lines.read().splitlines()
    return os.waitpid(child, 0)[1], message


def killed(child: int, read: int, share: float, lasts: float) -> float:
    """Kill a child after a share of a run's length; how long a run lasts, learned from those that were over before."""
    while os.read(read, 1) != b"\n":  # its first line: the run begins now
        pass
    began = time.monotonic()
    while (passed := time.monotonic() - began) < share * lasts:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return (lasts + passed) / 2
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return lasts


def begin(folder: Path, salt: str, fault: str = "") -> Any:
    """A run that acknowledges what it was told is done."""

    def work(message: Any) -> None:
        os.environ["TIDEMILL_FAULT"] = fault

        def reported(step: StepRun) -> None:
            if step.state != "running":
                message(f"{step.run} {step.step} {step.state}")

        session = opened(folder)
        crashing = session.project.code.pipeline("crashing")
        assert session.code_state
        assert session.packages_digest
        message("open")
        done, failed = run(session, crashing, {"salt": salt}, progress=reported)
        message(f"{done.id} run {done.state}" if failed is None else f"{done.id} failed {failed}")

    return work


def look(folder: Path, salt: str, acknowledged: list[str]) -> Any:
    """What a killed run left, taken up again: raises where anything was lost or is half there."""

    def work(message: Any) -> None:
        os.environ["TIDEMILL_FAULT"] = ""
        session = opened(folder)
        books, blobs = session.workspace.ledger, session.workspace.blobs
        for file in (folder / ".tidemill" / "blobs").glob("??/*"):
            assert compute_digest(file.read_bytes()) == file.name, f"half a blob: {file}"
        sweep(session)
        for line in acknowledged:
            if line == "open":
                continue
            identifier, name, state = line.split()[:3]
            if name == "run":
                assert books.runs.get(identifier).state == state, line
            else:
                assert state in {one.state for one in books.steps.find(run=identifier) if one.step == name}, line
        left = [one for one in books.runs.find(newest=True, limit=1) if one.params["salt"] == salt]
        state = left[0].state if left else "nothing"
        for one in books.steps.find(run=left[0].id) if left else ():
            assert one.state != "running", one
            for digest in one.outputs.values():
                artifact = books.artifacts.get(digest)
                assert artifact.transient or is_intact(blobs, artifact), f"no bytes of {one.step}"
        if state == "interrupted":
            done, failed = resume(session, left[0].id)
            assert failed is None, failed
            assert (done.state, done.id) == ("done", left[0].id)
        if left:
            _whole(session, left[0].id)
        message(state)

    return work


def _whole(session: Session, run_id: str) -> None:
    """The run is done, and its effects are there, each once."""
    books = session.workspace.ledger
    steps = {one.step: one for one in books.steps.find(run=run_id) if one.state in ("ran", "cached", "skipped")}
    wanted = {"load", "fit", "gate", "write", "release", *(f"weigh[{place}]" for place in range(4))}
    assert wanted <= set(steps), sorted(steps)
    (release,) = books.releases.find(run=run_id)
    assert release.package == steps["fit"].outputs["output0"]
    published = session.workspace.board.routes()["late"]
    assert release.label in {arm.release for arm in published.arms}
    (written,) = session.resource(_online()).read("numbers", [run_id])
    assert written is not None
    assert books.runs.get(run_id).metrics["test_sum"] > 0
    assert len({one.id for one in books.verdicts.find(run=run_id, check="gate")}) >= 1
    (_,) = books.events.find(kind="run", subject="crashing", text=run_id)


def _online() -> type:
    from tidemill.core.resources import Online

    return Online


def main() -> None:
    folder, kills, seed, points = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tidemill.toml").write_text(_POLICY)
    (folder / "pipeline.py").write_text(_CODE)
    luck = random.Random(seed)
    lasts = 60.0
    for salt in ("first", "second"):
        began = time.monotonic()
        status, message = ended(*forked(begin(folder, salt)))
        assert status == 0, message
        lasts = min(lasts, time.monotonic() - began)
    found: Counter[str] = Counter()
    problems = []
    number = 0
    while found.total() - found["nothing"] < kills + len(points) and number < 20 * kills + len(points):
        number += 1
        point = points[len(points) - number] if number <= len(points) else ""
        salt = f"salt {seed} {number}"
        child, pipe = forked(begin(folder, salt, point))
        if not point:
            lasts = killed(child, pipe, luck.random(), lasts)
        status, message = ended(child, pipe)
        if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            # It was over before; but a named point is come to by every run.
            problems += [f"{point}: nothing came to this point: {status} {message}"] if point else []
            continue
        status, reported = ended(*forked(look(folder, salt, message)))
        if status:
            problems.append(f"{number} {point}: {message}")
        left = reported[-1] if reported else "spoiled"
        found[left] += 1
        if left == "nothing" and not point:
            lasts *= 1.25  # too early: a busy machine's runs take longer than those that `lasts` was learned from
    print(json.dumps({"lasts": lasts, "found": found, "problems": problems}))


assert tests.flow.crashing_pipeline
if __name__ == "__main__":
    main()
