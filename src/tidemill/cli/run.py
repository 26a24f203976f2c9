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
from tidemill.cli.session import EnvironmentOption, Json, current_user, load_session
from tidemill.core.run import Run, StepRun
from tidemill.errors import InputError, TidemillError

EngineOption = Annotated[str, typer.Option(help="inline: one step at a time; processes: steps in parallel.")]


def run(
    name: Annotated[str, typer.Argument(help="A pipeline in pipeline.py.")] = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A parameter, as NAME=VALUE; can be repeated.")
    ] = None,
    env: EnvironmentOption = "production",
    engine: EngineOption = "inline",
    step: Annotated[str, typer.Option(help="Run only this step, on its inputs in the run of --from.")] = "",
    origin: Annotated[str, typer.Option("--from", metavar="RUN", help="The earlier run for --step.")] = "",
    cause: Annotated[str, typer.Option(hidden=True)] = "",
    once: Annotated[str, typer.Option("--as", hidden=True)] = "",
    json: Json = False,
) -> int:
    """Run a pipeline, or one step on its inputs in an earlier run."""
    import msgspec

    from tidemill.flow.engine import run as run_pipeline
    from tidemill.flow.engine import run_once, run_step

    if bool(step) != bool(origin) or bool(step) == bool(name) or (step and param):
        raise InputError(
            "the command needs either a pipeline, or --step with --from",
            "use `tidemill run training -p depth=6`, or `tidemill run --step fit --from RUN`",
        )
    params = _parse_params(param or [])
    session = load_session(env)
    run_cause: dict[str, Any] = msgspec.json.decode(cause, type=dict) if cause else describe_user_cause()
    progress = RunProgress(quiet=json)
    with stop_on_signal(progress):
        if step:
            done, failed = run_step(session, step, origin, cause=run_cause, progress=progress.report, engine=engine)
        elif once:
            done, failed = run_once(
                session, once, name, params, cause=run_cause, progress=progress.report, engine=engine
            )
        else:
            pipeline = session.project.code.pipeline(name)
            done, failed = run_pipeline(
                session, pipeline, params, cause=run_cause, progress=progress.report, engine=engine
            )
    return print_result(session, done, failed, json)


def print_result(session: Any, done: Run, failed: TidemillError | None, json: bool) -> int:
    """Print a run and its releases, and return the exit code; raise the error of a run that failed."""
    if json:
        output.print_json(done)
    elif failed is None:
        measured = "  ".join(f"{key} {value:.4f}" for key, value in done.metrics.items() if key.startswith("test_"))
        output.out.print(f"{done.pipeline} done in {done.seconds:.1f} s  run {output.shorten_id(done.id)}  {measured}")
        _print_releases(session, done.id)
    if failed is not None:
        raise failed
    return 0


@contextmanager
def stop_on_signal(progress: "RunProgress") -> Iterator[None]:
    """Interrupt the run on SIGTERM as on Ctrl-C, so that it can be resumed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt) if current_thread() is main_thread() else None
    try:
        yield
    except KeyboardInterrupt:
        if progress.run:
            output.err.print(f"\nto resume it: `tidemill runs resume {output.shorten_id(progress.run)}`")
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def describe_user_cause() -> dict[str, Any]:
    """Return the cause of a run that the current user starts."""
    return {"by": "hand", "user": current_user()}


def _print_releases(session: Any, run_id: str) -> None:
    from tidemill.registry.routing import find_current_route

    books = session.workspace.ledger
    releases = books.releases.find(run=run_id)
    for release in releases:
        route = find_current_route(session.workspace.ledger, session.workspace.environment, release.name)
        arm = next((a for a in route.arms if a.release == release.label), None) if route else None
        events = books.events.find(subject=release.label, newest=True, limit=_EVENTS)
        reasons = [event.announcement.reason for event in events if event.kind in WAITING_KINDS]
        why = next((reason for reason in reasons if reason), "see `tidemill events list`")
        state = f"serves as {arm.role} ({arm.share:.0%})" if arm else f"does not serve yet: {why}"
        replaced = f": {route.reason}" if arm and route and route.reason.startswith("canary") else ""
        output.out.print(f"release {release.label} {state}{replaced}")
    if not releases:
        _print_equal_release(session, run_id)


def _print_equal_release(session: Any, run_id: str) -> None:
    """Print the release of an earlier training with an equal model, and the reason of its last event."""
    from tidemill.blobs.artifacts import read_artifact

    books = session.workspace.ledger
    for step in books.steps.find(run=run_id, step="release"):
        for digest in step.outputs.values():
            with suppress(TidemillError):
                label = read_artifact(session.workspace.blobs, books.artifacts.get(digest), str)
                events = books.events.find(subject=label, newest=True, limit=1)
                reason = f" ({events[0].announcement.reason})" if events and events[0].announcement.reason else ""
                output.out.print(f"no new release: the model is equal to {label}{reason}")


def _parse_params(pairs: list[str]) -> dict[str, str]:
    params = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--param {pair!r} is not NAME=VALUE", "use the form --param depth=6")
        params[name] = value
    return params


class RunProgress:
    """Prints a line to stderr for each finished step; on a terminal, the running steps too."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._running: dict[str, None] = {}
        self.run = ""

    def report(self, step: StepRun) -> None:
        """Report a step that starts, is retried or finishes."""
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
        with suppress(BrokenPipeError):  # stderr is closed: the run continues
            sys.stderr.write(f"{erased}{text}\n")
            sys.stderr.flush()
