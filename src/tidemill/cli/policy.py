"""`policy`: what a backtest promised of the policy, beside what happened since."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_session

if TYPE_CHECKING:
    from tidemill.evidence.promises import PolicyStatus

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
    from tidemill.evidence.promises import COLUMNS, describe_observation, describe_promise, format_figure

    output.out.print(f"{status.model} in {status.environment}: {status.text}", style="bold")
    promise = status.promise
    if promise is None or status.since is None:
        return
    output.out.print(f"  {describe_promise(promise)}")
    output.out.print(f"  {describe_observation(status, output.format_cell(status.since))}")
    lines = [list(format_figure(figure, promise.metric)) for figure in status.figures]
    output.print_table(COLUMNS, lines, indent=2)
