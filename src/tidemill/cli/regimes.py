"""`regimes`: lists the regimes of a model, and the releases that can be recalled for them."""

from typing import Annotated

import typer

from tidemill.access.roles import DECIDE
from tidemill.cli import output
from tidemill.cli.decisions import Reason, deciding
from tidemill.cli.session import EnvironmentOption, Json, load_session
from tidemill.errors import NotFound
from tidemill.flow.session import Session
from tidemill.ledger.releases import find_release
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
        "value": lambda r: r.value,
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


@regimes.command("bind")
def bind(
    label: Annotated[str, typer.Argument(help="A release, such as vehicles/3.")],
    value: Annotated[str, typer.Argument(help="A value of the key, as text.")],
    reason: Reason = "",
    env: EnvironmentOption = "production",
) -> None:
    """Bind a release to a value of the key: it serves the rows with this value at once."""
    from tidemill.core.resources import Packages
    from tidemill.models.usable import require_predictions

    session = load_session(env)
    packages = session.resource(Packages)
    require_predictions(packages.load(find_release(session.workspace.ledger, label).package))
    with deciding(session, DECIDE) as (deployer, actor):
        route = deployer.bind(label, value, actor.name, reason)
    output.out.print(f"{label} serves the rows of model {route.model} with {route.key} = {value!r}")


@regimes.command("unbind")
def unbind(
    value: Annotated[str, typer.Argument(help="A value of the key, as text.")],
    model: _Model = "",
    reason: Reason = "",
    env: EnvironmentOption = "production",
) -> None:
    """Unbind the release of a value of the key: the champion serves its rows again."""
    session, name = _open(env, model)
    with deciding(session, DECIDE) as (deployer, actor):
        route = deployer.unbind(name, value, actor.name, reason)
    output.out.print(f"the champion of model {name} serves the rows with {route.key} = {value!r} again")


def _open(env: str, model: str) -> tuple[Session, str]:
    session = load_session(env)
    return session, session.project.model(model).name
