"""The project, session, user and options that most commands share."""

import os
from collections.abc import Set
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tidemill.access.actors import Actor
    from tidemill.core.token import Role
    from tidemill.flow.session import Session
    from tidemill.project.project import Project
    from tidemill.workspace.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
EnvironmentOption = Annotated[str, typer.Option("--env", help="The environment.")]
EnvironmentFilterOption = Annotated[str, typer.Option("--env", help="Only records of this environment.")]
Limit = Annotated[int, typer.Option(help="The maximum number of records.")]
FilterOption = Annotated[str, typer.Option(help="Only records with this value.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id, or its beginning.")]


def select_filters(**options: str) -> dict[str, Any]:
    """Return the options that are not empty."""
    return {name: value for name, value in options.items() if value}


def describe_empty(filters: dict[str, Any], unfiltered: str) -> str:
    """Return the message for an empty list: with the filters, or `unfiltered` if there are none."""
    return (
        f"no records with {', '.join(f'{name} {value!r}' for name, value in filters.items())}"
        if filters
        else unfiltered
    )


def require_actor(session: "Session", allowed: "Set[Role]" = frozenset(), environment: str = "") -> "Actor":
    """Return who runs this command: the owner of the token in TIDEMILL_TOKEN, or the user of this process.

    The token must be valid in the `environment`; the default is that of the session.

    Raises
    ------
    AccessDenied
        if the token is not valid, or has none of the `allowed` roles (empty: any role).
    """
    from tidemill.access.actors import find_actor

    secret = os.environ.get("TIDEMILL_TOKEN", "")
    workspace = session.workspace
    return find_actor(workspace.ledger, session.clock, environment or workspace.environment, secret, allowed)


def current_user(session: "Session | None" = None) -> str:
    """Return the name of who runs this command, for records; see `require_actor`.

    Without a session, the project in the current folder is opened if TIDEMILL_TOKEN is set.
    """
    if os.environ.get("TIDEMILL_TOKEN"):
        return require_actor(session or load_session()).name
    from tidemill.access.actors import find_login_name

    return find_login_name()


def load_session(environment: str = "production", *, create: bool = False) -> "Session":
    """Open a session of the project in the current folder or above it.

    Only with `create`, as for `run`, `up`, `serve` and `restore`, stores that never existed are created.
    """
    from tidemill.compose.backends import open_workspace
    from tidemill.compose.session import open_session
    from tidemill.project.project import Project

    project = Project.find()
    workspace = open_workspace(project.state_folder, environment, create=create)
    return open_session(project, environment, workspace=workspace)


def load_workspace(environment: str = "production", *, create: bool = False) -> "tuple[Project, Workspace]":
    """Open the project and its workspace without the engine, which loads slowly; see `load_session`."""
    from tidemill.compose.backends import open_workspace
    from tidemill.project.project import Project

    project = Project.find()
    return project, open_workspace(project.state_folder, environment, create=create)
