"""What most commands begin with: the project here, its session, and the options that they share."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tidemill.flow.session import Session

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Environment = Annotated[str, typer.Option("--env", help="The environment.")]


def session_here(environment: str = "production") -> "Session":
    """The session of the project at or above the present folder."""
    from tidemill.daemon.compose import open_session
    from tidemill.project.project import Project

    return open_session(Project.here(), environment)
