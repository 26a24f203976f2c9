"""The project, session, user and options that most commands share."""

import getpass
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
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


def current_user() -> str:
    """Return the name of the user, or the number if it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def load_session(environment: str = "production") -> "Session":
    """Open a session of the project in the current folder or above it."""
    from tidemill.compose.session import open_session
    from tidemill.project.project import Project

    return open_session(Project.find(), environment)


def load_workspace(environment: str = "production") -> "tuple[Project, Workspace]":
    """Open the project and its workspace without the engine, which loads slowly."""
    from tidemill.compose.backends import open_workspace
    from tidemill.project.project import Project

    project = Project.find()
    return project, open_workspace(project.state_folder, environment)
