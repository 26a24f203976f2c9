"""`routes`: lists which releases serve."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import EnvironmentOption, Json, load_session
from tidemill.errors import NotFound

routes = typer.Typer(no_args_is_help=True, help="Which releases serve.")


@routes.command("list")
def list_routes(env: EnvironmentOption = "production", json: Json = False) -> None:
    """List the current route of each model."""
    current_routes = list(load_session(env).workspace.board.routes().values())
    columns = {
        "model": lambda r: r.model,
        "serving": lambda r: ", ".join(f"{a.release} ({a.role} {a.portion})" for a in r.arms),
        "since": lambda r: r.since,
        "reason": lambda r: r.reason,
        "by": lambda r: r.by,
    }
    output.print_records(current_routes, columns, json=json, nothing="no routes yet: `tidemill run training`")


@routes.command("show")
def show_route(
    model: Annotated[str, typer.Argument(help="A model.")], env: EnvironmentOption = "production", json: Json = False
) -> None:
    """Show the current route of a model."""
    routes_by_model = load_session(env).workspace.board.routes()
    if model not in routes_by_model:
        raise NotFound(f"model {model!r} has no route", f"models with a route: {', '.join(routes_by_model) or 'none'}")
    output.print_record(routes_by_model[model], json=json)
