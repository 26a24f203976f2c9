"""`maturity`: the MLOps level of the project, by the records in its ledger."""

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_workspace

if TYPE_CHECKING:
    from tidemill.evidence.maturity import Characteristic, MaturityLevel, ModelMaturity

_INDENT = 6


def maturity(
    model: Annotated[str, typer.Option(help="The model. Default: every model of the project.")] = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Show the MLOps level of the project (0, 1 or 2) by the records in its ledger, and what the next one needs."""
    from tidemill.evidence.maturity import assess, describe_level

    project, workspace = load_workspace(env)
    found = assess(workspace.ledger, project.policy, env, model)
    if json:
        output.print_json(found)
        return
    of_model = "" if not model else f", model {model}"
    output.out.print(f"{project.name}{of_model} in {env}: {describe_level(found.level)}", style="bold")
    for part in found.models:
        _print_model(part, named=len(found.models) > 1)


def _print_model(found: "ModelMaturity", *, named: bool) -> None:
    from tidemill.evidence.maturity import describe_level

    if named:
        output.out.print()
        output.out.print(f"{found.model}: {describe_level(found.level)}", style="bold")
    for level in found.levels:
        _print_level(level)
    following = found.next_level
    if following is not None and following.missing:
        output.out.print()
        output.out.print(f"next for level {following.level}: {following.missing[0].cure}")


def _print_level(level: "MaturityLevel") -> None:
    required = [part for part in level.characteristics if not part.optional]
    met = sum(part.met for part in required)
    output.out.print()
    output.out.print(f"level {level.level}, {level.title}: {met} of {len(required)}", style="bold")
    for part in level.characteristics:
        _print_characteristic(part)


def _print_characteristic(part: "Characteristic") -> None:
    from tidemill.evidence.maturity import describe_evidence

    mark = "yes" if part.met else "no"
    optional = " (optional)" if part.optional else ""
    output.out.print(f"  {mark:4}", end="", style="" if part.met else "yellow")
    since = f", newest {output.format_cell(part.newest)}" if part.newest else ""
    text = f"{part.name}{optional}: {describe_evidence(part)}{since}"
    for index, line in enumerate(textwrap.wrap(text, output.screen_width() - _INDENT)):
        output.out.print(line if not index else f"{'':{_INDENT}}{line}")
    if not part.met:
        for line in textwrap.wrap(f"→ {part.cure}", output.screen_width() - _INDENT):
            output.out.print(f"{'':{_INDENT}}{line}", style="dim")
