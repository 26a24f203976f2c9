"""Kills a process at each of the named points between a push and a deployed model, and compares what is left.

    python -m examples.level2.kills [--together] [--points "deployment is ready" …]

For each point the example is played from a push to preproduction: the push is built, Mai approves it, the build is
deployed, and its pipeline trains a model. The first process that comes to the point is killed with SIGKILL: the daemon,
the process of a run, or the service that was deployed. The server is started again if it was killed. At the end,
routes, digests of releases, outcomes of verdicts and actions in the audit log must be those of the undisturbed example.
With --together, one play has several kills, which takes less time: all points in five plays, or those that are given in
one.

So that a play takes seconds, the project has one test, few rows and few trees, and all plays share the environments of
its lock.
"""

import argparse
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from examples.level2.run import Example, select_month
from examples.level2.tools import Failed, git, listed, wait_for

POINTS = (
    "event is emitted",
    "job is written",
    "job is committed",
    "job is claimed",
    "worker is started",
    "run is started",
    "steps are resolved",
    "step has run",
    "artifacts are written",
    "step is written",
    "verdict is written",
    "run's end is written",
    "job is settled",
    "deployment is starting",
    "deployed process is started",
    "deployment is ready",
    "deployment is judged",
    "deployment is public",
    "deployment is recorded",
    "release is registered",
    "route is written",
    "route is published",
)

TOGETHER = (
    ("event is emitted", "job is claimed", "run is started", "step is written", "deployed process is started"),
    ("job is written", "worker is started", "steps are resolved", "verdict is written", "deployment is public"),
    ("job is committed", "step has run", "run's end is written", "deployment is ready", "route is written"),
    ("job is settled", "artifacts are written", "deployment is starting", "release is registered"),
    ("deployment is judged", "deployment is recorded", "route is published"),
)
"""All points, in plays in which no run dies more than twice: a job whose run dies three times fails."""

# Events that depend on the moment: a restart adds one, and a build that waits is announced if the daemon looks then.
_REMINDERS = ("daemon", "build.waiting")
_ENVIRONMENT = "preproduction"
_TEST = """\
import features


def test_the_speed_is_a_feature() -> None:
    assert features
"""


class Short(Example):
    """The example with one test, few rows and few trees; it reads the server's ledger in this process."""

    def create(self) -> None:
        super().create()
        shutil.rmtree(self.ada / "tests")
        (self.ada / "tests").mkdir()
        (self.ada / "tests" / "test_features.py").write_text(_TEST)
        policy = self.ada / "tidemill.toml"
        text = policy.read_text().replace('image = "auto"', 'image = "never"')
        policy.write_text(text.replace("max_iter = 40", "max_iter = 4"))
        self.commit("Shorten it", branch="main")
        git(self.server, "pull", "--quiet")

    def deliver(self, project: Path, months: range) -> None:
        folder = project / "data" / "flights"
        folder.mkdir(parents=True, exist_ok=True)
        for month in months:
            select_month(month)[::4].write_parquet(folder / f"2013-{month:02}.parquet")

    def start_server(self, **variables: str) -> None:
        super().start_server(**variables, OMP_NUM_THREADS="1")

    def read(self, table: str, **columns: Any) -> list[dict[str, Any]]:
        """Return the records of a table of the ledger; a command for each question would take most of the time."""
        file = self.server / ".tidemill" / "ledger.db"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=60)) as ledger:
            records = [json.loads(body) for (body,) in ledger.execute(f"SELECT body FROM {table} ORDER BY id")]
        return [record for record in records if columns.items() <= record.items()]

    def is_idle(self) -> bool:
        """Return whether no job of the server or of the environment waits or runs."""
        jobs = [job for job in self.read("jobs") if job["environment"] in ("ci", _ENVIRONMENT)]
        return not any(job["state"] in ("waiting", "running") for job in jobs)

    def find_build(self, commit: str, problem: Callable[[], str]) -> dict[str, Any]:
        """Wait for the build of a commit, which passes."""
        (build,) = wait_for(f"the build of {commit[:7]}", lambda: self.read("builds", commit=commit), problem)
        if build["state"] != "passed":
            raise Failed(f"build {build['number']} is {build['state']}: {build['reason']}")
        return build

    def change(self, trees: int, branch: str, *, push: bool = True) -> str:
        """Commit another number of trees; return the commit."""
        policy = self.ada / "tidemill.toml"
        policy.write_text(policy.read_text().replace("max_iter = 4,", f"max_iter = {trees},"))
        return self.commit(f"Use {trees} trees", branch=branch, push=push)


def prepare(folder: Path) -> Short:
    """Make the repository and the server, and build once, so that the environments of the lock exist."""
    example = Short(folder)
    example.create()
    example.create_tokens()
    example.start_server()
    try:
        build = example.find_build(example.change(5, "dev/warm"), example.problem)
        wait_for("a deployment", lambda: example.read("deployments", build=build["id"], state="healthy"))
        wait_for("the end of all jobs", example.is_idle, example.problem)
    finally:
        example.stop()
    git(example.ada, "checkout", "--quiet", "main")
    example.change(6, "main", push=False)  # the same commit in each play, because its id is part of its packages
    return example


