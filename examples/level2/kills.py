"""Kills a process at each of the named points between a push and a deployed model, and compares what is left.

    python -m examples.level2.kills [--points "deployment is ready" …]

For each point the example is played from a push to preproduction: the push is built, Mai approves it, the build is
deployed, and its pipeline trains a model. The first process that comes to the point is killed with SIGKILL: the daemon,
or the process of a run. The server is started again if it was the daemon. At the end, routes, digests of releases,
outcomes of verdicts and actions in the audit log must be those of the undisturbed example.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from examples.level2.run import Example
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


def prepare(folder: Path) -> Example:
    """Make the repository and the server, and build once, so that the environment of the lock exists."""
    example = Example(folder)
    example.create()
    example.create_tokens()
    example.start_server()
    policy = example.ada / "tidemill.toml"
    policy.write_text(policy.read_text().replace("max_iter = 40", "max_iter = 41"))
    example.wait_for_build(example.commit("Warm up", branch="warm"))
    example.stop()
    git(example.ada, "checkout", "--quiet", "main")
    return example


def play(template: Example, folder: Path, point: str) -> tuple[dict[str, Any], bool]:
    """Play the example in a copy of a folder, with a fault; return what is left, and whether a process was killed."""
    shutil.copytree(template.folder, folder, symlinks=True)
    example = Example(folder)
    example.tokens = template.tokens
    _move(example, template)
    mark = folder / "killed"
    fault = {"TIDEMILL_FAULT": point, "TIDEMILL_FAULT_ONCE": str(mark)} if point else {}
    try:
        example.start_server(**fault)
        policy = example.ada / "tidemill.toml"
        policy.write_text(policy.read_text().replace("max_iter = 40", "max_iter = 44"))
        commit = example.commit("Four more trees", branch="main")

        def restart() -> str:
            if example.process is not None and example.process.poll() is not None:
                if not mark.exists():
                    return "the server ended, and not by the fault"
                example.start_server()
            return ""

        example.problem = restart  # type: ignore[method-assign]
        build = example.wait_for_build(commit)
        wait_for("an approval to be needed", lambda: _events(example), restart)
        example.approve(build, "preproduction", "mai", "read")
        example.wait_for_deployment("preproduction", build)
        wait_for("a champion in preproduction", lambda: _routes(example), restart)
        example.wait_for_runs("preproduction", 1)
        time.sleep(1)  # what would happen twice has the time to happen
        return _collect(example), mark.exists()
    finally:
        example.stop()


def _move(example: Example, template: Example) -> None:
    """Let the copy use its own repository and hook."""
    hook = example.repository / "hooks" / "post-receive"
    hook.write_text(hook.read_text().replace(str(template.folder), str(example.folder)))
    for clone in (example.ada, example.server):
        git(clone, "remote", "set-url", "origin", str(example.repository))


def _events(example: Example) -> bool:
    return bool(listed(example.server, "events", "list", "--env", "ci", "--kind", "build.waiting"))


def _routes(example: Example) -> bool:
    return bool(listed(example.server, "routes", "list", "--env", "preproduction"))


def _collect(example: Example) -> dict[str, Any]:
    """Return what must not depend on a kill: without ids, times and addresses."""
    server = example.server
    routes = listed(server, "routes", "list", "--env", "preproduction")
    releases = {
        release["label"] if "label" in release else f"{release['name']}/{release['version']}": release["package"]
        for release in listed(server, "models", "list")
    }
    deployments = listed(server, "deploy", "list", "--env", "preproduction")
    verdicts = listed(server, "checks", "list", "--limit", "500")
    return {
        "route": [(arm["role"], arm["portion"] if "portion" in arm else arm["share"], releases[arm["release"]])
                  for route in routes for arm in route["arms"]],
        "builds": sorted((build["branch"], build["state"]) for build in listed(server, "deploy", "builds")),
        "served": [each["state"] for each in deployments if each["state"] in ("healthy", "starting", "waiting")],
        "verdicts": sorted({(v["check"], v["outcome"], v["action"]) for v in verdicts}),
        "audit": sorted((e["actor"], e["action"]) for e in listed(server, "audit", "list", "--limit", "500")),
    }  # fmt: skip


def main() -> None:
    """Play the example without a fault, then with each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--points", nargs="*", default=POINTS)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tidemill-kills-")).resolve()
    try:
        template = prepare(folder / "template")
        expected, _ = play(template, folder / "undisturbed", "")
        print(f"\nundisturbed: {expected}\n", flush=True)
        wrong = []
        for index, point in enumerate(options.points):
            found, killed = play(template, folder / f"point{index}", point)
            differences = [name for name in expected if expected[name] != found[name]]
            state = (
                "never came there" if not killed else f"differs in {differences}: {found}" if differences else "same"
            )
            print(f"\n{point}: {state}\n", flush=True)
            if differences or not killed:
                wrong.append(point)
            shutil.rmtree(folder / f"point{index}", ignore_errors=True)
        print(f"{len(options.points) - len(wrong)} of {len(options.points)} points: killed there, and nothing differs")
        if wrong:
            raise Failed(f"wrong: {', '.join(wrong)}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
