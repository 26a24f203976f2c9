"""`why`: prints the chain of evidence, a paragraph for each link with its facts."""

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_workspace
from tidemill.evidence.delivery_links import EvidenceLink
from tidemill.evidence.formatting import format_number

_INDENT = 12
_NO_BREAK = "\N{NO-BREAK SPACE}"
_KINDS_WITH_FACTS = ("prediction", "features", "release", "run", "verdict", "compared", "code")


def why(
    identifier: Annotated[
        str,
        typer.Argument(metavar="ID", help="A prediction, a run, the digest of an artifact, or a release (flights/3)."),
    ],
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Explain a prediction, a release, an artifact or a run by the records behind it."""
    from tidemill.evidence.why import trace_evidence

    project, workspace = load_workspace(env)
    chain = trace_evidence(workspace.ledger, workspace.journal, list(project.policy.models), env, identifier)
    if json:
        output.print_json(chain)
    else:
        _show(chain)


def _show(chain: list[EvidenceLink]) -> None:
    """Print each link, the nearest first."""
    for link in chain:
        first, *more = textwrap.wrap(link.text, output.screen_width() - _INDENT) or [""]
        output.out.print(f"{link.kind:{_INDENT}}", style="bold", end="")
        output.out.print(first)
        facts = "  ".join(_facts(link.facts)) if link.kind in _KINDS_WITH_FACTS else ""
        lines = textwrap.wrap(facts, output.screen_width() - _INDENT, break_long_words=False, break_on_hyphens=False)
        for line in more:
            output.out.print(f"{'':{_INDENT}}{line}")
        for line in lines:
            output.out.print(f"{'':{_INDENT}}{line.replace(_NO_BREAK, ' ')}", style="dim")


def _facts(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield facts as `name value`, without long or empty values."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _facts(value, f"{prefix}{name}.")
        elif value not in (None, "", [], ()) and not (isinstance(value, list | tuple) and isinstance(value[0], dict)):
            yield f"{prefix}{name} {_format(value)}".replace(" ", _NO_BREAK)


def _format(value: Any) -> str:
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format, value))}]"
    return output.format_cell(value)