def play(template: Short, folder: Path, points: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Play the example in a copy of a folder, with faults; return what is left, and where processes were killed."""
    shutil.copytree(template.folder, folder, symlinks=True, copy_function=_copy)
    example = Short(folder)
    example.tokens = template.tokens
    _move(example, template)
    mark = folder / "killed"
    faults = {"TIDEMILL_FAULT": ";".join(points), "TIDEMILL_FAULT_ONCE": str(mark)} if points else {}

    def restart() -> str:
        """Start the server again if it was killed."""
        if example.process is not None and (status := example.process.poll()) is not None:
            if status != -signal.SIGKILL:
                return f"the server ended with {status}, and not by a fault"
            example.start_server(**faults)
        failed = [run for run in example.read("runs") if run["state"] == "failed"]
        return f"a run of {failed[0]['pipeline']} failed: {failed[0]['error']}" if failed else ""

    try:
        example.start_server(**faults)
        git(example.ada, "push", "--quiet", "origin", "main")
        build = example.find_build(git(example.ada, "rev-parse", "HEAD").strip(), restart)
        wait_for("an approval to be needed", lambda: example.read("events", kind="build.waiting"), restart)
        example.approve(build, _ENVIRONMENT, "mai", "read")
        wait_for("a deployment", lambda: example.read("deployments", build=build["id"], state="healthy"), restart)
        wait_for("a champion", lambda: example.read("routes", environment=_ENVIRONMENT), restart)
        wait_for("the end of all jobs", example.is_idle, restart)
        time.sleep(2)  # what would happen twice has the time to happen
        wait_for("the end of all jobs", example.is_idle, restart)
        return collect(example), mark.read_text().splitlines() if mark.exists() else []
    finally:
        example.stop()


def _copy(source: str, target: str) -> str:
    """Link the files of environments and of the cache, which nothing changes; copy the others."""
    if "/environments/" in source and "/lib/" in source:
        os.link(source, target)
        return target
    return str(shutil.copy2(source, target))


def _move(example: Example, template: Example) -> None:
    """Let the copy use its own repository and hook."""
    hook = example.repository / "hooks" / "post-receive"
    hook.write_text(hook.read_text().replace(str(template.folder), str(example.folder)))
    for clone in (example.ada, example.server):
        git(clone, "remote", "set-url", "origin", str(example.repository))


def collect(example: Short) -> dict[str, Any]:
    """Return what must not depend on a kill: without ids, times and addresses."""
    packages = {
        f"{release['name']}/{release['version']}": release["package"][:12] for release in example.read("releases")
    }
    return {
        "routes": [
            (route["environment"], route["version"], arm["role"], arm["share"], packages[arm["release"]])
            for route in example.read("routes")
            for arm in route["arms"]
        ],
        "releases": sorted(packages.items()),
        "builds": [
            (
                build["number"],
                build["branch"],
                build["state"],
                {name: digest[:12] for name, digest in build["artifacts"].items()},
            )
            for build in example.read("builds")
        ],
        "deployments": _count(example, "deployments", "environment", "state"),
        "differences": [
            (difference["environment"], difference["action"]) for difference in listed(example.server, "deploy", "diff")
        ],
        "runs": _count(example, "runs", "environment", "pipeline", "state"),
        "jobs": _count(example, "jobs", "environment", "pipeline", "state"),
        "verdicts": _count(example, "verdicts", "check", "outcome", "action"),
        "events": [each for each in _count(example, "events", "environment", "kind") if each[0][1] not in _REMINDERS],
        "audit": _count(example, "audit", "actor", "action"),
    }


def _count(example: Short, table: str, *columns: str) -> list[Any]:
    """Return how many records of a table have each combination of values."""
    found = Counter(tuple(record.get(column, "") for column in columns) for record in example.read(table))
    return sorted(found.items())


def describe(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """Return how a play differs from the undisturbed one; empty if it does not."""
    lines = []
    for name, value in expected.items():
        more = [each for each in _listed(found[name]) if each not in _listed(value)]
        less = [each for each in _listed(value) if each not in _listed(found[name])]
        if found[name] != value:
            lines.append(f"{name}: {more} in place of {less}")
    return "; ".join(lines)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def main() -> None:
    """Play the example without a fault, then with each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--points", nargs="*", default=())
    parser.add_argument(
        "--together",
        action="store_true",
        help="kill at several points in one play: at those that are given, or at all in five plays",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders of plays that differ")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidemill-kills-")).resolve()
    results: dict[str, tuple[str, float]] = {}
    try:
        template = prepare(folder / "template")
        begun = time.monotonic()
        expected, _ = play(template, folder / "undisturbed")
        print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
        for name, value in expected.items():
            print(f"undisturbed {name}: {value}", flush=True)
        plays: Sequence[Sequence[str]] = [(point,) for point in options.points or POINTS]
        if options.together:
            plays = [options.points] if options.points else TOGETHER
        for index, points in enumerate(plays):
            begun, killed = time.monotonic(), list[str]()
            try:
                found, killed = play(template, folder / f"play{index}", points)
                problem = describe(expected, found)
            except Failed as failure:
                problem = f"failed: {failure}"
            seconds = time.monotonic() - begun
            for point in points:
                missed = "" if point in killed or problem else "no process came there"
                results[point] = problem or missed, seconds
                print(f"{point}: {problem or missed or 'same'} ({seconds:.0f} s)", flush=True)
            if not problem or not options.keep:
                shutil.rmtree(folder / f"play{index}", ignore_errors=True)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{'killed at':32}{'seconds':>8}  what is left")
    for point, (problem, seconds) in results.items():
        print(f"{point:32}{seconds:8.0f}  {problem or 'as undisturbed'}")
    wrong = [point for point, (problem, _) in results.items() if problem]
    print(f"{len(results) - len(wrong)} of {len(results)} points: a process was killed there, and nothing differs")
    if wrong:
        raise Failed(f"wrong: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
