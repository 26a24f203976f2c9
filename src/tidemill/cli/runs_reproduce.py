"""`runs reproduce`: rebuilds code and environment of a past run, does it again, and tells what came out the same."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.run import Progress
from tidemill.cli.runs import runs
from tidemill.cli.session import Json, session_here
from tidemill.errors import NotFound, TidemillError

if TYPE_CHECKING:
    from tidemill.core.run import Run
    from tidemill.flow.reproduce import Reproduction
    from tidemill.flow.session import Session

_INSIDE = "TIDEMILL_REPRODUCES_IN"


@runs.command("reproduce")
def reproduce(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")],
    here: Annotated[bool, typer.Option("--here", help="Use the present environment, whatever it was then.")] = False,
    tolerance: Annotated[float, typer.Option(help="How far numbers may be apart.")] = 1e-9,
    json: Json = False,
) -> None:
    """Do a past run again, by its code, environment, inputs and parameters, and compare what comes out."""
    session = session_here()
    past = session.workspace.ledger.runs.get(run_id)
    if inside := os.environ.get(_INSIDE):
        output.as_json(_again(session, past, Path(inside), tolerance, quiet=json))
        return
    with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
        found = _rebuilt(session, past, Path(folder), tolerance, here=here)
    if json:
        output.as_json(found)
    else:
        _tell(found)
    if not found.same:
        raise TidemillError(
            f"run {output.short(past.id)} does not come out the same" + (f": {found.error}" if found.error else ""),
            "what differs is listed above",
        )


def _rebuilt(session: "Session", past: "Run", folder: Path, tolerance: float, *, here: bool) -> "Reproduction":
    """Have another process do it, with the code and the packages of that run."""
    import sys

    import msgspec
    from msgspec.structs import replace

    from tidemill.flow.reproduce import Reproduction
    from tidemill.host.git import snapshot_code
    from tidemill.host.python import list_packages
    from tidemill.host.uv import build_environment, compare_packages
    from tidemill.project.rebuilding import rebuild

    snapshot = past.code.get("snapshot")
    if not snapshot or not past.packages:
        raise NotFound(f"run {output.short(past.id)} has no record of its code and packages", "choose a later run")
    blobs = session.workspace.blobs
    project = folder / session.project.folder.resolve().name
    project.mkdir()
    rebuild(blobs.get(snapshot), session.project.folder, project)
    recorded = blobs.get(past.packages).decode().splitlines()
    apart = compare_packages(recorded, list_packages(session.workspace.root))
    python = past.software.get("python", "")
    interpreter = Path(sys.executable)
    if (apart or python != sys.version.split()[0]) and not here:
        output.err.print(f"building an environment: Python {python}, {len(recorded)} packages")
        interpreter = build_environment(python, recorded, folder / "environment")
        apart = {}
    environment = os.environ | {
        "TIDEMILL_PROJECT": str(project),
        "TIDEMILL_WORKSPACE": str(session.workspace.root.resolve()),
        _INSIDE: str(folder / "state"),
    }
    words = [str(interpreter), "-m", "tidemill", "runs", "reproduce", past.id, "--tolerance", str(tolerance)]
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise TidemillError("the run cannot be done again", "see what is said above")
    code = {name: value for name, value in past.code.items() if name in ("commit", "dirty", "digest")}
    if snapshot_code(project).digest != past.code.get("digest"):
        code["rebuilt"] = "differs from what was recorded"
    return replace(msgspec.json.decode(done.stdout, type=Reproduction), code=code, environment=apart)


def _again(session: "Session", past: "Run", folder: Path, tolerance: float, *, quiet: bool) -> "Reproduction":
    from tidemill.compose.backends import open_workspace
    from tidemill.compose.session import open_session
    from tidemill.core import resources
    from tidemill.flow.reproduce import reproduce as do_again

    before = session_here(past.environment).workspace
    books = before.ledger
    again = open_session(
        session.project,
        past.environment,
        workspace=open_workspace(folder, past.environment, urls={"blobs": before.url("blobs")}),
        given={resources.TableReader: before.tables, resources.JournalReader: before.journal},
    )
    return do_again(again, books, past, tolerance, Progress(quiet=quiet).tell)


def _tell(found: "Reproduction") -> None:
    rows = [
        [one.step, one.output, one.kind, one.verdict, "" if one.apart is None else f"{one.apart:.3g}"]
        for one in found.steps
    ]
    output.table(("step", "output", "kind", "came out", "apart"), rows)
    for name, (was, now) in found.metrics.items():
        output.out.print(f"{name}: {was:.6f}, now {'nothing' if now is None else f'{now:.6f}'}")
    if found.taken:
        output.out.print(f"taken as recorded, since they change the world: {', '.join(found.taken)}")
    if "rebuilt" in found.code:
        output.out.print(f"code: {found.code['rebuilt']}")
    for name, (was_version, now_version) in found.environment.items():
        output.out.print(f"{name}: {was_version or 'not there'}, now {now_version or 'not there'}")
    if found.same:
        exactly = all(one.verdict == "same" for one in found.steps)
        output.out.print(f"it came out the same{'' if exactly else ', within the tolerance'}")
