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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from examples.level2.tools import Failed, announce, git, is_ready, listed, post, show, tidemill, wait_for

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
            deployments = listed(self.server, "deploy", "list", "--env", environment)
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
            return len([run for run in runs if run["state"] == "done"]) >= count

        wait_for(f"{count} trainings in {environment}", find, self.problem)
        show(f"{environment}: {count} trainings succeeded")

    def create_tokens(self) -> None:
        """Tokens for the people who decide and for the program that asks."""
        for name, roles in {
            "mai": ("approver", "admin"),
            "ada": ("developer", "approver"),
            "app": ("predict", "label"),
        }.items():
            words = [word for role in roles for word in ("--role", role)]
            administrator = self.tokens.get("mai", "")
            made = listed(self.server, "tokens", "create", name, "--owner", name, *words, token=administrator)
            self.tokens[name] = made["token"]
        show(tidemill(self.server, "tokens", "list", token=self.tokens["mai"]))

    def approve(self, build: dict[str, Any], environment: str, person: str, reason: str) -> None:
        """Approve a build as a person."""
        words = ("deploy", "approve", str(build["number"]), "--to", environment, "--reason", reason)
        show(tidemill(self.server, *words, token=self.tokens[person]))

    def start_training(self, environment: str) -> None:
        """Ask the daemon of an environment for a training."""
        show(tidemill(self.server, "triggers", "fire", "training", "--env", environment, token=self.tokens["mai"]))

    def address(self, environment: str) -> str:
        """Return the address of the service of an environment."""
        deployments = listed(self.server, "deploy", "list", "--env", environment)
        return next(str(each["address"]) for each in deployments if each["state"] == "healthy")

    def champion(self) -> str:
        """Return the release that serves most requests of production."""
        routes = listed(self.server, "routes", "list", "--env", "production")
        arms = [arm for arm in routes[0]["arms"] if arm["role"] == "champion"] if routes else []
        return str(arms[0]["release"]) if arms else ""

    def one_row(self) -> dict[str, Any]:
        """Return a request."""
        return select_month(7).select(*_INPUTS, "flight_id", "scheduled_departure").head(1).to_dicts()[0] | {
            "scheduled_departure": datetime.now(UTC).isoformat()
        }

    def send_traffic(self, rows: pl.DataFrame, until: Callable[[], bool]) -> list[str]:
        """Ask the service for the flights of a frame, and send what became of them; return the ids of the answers."""
        address, token = self.address("production"), self.tokens["app"]
        answers: list[str] = []
        deadline = time.monotonic() + 1500
        for begin in range(0, 10**9, 100):
            chunk = rows.slice(begin % rows.height, 100)
            now = datetime.now(UTC).isoformat()
            requests = [
                row | {"flight_id": f"{row['flight_id']}/{begin}", "scheduled_departure": now}
                for row in chunk.select(*_INPUTS, "flight_id").to_dicts()
            ]
            reply = post(address, "/predict/flights", {"rows": requests}, token)
            ids = [prediction["id"] for prediction in reply["predictions"]]
            outcomes = zip(ids, chunk["late"].to_list(), strict=True)
            post(
                address, "/labels/flights", {"labels": [{"id": name, "value": late} for name, late in outcomes]}, token
            )
            answers += ids
            if begin % 1_000 == 0 and until():
                return answers
            if time.monotonic() > deadline or self.problem():
                raise Failed(f"no new champion after {len(answers)} flights")
            time.sleep(0.3)
        return answers

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
            tidemill(self.server, "deploy", "stop", "--all", "--reason", "the example is over")


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
    announce(2, "the server builds and deploys: tidemill up --env ci; Mai gets a token to approve")
    example.create_tokens()
    example.start_server()
    build = deploy_to_test(example)
    build = deploy_to_preproduction(example)
    deploy_to_production(example, build)
    prediction = meet_the_summer(example)
    refuse_a_bad_commit(example, build)
    refuse_an_upgrade(example)
    roll_back_a_model(example)
    run_the_image(example, build)
    announce(11, "why did a passenger get this answer?")
    show(tidemill(example.server, "why", prediction, "--env", "production"))


def deploy_to_test(example: Example) -> dict[str, Any]:
    """A push to a development branch is built, and deployed to the test environment."""
    announce(3, "a push to a development branch: CI builds it, and the test environment takes it")
    policy = example.ada / "tidemill.toml"
    policy.write_text(policy.read_text().replace("max_iter = 40", "max_iter = 45"))
    commit = example.commit("Five more trees", branch="dev/trees")
    build = example.wait_for_build(commit)
    example.wait_for_deployment("test", build)
    example.wait_for_runs("test", 1)
    return build


