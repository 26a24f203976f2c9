"""`run`: starts a pipeline, or one step of a past run."""

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.session import Environment, Json, session_here, user
from tidemill.core.run import Run, StepRun
from tidemill.errors import InputError, TidemillError

Engine = Annotated[str, typer.Option(help="Where steps run: inline, or side by side in processes.")]


def run(
    name: Annotated[str, typer.Argument(help="A pipeline of pipeline.py.")] = "",
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="name=value; may be repeated.")] = None,
    env: Environment = "production",
    engine: Engine = "inline",
    step: Annotated[str, typer.Option(help="Only this step, on what the run of --from gave it.")] = "",
    origin: Annotated[str, typer.Option("--from", metavar="RUN", help="A past run, for --step.")] = "",
    cause: Annotated[str, typer.Option(hidden=True)] = "",
    once: Annotated[str, typer.Option("--as", hidden=True)] = "",
    json: Json = False,
) -> int:
    """Run a pipeline of the project, or one step of it on a past run's inputs."""
    import msgspec

    from tidemill.flow.engine import run as run_pipeline
    from tidemill.flow.engine import run_once, run_step

    if bool(step) != bool(origin) or bool(step) == bool(name) or (step and param):
        raise InputError(
            "give a pipeline, or --step with --from",
            "`tidemill run training -p depth=6`, or `tidemill run --step fit --from RUN`",
        )
    params = _params(param or [])
    session = session_here(env)
    because: dict[str, Any] = msgspec.json.decode(cause, type=dict) if cause else cause_of_user()
    progress = Progress(quiet=json)
    with stop_on_signal(progress):
        if step:
            done, failed = run_step(session, step, origin, cause=because, progress=progress.tell, engine=engine)
        elif once:
            done, failed = run_once(session, once, name, params, cause=because, progress=progress.tell, engine=engine)
        else:
            pipeline = session.project.code.pipeline(name)
            done, failed = run_pipeline(session, pipeline, params, cause=because, progress=progress.tell, engine=engine)
    return print_result(session, done, failed, json)


def print_result(session: Any, done: Run, failed: TidemillError | None, json: bool) -> int:
    if json:
        output.as_json(done)
    elif failed is None:
        measured = "  ".join(f"{key} {value:.4f}" for key, value in done.metrics.items() if key.startswith("test_"))
        output.out.print(f"{done.pipeline} done in {done.seconds:.1f} s  run {output.short(done.id)}  {measured}")
        _told_releases(session, done.id)
    if failed is not None:
        raise failed
    return 0


@contextmanager
def stop_on_signal(progress: "Progress") -> Iterator[None]:
    """Let a polite end (SIGTERM) be as gentle as Ctrl-C: the run can be resumed."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end) if current_thread() is main_thread() else None
    try:
        yield
    except KeyboardInterrupt:
        if progress.run:
            output.err.print(f"\ngo on with it: `tidemill runs resume {output.short(progress.run)}`")
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def cause_of_user() -> dict[str, Any]:
    return {"by": "hand", "user": user()}


def _told_releases(session: Any, run_id: str) -> None:
    from tidemill.registry.routing import current

    books = session.workspace.ledger
    made = books.releases.find(run=run_id)
    for release in made:
        route = current(session.workspace.ledger, session.workspace.environment, release.name)
        arm = next((a for a in route.arms if a.release == release.label), None) if route else None
        state = f"answers as {arm.role} ({arm.share:.0%})" if arm else "does not answer yet: see `tidemill events list`"
        output.out.print(f"release {release.label} {state}")
    if not made:
        _told_the_same(session, run_id)


def _told_the_same(session: Any, run_id: str) -> None:
    """The release that an earlier training gave, where this one came to the same, and what is said of it."""
    from tidemill.blobs.artifacts import read_artifact

    books = session.workspace.ledger
    for step in books.steps.find(run=run_id, step="release"):
        for digest in step.outputs.values():
            with suppress(TidemillError):
                label = read_artifact(session.workspace.blobs, books.artifacts.get(digest), str)
                told = books.events.find(subject=label, newest=True, limit=1)
                why = f" ({told[0].announcement.reason})" if told and told[0].announcement.reason else ""
                output.out.print(f"no new release: an earlier training gave the same, {label}{why}")


def _params(given: list[str]) -> dict[str, str]:
    params = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise InputError(f"--param {one!r} is not name=value", "write it as --param depth=6")
        params[name] = value
    return params


class Progress:
    """A line on stderr for each step that is over; on a terminal the running ones are shown too."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._running: dict[str, None] = {}
        self.run = ""

    def tell(self, step: StepRun) -> None:
        """Tell of a step that begins, is tried again, or is over."""
        self.run = step.run
        if self._quiet:
            return
        if step.state != "running":
            self._running.pop(step.step, None)
            seconds = f"{step.seconds:6.2f} s" if step.seconds is not None else " " * 8
            self._line(f"  {step.state:11} {seconds}  {step.step:22} {step.error or step.reason}")
        else:
            self._running[step.step] = None
            if step.attempt > 1:
                self._line(f"  try {step.attempt:<7} {'':8}  {step.step:22} {step.error}")
        if self._live and self._running:
            width = shutil.get_terminal_size().columns
            output.err.print(f"  … {', '.join(self._running)}"[: width - 1], end="\r")

    def _line(self, text: str) -> None:
        erased = "\x1b[2K" if self._live else ""
        with suppress(BrokenPipeError):  # nobody listens any more: the run goes on
            sys.stderr.write(f"{erased}{text}\n")
            sys.stderr.flush()
