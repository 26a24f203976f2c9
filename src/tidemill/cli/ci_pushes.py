"""`ci install-hook` and `ci receive`: record the pushes to a repository."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.ci import ci
from tidemill.cli.session import EnvironmentOption, load_workspace
from tidemill.core.environment import CONTROL

_MESSAGES = {
    "new": "tidemill: {branch} {commit} is recorded: CI builds it",
    "known": "tidemill: {branch} {commit} was recorded before",
    "deleted": "tidemill: {branch} is deleted: nothing is built",
    "not watched": "tidemill: {branch} is not built: [ci] branches does not have it",
}


@ci.command("install-hook")
def install_hook(
    repository: Annotated[Path, typer.Argument(metavar="BARE_REPOSITORY", help="The bare repository.")],
    env: EnvironmentOption = CONTROL,
) -> None:
    """Install a hook in a bare repository that records each push; the daemon of `tidemill up` builds it."""
    from tidemill.delivery.pushes import install_hook as write_hook
    from tidemill.project.project import Project

    project = Project.find()
    workspace = os.environ.get("TIDEMILL_WORKSPACE", "")
    hook = write_hook(repository, project.name, project.folder, env, workspace and str(Path(workspace).resolve()))
    output.out.print(f"wrote {hook}")
    output.out.print(f"each push is built by `tidemill up --env {env}`, also if it starts later")
    if os.environ.get("TIDEMILL_LEDGER"):
        output.out.print("the git server needs TIDEMILL_LEDGER too: the hook does not contain it")


@ci.command("receive", hidden=True)
def receive(
    remote: Annotated[str, typer.Option(help="The repository.")],
    env: EnvironmentOption = CONTROL,
) -> None:
    """Record the pushes in the input of a post-receive hook."""
    from tidemill.clock import SystemClock
    from tidemill.delivery.pushes import find_pusher, receive_pushes

    project, workspace = load_workspace(env, create=True)  # the push may be the first record
    pushes = receive_pushes(
        sys.stdin, remote, find_pusher(remote), project.policy.ci, workspace.ledger, SystemClock(), env
    )
    for push in pushes:
        output.err.print(_MESSAGES[push.state].format(branch=push.branch, commit=push.commit[:12]))
