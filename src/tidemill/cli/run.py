"""`run`: starts a pipeline, or one step of a past run."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.decisions import export_audit_head
from tidemill.cli.run_progress import RunProgress
from tidemill.cli.run_summary import print_summary
from tidemill.cli.session import EnvironmentOption, Json, current_user, load_session
from tidemill.core.run import Run
from tidemill.errors import InputError, TidemillError

if TYPE_CHECKING:
    from tidemill.flow.session import Session

VerboseOption = Annotated[bool, typer.Option("--verbose", help="Print every step of a pipeline with many steps.")]
EngineOption = Annotated[
    str,
    typer.Option(
        help="inline: one step at a time; processes, container: steps in parallel. Default: that of tidemill.toml."
    ),
]


def run(
    name: Annotated[str, typer.Argument(help="A pipeline in pipeline.py.")] = "",
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="A parameter, as NAME=VALUE; can be repeated.")
    ] = None,
    env: EnvironmentOption = "production",
    engine: EngineOption = "",
    step: Annotated[str, typer.Option(help="Run only this step, on its inputs in the run of --from.")] = "",
    origin: Annotated[str, typer.Option("--from", metavar="RUN", help="The earlier run for --step.")] = "",
    cause: Annotated[str, typer.Option(hidden=True)] = "",
    once: Annotated[str, typer.Option("--as", hidden=True)] = "",
    job: Annotated[str, typer.Option(hidden=True)] = "",
    verbose: VerboseOption = False,
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
    session = load_session(env, create=True)
    params = _parse_params(param or []) | (_read_job_params(session, job) if job else {})
    run_cause: dict[str, Any] = msgspec.json.decode(cause, type=dict) if cause else describe_user_cause(session)
    progress = create_progress(session, quiet=json, verbose=verbose)
    with stop_on_signal(progress):
        if step:
            done, failed = run_step(session, step, origin, cause=run_cause, progress=progress.report, engine=engine)
        elif once:
            done, failed = run_once(
                session, once, name, params, cause=run_cause, progress=progress.report, engine=engine
            )
        else:
            pipeline = session.pipeline(name)
            done, failed = run_pipeline(
                session, pipeline, params, cause=run_cause, progress=progress.report, engine=engine
            )
    return print_result(session, done, failed, json)


def create_progress(session: Any, *, quiet: bool, verbose: bool = False) -> RunProgress:
    """Return a printer of the steps of a run of this session."""

    def count_steps(run: str) -> int:
        return len(session.workspace.ledger.runs.get(run).graph)

    return RunProgress(quiet=quiet, verbose=verbose, count_steps=count_steps)


def print_result(session: Any, done: Run, failed: TidemillError | None, json: bool) -> int:
    """Print a run and its releases, and return the exit code; raise the error of a run that failed.

    The policy may have changed a route in the run, so the head of the audit log is exported.
    """
    export_audit_head(session)
    if json:
        output.print_json(done)
    else:
        print_summary(session, done, succeeded=failed is None)
    if failed is not None:
        raise failed
    return 0


@contextmanager
def stop_on_signal(progress: RunProgress) -> Iterator[None]:
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


def describe_user_cause(session: "Session") -> dict[str, Any]:
    """Return the cause of a run that the current user starts."""
    return {"by": "hand", "user": current_user(session)}


def _read_job_params(session: "Session", job: str) -> dict[str, Any]:
    """Return the parameters of a job in the types in which its trigger states them."""
    from tidemill.flow.stated import read_params

    record = session.workspace.ledger.jobs.get(job)
    return read_params(record.params) | ({"model": record.model} if record.model else {})


def _parse_params(pairs: list[str]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--param {pair!r} is not NAME=VALUE", "use the form --param depth=6")
        params[name] = value
    return params
