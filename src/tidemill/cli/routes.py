"""`routes`: which releases serve."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import Environment, Json, session_here
from tidemill.errors import NotFound

routes = typer.Typer(no_args_is_help=True, help="Which releases answer.")


@routes.command("list")
def list_routes(env: Environment = "production", json: Json = False) -> None:
    """The routes in force."""
    found = list(session_here(env).workspace.board.routes().values())
    columns = {
        "model": lambda r: r.model,
        "answering": lambda r: ", ".join(f"{a.release} ({a.role} {a.share:.0%})" for a in r.arms),
        "since": lambda r: r.since,
        "why": lambda r: r.reason,
        "by": lambda r: r.by,
    }
    output.records(found, columns, json=json, nothing="no model is routed yet: `tidemill run training`")


@routes.command("show")
def show_route(
    model: Annotated[str, typer.Argument(help="A model.")], env: Environment = "production", json: Json = False
) -> None:
    """The route of a model."""
    found = session_here(env).workspace.board.routes()
    if model not in found:
        raise NotFound(f"model {model!r} has no route", f"routed are: {', '.join(found) or 'none'}")
    output.record(found[model], json=json)
