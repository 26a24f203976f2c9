"""`regimes`: lists the regimes of a model, and the releases that can be recalled for them."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_session
from tidemill.errors import NotFound
from tidemill.flow.session import Session
from tidemill.registry.regimes import list_kept_releases, list_regimes

regimes = typer.Typer(no_args_is_help=True, help="The regimes of a model, and the releases that know them.")
_Model = Annotated[str, typer.Option("--model", help="The model; the default is the only one.")]


@regimes.command("list")
def list_regimes_of_model(model: _Model = "", env: EnvironmentOption = "production", json: Json = False) -> None:
    """List the regimes of a model, each with its releases and the periods in which they served."""
    session, name = _open(env, model)
    kept = list_kept_releases(session.workspace.ledger, env, name)
    columns = {
        "regime": lambda r: r.number,
        "first row": lambda r: r.start,
        "releases": lambda r: ", ".join(f"{label}{' (kept)' if label in kept else ''}" for label in r.releases),
        "served": lambda r: f"{len(r.tenures)} x",
        "last": lambda r: r.tenures[-1].since,
        "state": lambda r: "current" if r.is_current else "stored",
    }
    found = list_regimes(session.workspace.ledger, env, name)
    output.print_records(found, columns, json=json, nothing="no release has served yet: `tidemill run training`")


@regimes.command("show")
def show_regime(
    number: Annotated[int, typer.Argument(help="The number of a regime.")],
    model: _Model = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Show a regime: its releases, and when and why each of them served."""
    session, name = _open(env, model)
    found = {regime.number: regime for regime in list_regimes(session.workspace.ledger, env, name)}
    if number not in found:
        known = ", ".join(map(str, found)) or "none"
        raise NotFound(f"model {name!r} has no regime {number}", f"its regimes: {known}; `tidemill regimes list`")
    regime = found[number]
    if json:
        output.print_record(regime, json=True)
        return
    columns = {
        "release": lambda t: t.release,
        "since": lambda t: t.since,
        "until": lambda t: t.until,
        "change": lambda t: t.change,
        "reason": lambda t: t.reason,
    }
    output.print_records(list(regime.tenures), columns, json=False, nothing="")


def _open(env: str, model: str) -> tuple[Session, str]:
    session = load_session(env)
    return session, session.project.model(model).name
