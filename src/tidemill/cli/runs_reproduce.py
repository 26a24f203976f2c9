"""`runs reproduce`: rebuilds the code and environment of a run, repeats the run and compares the outputs."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.run_progress import RunProgress
from tidemill.cli.runs import runs
from tidemill.cli.session import Json, load_session
from tidemill.errors import NotFound, TidemillError

if TYPE_CHECKING:
    from tidemill.core.run import Run
    from tidemill.flow.reproduce import Reproduction
    from tidemill.flow.session import Session

_INSIDE = "TIDEMILL_REPRODUCES_IN"


@runs.command("reproduce")
def reproduce(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning.")],
    here: Annotated[
        bool, typer.Option("--here", help="Use the current environment instead of building the recorded one.")
    ] = False,
    tolerance: Annotated[float, typer.Option(help="The allowed difference of numbers.")] = 1e-9,
    json: Json = False,
) -> None:
    """Repeat a run with its code, environment, inputs and parameters, and compare the outputs."""
    session = load_session()
    past = session.workspace.ledger.runs.get(run_id)
    if inside := os.environ.get(_INSIDE):
        output.print_json(_repeat(session, past, Path(inside), tolerance, quiet=json))
        return
    with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
        result = _repeat_rebuilt(session, past, Path(folder), tolerance, here=here)
    if json:
        output.print_json(result)
    else:
        _print(result)
    if not result.same:
        raise TidemillError(
            f"run {output.shorten_id(past.id)} does not have the same outputs"
            + (f": {result.error}" if result.error else ""),
            "see the differences above",
        )


def _repeat_rebuilt(session: "Session", past: "Run", folder: Path, tolerance: float, *, here: bool) -> "Reproduction":
    """Repeat the run in another process, with the recorded code and packages."""
    import sys

    import msgspec
    from msgspec.structs import replace

    from tidemill.flow.reproduce import Reproduction
    from tidemill.host.git import snapshot_code
    from tidemill.host.python import list_packages
    from tidemill.host.uv import build_environment, compare_packages
    from tidemill.project.rebuilding import rebuild_project

    snapshot = past.code.get("snapshot")
    if not snapshot or not past.packages:
        raise NotFound(f"run {output.shorten_id(past.id)} has no record of its code and packages", "choose a newer run")
    blobs = session.workspace.blobs
    project = folder / session.project.folder.resolve().name
    project.mkdir()
    rebuild_project(blobs.get(snapshot), session.project.folder, project)
    recorded = blobs.get(past.packages).decode().splitlines()
    differences = compare_packages(recorded, list_packages(session.workspace.root))
    python = past.software.get("python", "")
    interpreter = Path(sys.executable)
    if (differences or python != sys.version.split()[0]) and not here:
        output.err.print(f"building an environment: Python {python}, {len(recorded)} packages")
        interpreter = build_environment(python, recorded, folder / "environment")
        differences = {}
    environment = os.environ | {
        "TIDEMILL_PROJECT": str(project),
        "TIDEMILL_WORKSPACE": str(session.workspace.root.resolve()),
        _INSIDE: str(folder / "state"),
    }
    words = [str(interpreter), "-m", "tidemill", "runs", "reproduce", past.id, "--tolerance", str(tolerance)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise TidemillError(f"run {output.shorten_id(past.id)} cannot be repeated", "see the error above")
    code = {name: value for name, value in past.code.items() if name in ("commit", "dirty", "digest")}
    if snapshot_code(project).digest != past.code.get("digest"):
        code["rebuilt"] = "differs from the recorded code"
    return replace(msgspec.json.decode(done.stdout, type=Reproduction), code=code, environment=differences)


def _repeat(session: "Session", past: "Run", folder: Path, tolerance: float, *, quiet: bool) -> "Reproduction":
    from tidemill.compose.backends import open_workspace
    from tidemill.compose.session import open_session
    from tidemill.core import resources
    from tidemill.flow.reproduce import reproduce as reproduce_run

    recorded = load_session(past.environment).workspace
    books = recorded.ledger
    repeated = open_session(
        session.project,
        past.environment,
        workspace=open_workspace(folder, past.environment, urls={"blobs": recorded.url("blobs")}),
        replacements={resources.TableReader: recorded.tables, resources.JournalReader: recorded.journal},
    )
    return reproduce_run(repeated, books, past, tolerance, RunProgress(quiet=quiet, verbose=True).report)


def _print(result: "Reproduction") -> None:
    rows = [
        [step.step, step.output, step.kind, step.verdict, "" if step.apart is None else f"{step.apart:.3g}"]
        for step in result.steps
    ]
    output.print_table(("step", "output", "kind", "result", "difference"), rows)
    for name, (was, now) in result.metrics.items():
        output.out.print(f"{name}: {was:.6f}, now {'missing' if now is None else f'{now:.6f}'}")
    if result.taken:
        output.out.print(f"not repeated, because the steps have side effects: {', '.join(result.taken)}")
    if "rebuilt" in result.code:
        output.out.print(f"code: {result.code['rebuilt']}")
    for name, (was_version, now_version) in result.environment.items():
        output.out.print(f"{name}: {was_version or 'not installed'}, now {now_version or 'not installed'}")
    if result.same:
        exactly = all(step.verdict == "same" for step in result.steps)
        output.out.print(f"the outputs are the same{'' if exactly else ', within the tolerance'}")
