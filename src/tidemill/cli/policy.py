"""`policy`: what a backtest promised of the policy, beside what happened since."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_session

if TYPE_CHECKING:
    from tidemill.backtest.observed import Figure, PolicyStatus

policy = typer.Typer(no_args_is_help=True, help="The policy of tidemill.toml: what it promised and what happened.")


@policy.callback()
def _group() -> None:
    """Keep `status` a subcommand while it is the only one."""


@policy.command("status")
def show_status(
    model: Annotated[str, typer.Option(help="The model. Default: every model of the project.")] = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Compare what a backtest promised of the policy with what was observed since it has been in force."""
    from tidemill.backtest.observed import compare_with_promise

    session = load_session(env)
    names = [session.project.model(model).name] if model else list(session.project.policy.models)
    found = [compare_with_promise(session, name) for name in names]
    if json:
        output.print_json(found)
        return
    for status in found:
        _print(status)


def _print(status: "PolicyStatus") -> None:
    output.out.print(f"{status.model} in {status.environment}: {status.text}", style="bold")
    promise = status.promise
    if promise is None or status.since is None:
        return
    command = "tidemill backtest --tune" if promise.by == "tune" else "tidemill backtest"
    rows = sum(count for count, _ in promise.weeks)
    output.out.print(
        f"  promised on {promise.stated:%Y-%m-%d} by `{command}`, from {rows:,} labelled rows of "
        f"{promise.begin:%Y-%m-%d} to {promise.end:%Y-%m-%d}"
    )
    output.out.print(
        f"  observed since {output.format_cell(status.since)}: {status.days:.1f} days, {status.predictions:,} "
        f"predictions, {status.labels:,} of them labelled"
    )
    lines = [
        [
            figure.name if figure.name == promise.metric else f"{figure.name} in 30 days",
            _format(figure.promised),
            f"{_format(figure.low)} to {_format(figure.high)}" if figure.low is not None else "",
            _format(figure.observed),
            _judge(figure),
        ]
        for figure in status.figures
    ]
    output.print_table(("figure", "promised", "expected by now (95 %)", "observed", "result"), lines, indent=2)


def _format(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _judge(figure: "Figure") -> str:
    if figure.observed is None:
        return "not observed"
    if figure.holds is None:
        return "cannot be judged yet"
    if figure.holds:
        return "holds"
    assert figure.high is not None
    return "higher than promised" if figure.observed > figure.high else "lower than promised"
