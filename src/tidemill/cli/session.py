"""What most commands begin with: the project here, its session, who asks, and the options that they share."""

import getpass
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.project.project import Project
    from tidemill.workspace.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Environment = Annotated[str, typer.Option("--env", help="The environment.")]
Within = Annotated[str, typer.Option("--env", help="Only this environment's.")]
Limit = Annotated[int, typer.Option(help="At most so many.")]
Only = Annotated[str, typer.Option(help="Only those with this.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Its id, or the beginning of it.")]


def given(**wanted: str) -> dict[str, Any]:
    """What is asked of the records of a list: the options that were given."""
    return {name: value for name, value in wanted.items() if value}


def nothing(asked: dict[str, Any], otherwise: str) -> str:
    """What is said of an empty list: that nothing fits what was asked, or what it is when nothing was."""
    return f"none with {', '.join(f'{name} {value!r}' for name, value in asked.items())}" if asked else otherwise


def user() -> str:
    """Who asks: the name of the user, or the number where that has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def session_here(environment: str = "production") -> "Session":
    """The session of the project at or above the present folder."""
    from tidemill.compose.session import open_session
    from tidemill.project.project import Project

    return open_session(Project.here(), environment)


def workspace_here(environment: str = "production") -> "tuple[Project, Workspace]":
    """The project here with its workspace, without the engine: what was left is told at once."""
    from tidemill.compose.backends import open_workspace
    from tidemill.project.project import Project

    project = Project.here()
    return project, open_workspace(project.state_folder, environment)
