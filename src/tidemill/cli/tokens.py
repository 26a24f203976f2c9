"""`tokens`: the tokens of people and programs for the service and the pages."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.access.roles import ADMINISTER
from tidemill.cli import output
from tidemill.cli.decisions import Reason, export_audit_head
from tidemill.cli.session import Json, load_session, require_actor

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from tidemill.core.token import Token
    from tidemill.flow.session import Session

tokens = typer.Typer(no_args_is_help=True, help="Tokens of people and programs for the service and the pages.")
_NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the token.")]


@tokens.command("create")
def create(
    name: _NameArgument,
    role: Annotated[
        list[str],
        typer.Option(
            help="viewer, predict, label, push, developer (with viewer and push), approver (with viewer) or admin"
            " (all); can be repeated."
        ),
    ],
    owner: Annotated[
        str, typer.Option(help="The person or the program that has it: the author of its decisions. Default: you.")
    ] = "",
    expires: Annotated[str, typer.Option(help="The time until it expires, such as 12h or 90d, or never.")] = "90d",
    environment: Annotated[
        list[str] | None, typer.Option("--env", help="An environment that accepts it; can be repeated. Default: all.")
    ] = None,
    json: Json = False,
) -> None:
    """Create a token and print it once; only its digest is stored.

    From the first token on, every request needs one, except for /health and /ready.
    """
    from tidemill.access.roles import parse_roles
    from tidemill.access.tokens import create_token

    session = load_session(create=True)
    actor = require_actor(session, ADMINISTER)
    for name_of_environment in environment or ():
        session.workspace.for_environment(name_of_environment)  # raises for a name that cannot be used
    token, secret = create_token(
        session.workspace.ledger,
        session.clock,
        name=name,
        owner=owner or actor.name,
        roles=parse_roles(role),
        by=actor.name,
        environments=environment or (),
        lifetime=_parse_lifetime(expires),
    )
    _publish(session, token.environments)
    if json:
        output.print_json({"token": secret, "record": token})
        return
    output.out.print(secret)
    until = f"until {token.expires:%Y-%m-%d %H:%M} UTC" if token.expires else "without an end"
    output.err.print(f"token {name} of {token.owner}: {', '.join(token.roles)}, {until}; it is not shown again")


@tokens.command("list")
def list_tokens(json: Json = False) -> None:
    """List the tokens with their roles; the secrets are stored nowhere."""
    session = load_session()
    now = session.clock.now()
    columns = {
        "name": lambda t: t.name,
        "owner": lambda t: t.owner,
        "roles": lambda t: ", ".join(t.roles),
        "environments": lambda t: ", ".join(t.environments) or "all",
        "state": lambda t: _describe_state(t, now),
        "expires": lambda t: t.expires or "never",
        "created": lambda t: t.created,
        "by": lambda t: t.by,
    }
    output.print_records(session.workspace.ledger.tokens.find(), columns, json=json, nothing="no tokens yet")


@tokens.command("revoke")
def revoke(
    name: _NameArgument,
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Revoke a token; running services refuse it within a second."""
    from tidemill.access.tokens import revoke_token

    session = load_session()
    actor = require_actor(session, ADMINISTER)
    token = revoke_token(session.workspace.ledger, session.clock, name, by=actor.name, reason=reason)
    _publish(session, token.environments)
    export_audit_head(session)
    if json:
        output.print_json(token)
    else:
        output.out.print(f"token {token.name} of {token.owner} is revoked")


def _publish(session: "Session", named: tuple[str, ...]) -> None:
    """Publish the tokens in every environment that has state, and in those that a token names."""
    from tidemill.access.tokens import publish_tokens

    workspace = session.workspace
    existing = {opened.environment for opened in workspace.environments()}
    environments = sorted(existing | {workspace.environment, *named})
    publish_tokens(workspace.ledger, (workspace.for_environment(name).board for name in environments))


def _parse_lifetime(text: str) -> "timedelta | None":
    from tidemill.clock import parse_duration
    from tidemill.errors import ConfigurationError, InputError

    if text == "never":
        return None
    try:
        return parse_duration(text)
    except ConfigurationError:
        raise InputError(f"--expires {text!r} is not a duration", "write 12h, 90d or never") from None


def _describe_state(token: "Token", now: "datetime") -> str:
    if token.revoked is not None:
        return "revoked"
    return "expired" if token.expires is not None and token.expires <= now else "valid"
