"""From a push to production, with real processes: run it with `python -m examples.level2.run`.

It makes a bare repository, a server that builds and deploys (`tidemill up --env ci`), and plays two people: Ada, who
writes code, and Mai, who approves it. Everything is in one folder, which is deleted at the end unless --keep is given.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from examples.level2.tools import Failed, announce, git, listed, show, tidemill, wait_for

HERE = Path(__file__).parent
FLIGHTS = HERE.parent / "flights" / "data" / "flights.parquet"
_COLUMNS = [
    *("flight_id", "scheduled_departure", "carrier", "origin", "dest", "hour", "weekday", "distance"),
    *("scheduled_minutes", "late", "landed"),
]
_INPUTS = ["carrier", "origin", "dest", "hour", "weekday", "distance", "scheduled_minutes"]
_ROWS_A_MONTH = 6_000


class Example:
    """The folder of the example, its people and its server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "flights.git"
        self.ada = folder / "ada" / "flights"
        self.server = folder / "server" / "flights"
        self.process: subprocess.Popen[bytes] | None = None
        self.tokens: dict[str, str] = {}

    # -- the parts ----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        """Ada's project with its generated tests and its lock, the bare repository, and the server's copy."""
        announce(1, "Ada makes a project with tests and a lock, and a bare repository is created")
        shutil.copytree(HERE / "flights", self.ada)
        self.deliver(self.ada, range(1, 4))
        show(tidemill(self.ada, "ci", "generate-tests"))
        show(tidemill(self.ada, "ci", "lock"))
        (self.ada / ".gitignore").write_text(".tidemill/\n__pycache__/\n.pytest_cache/\n")
        git(self.ada, "init", "--quiet", "--initial-branch", "main")
        git(self.folder, "init", "--quiet", "--bare", "--initial-branch", "main", str(self.repository))
        git(self.ada, "remote", "add", "origin", str(self.repository))
        self.commit("The project", push=False)
        git(self.ada, "push", "--quiet", "origin", "main")
        git(self.folder, "clone", "--quiet", str(self.repository), str(self.server))
        show(tidemill(self.server, "ci", "install-hook", str(self.repository)))

    def start_server(self, **variables: str) -> None:
        """Start the daemon that builds and deploys."""
        log = (self.folder / "server.log").open("ab")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tidemill", "up", "--env", "ci", "--port", "0", "--pages-port", "0"],
            cwd=self.server,
            env=environment | variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def commit(self, message: str, *, push: bool = True, branch: str = "") -> str:
        """Commit everything as Ada; return the id of the commit."""
        if branch:
            git(self.ada, "checkout", "--quiet", "-B", branch)
        git(self.ada, "add", "--all")
        git(self.ada, "commit", "--quiet", "--message", message)
        if push:
            show(git(self.ada, "push", "--quiet", "--force", "origin", branch or "HEAD"))
        return git(self.ada, "rev-parse", "HEAD").strip()

    def wait_for_build(self, commit: str, state: str = "passed") -> dict[str, Any]:
        """Wait until CI has judged a commit."""

        def find() -> dict[str, Any] | None:
            builds = [build for build in listed(self.server, "deploy", "builds") if build["commit"] == commit]
            return builds[0] if builds else None

        build = wait_for(f"the build of {commit[:7]}", find, self.problem)
        show(f"CI: build {build['number']} of {commit[:7]} {build['state']} {build.get('reason', '')}")
        if build["state"] != state:
            raise Failed(f"build {build['number']} is {build['state']}, not {state}: {build.get('reason')}")
        return build

    def wait_for_deployment(self, environment: str, build: dict[str, Any]) -> dict[str, Any]:
        """Wait until a build serves an environment."""

        def find() -> dict[str, Any] | None:
            deployments = listed(self.server, "deploy", "list", "--environment", environment)
            mine = [each for each in deployments if each["build"] == build["id"]]
            if mine and mine[0]["state"] == "failed":
                raise Failed(f"the deployment failed: {mine[0]['problem']}")
            return mine[0] if mine and mine[0]["state"] == "healthy" else None

        deployment = wait_for(f"build {build['number']} in {environment}", find, self.problem)
        show(f"{environment}: build {build['number']} serves at {deployment['address']}")
        return deployment

    def wait_for_runs(self, environment: str, count: int) -> None:
        """Wait until trainings have succeeded in an environment."""

        def find() -> bool:
            runs = listed(self.server, "runs", "list", "--env", environment, "--pipeline", "training")
            failed = [run for run in runs if run["state"] == "failed"]
            if failed:
                raise Failed(f"a training in {environment} failed: {failed[0]['error']}")
            return sum(run["state"] == "done" for run in runs) >= count

        wait_for(f"{count} trainings in {environment}", find, self.problem)
        show(f"{environment}: {count} trainings succeeded")

    def deliver(self, project: Path, months: range) -> None:
        """Write the flights of some months of 2013 as files of the source."""
        folder = project / "data" / "flights"
        folder.mkdir(parents=True, exist_ok=True)
        for month in months:
            rows = select_month(month)
            draft = folder.parent / f".{month:02}.parquet"
            rows.write_parquet(draft)
            draft.rename(folder / f"2013-{month:02}.parquet")

    def problem(self) -> str:
        """Return why waiting makes no sense any more."""
        if self.process is not None and self.process.poll() is not None:
            return "the server ended"
        return ""

    def read_log(self) -> str:
        """Return what the server printed."""
        log = self.folder / "server.log"
        return log.read_text() if log.exists() else ""

    def stop(self) -> None:
        """Stop the server and all deployed processes."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        if self.server.exists():
            tidemill(self.server, "deploy", "stop", "--all")


def select_month(month: int) -> pl.DataFrame:
    """Return some flights of a month of 2013 that landed."""
    rows = pl.scan_parquet(FLIGHTS).filter(
        pl.col("scheduled_departure").dt.month() == month, pl.col("late").is_not_null()
    )
    return rows.select(_COLUMNS).collect().sample(_ROWS_A_MONTH, seed=month).sort("scheduled_departure")


def main() -> None:
    """Play all acts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, help="the folder of the example; by default a temporary one")
    parser.add_argument("--keep", action="store_true", help="keep the folder and the processes")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tidemill-level2-"))
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    example = Example(folder.resolve())
    try:
        play(example)
    except BaseException:
        print(f"the server's log ends with:\n{example.read_log()[-1500:]}", file=sys.stderr)
        raise
    finally:
        if not options.keep:
            example.stop()
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\nall of it took {time.monotonic() - begun:.0f} s")


def play(example: Example) -> None:
    """From the first push to production, and what goes wrong on the way."""
    example.create()
    announce(2, "the server builds and deploys: tidemill up --env ci")
    example.start_server()
    commit = git(example.ada, "rev-parse", "HEAD").strip()

    announce(3, "a push to a development branch: CI builds it, and the test environment takes it")
    policy = example.ada / "tidemill.toml"
    policy.write_text(policy.read_text().replace("rounds = 40", "rounds = 45"))
    commit = example.commit("Five more rounds", branch="dev/rounds")
    build = example.wait_for_build(commit)
    example.wait_for_deployment("test", build)
    example.wait_for_runs("test", 1)


if __name__ == "__main__":
    main()