def deploy_to_preproduction(example: Example) -> dict[str, Any]:
    """A merge to main is built; preproduction takes it as soon as somebody else approves it."""
    announce(4, "a merge to main: preproduction takes it when somebody who did not write it approves")
    git(example.ada, "checkout", "--quiet", "main")
    git(example.ada, "merge", "--quiet", "--no-ff", "--message", "Merge dev/trees", "dev/trees")
    show(git(example.ada, "push", "--quiet", "origin", "main"))
    build = example.wait_for_build(git(example.ada, "rev-parse", "HEAD").strip())
    number = str(build["number"])
    show(tidemill(example.server, "deploy", "check", number, "--to", "preproduction", code=3))
    example.approve(build, "preproduction", "ada", "my own work is fine")
    show(tidemill(example.server, "deploy", "check", number, "--to", "preproduction", code=3))
    example.approve(build, "preproduction", "mai", "read and tried")
    example.wait_for_deployment("preproduction", build)
    example.wait_for_runs("preproduction", 1)
    return build


def deploy_to_production(example: Example, build: dict[str, Any]) -> None:
    """A person promotes the build, once it has run in preproduction and somebody has approved it."""
    announce(5, "production: refused with what is missing, then promoted by a person")
    number = str(build["number"])
    mai = example.tokens["mai"]
    promote = ("deploy", "promote", number, "--to", "production", "--reason", "two good runs")
    show(tidemill(example.server, *promote, code=3, token=mai))
    example.start_training("preproduction")
    example.wait_for_runs("preproduction", 2)
    example.approve(build, "production", "mai", "two good runs")
    show(tidemill(example.server, *promote, token=mai))
    example.wait_for_runs("production", 1)
    wait_for("the first answers", lambda: is_ready(example.address("production")), example.problem)
    show(tidemill(example.server, "deploy", "status"))


def meet_the_summer(example: Example) -> str:
    """The flights of July arrive: the champion gets worse, a new model is trained, tested on live rows and promoted."""
    announce(6, "the summer: live predictions get worse, a new model is trained, tested on traffic, and promoted")
    first = example.champion()
    show(f"{first} answers; now come the flights of July")
    example.deliver(example.server, range(7, 8))
    answers = example.send_traffic(select_month(7), until=lambda: example.champion() != first)
    show(f"{example.champion()} answers after {len(answers)} flights")
    for route in listed(example.server, "routes", "list", "--env", "production"):
        show(f"route {route['version']}: {route['reason']}")
    return answers[-1]


def refuse_a_bad_commit(example: Example, build: dict[str, Any]) -> None:
    """A commit that uses what is known only later is refused by CI; production goes on."""
    announce(7, "a bad commit: the feature divides by zero; CI refuses it")
    features = example.ada / "features.py"
    features.write_text(features.read_text().replace("scheduled_minutes.clip(1)", "scheduled_minutes"))
    commit = example.commit("Simplify the speed", branch="dev/simpler")
    example.wait_for_build(commit, "refused")
    address = example.address("production")
    post(address, "/predict/flights", {"rows": [example.one_row()]}, example.tokens["app"])
    show(f"production answers with build {build['number']} all the time")
    git(example.ada, "checkout", "--quiet", "main")


def refuse_an_upgrade(example: Example) -> None:
    """Another release of a library changes the answers of the model: CI names the package."""
    announce(8, "another release of scikit-learn, which changes the answers: CI names it")
    lock = example.ada / "requirements.lock"
    lines = [line for line in lock.read_text().splitlines() if not line.startswith("scikit-learn==")]
    lock.write_text("\n".join([*lines, "scikit-learn==1.8.0", ""]))
    commit = example.commit("Use the scikit-learn of the other services", branch="dev/older-library")
    build = example.wait_for_build(commit, "refused")
    if "scikit-learn" not in build["reason"]:
        raise Failed(f"the reason does not name the package: {build['reason']}")
    git(example.ada, "checkout", "--quiet", "main")


def roll_back_a_model(example: Example) -> None:
    """One command brings the model before back."""
    announce(9, "a model rollback")
    mai = example.tokens["mai"]
    before = example.champion()
    show(
        tidemill(
            example.server, "models", "rollback", "--env", "production", "--reason", "the ops team asks", token=mai
        )
    )
    if example.champion() == before:
        raise Failed("the rollback changed nothing")


def run_the_image(example: Example, build: dict[str, Any]) -> None:
    """The image of the build serves an environment of its own, where podman is installed."""
    announce(10, "the container image of the build in production")
    if not build["image"]:
        show("no image was built: neither podman nor buildah nor docker is installed")
        return
    show(f"the digest of its image: {build['image']}")
    if shutil.which("podman") is None:
        show("podman is not installed, so the image is not run")
        return
    mai = example.tokens["mai"]
    try:
        promote = ("deploy", "promote", str(build["number"]), "--to", "container", "--reason", "the same in an image")
        show(tidemill(example.server, *promote, token=mai))
    except Failed as refused:
        show(f"podman cannot run it on this machine: {str(refused).strip().splitlines()[-1]}")
        return
    show(tidemill(example.server, "deploy", "stop", "container", "--reason", "it was only a try", token=mai))


if __name__ == "__main__":
    main()
