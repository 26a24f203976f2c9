"""`ci`: builds commits of the project, with their tests, checks and packages."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.run import create_progress, describe_user_cause, stop_on_signal
from tidemill.cli.session import EnvironmentOption, Json, current_user, load_session
from tidemill.core.environment import CONTROL
from tidemill.errors import InputError

ci = typer.Typer(no_args_is_help=True, help="Build commits: tests, checks, security, packages.")
RemoteOption = Annotated[str, typer.Option(help="The repository. Default: [ci] remote, or the project's own.")]
BranchOption = Annotated[str, typer.Option(help="The branch. Default: the present one of the repository.")]


@ci.command("run")
def run(
    remote: RemoteOption = "",
    branch: BranchOption = "",
    commit: Annotated[str, typer.Option(help="The full id of the commit. Default: the tip of the branch.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Build also if nothing changed.")] = False,
    env: EnvironmentOption = CONTROL,
    json: Json = False,
) -> int:
    """Build a commit of a branch: fetch, environment, tests, checks, security, packages."""
    from tidemill.flow.engine import run as run_pipeline

    session = load_session(env)
    progress = create_progress(session, quiet=json)
    params = {"remote": remote, "branch": branch, "commit": commit, "pusher": current_user(), "force": force}
    with stop_on_signal(progress):
        done, failed = run_pipeline(
            session, session.pipeline("ci"), params, cause=describe_user_cause(), progress=progress.report
        )
    books = session.workspace.ledger
    builds = books.builds.find(run=done.id)
    if json:
        output.print_json(builds[0] if builds else done)
    else:
        for verdict in books.verdicts.find(run=done.id):
            if verdict.check != "ci":
                output.out.print(f"  {verdict.outcome:10} {verdict.check:16} {verdict.reason}")
        if not builds and failed is None:
            output.out.print(next(verdict.reason for verdict in books.verdicts.find(run=done.id, check="ci")))
        for build in builds:
            output.out.print(f"build {build.label} {build.state} in {done.seconds or 0:.1f} s  run {done.id[:18]}")
            for name, digest in sorted(build.artifacts.items()):
                output.out.print(f"  {name:12} {digest}")
    if failed is not None:
        raise failed
    return 0


@ci.command("lock")
def lock(
    package: Annotated[
        list[str] | None, typer.Option("--package", help="A further requirement; can be repeated.")
    ] = None,
) -> None:
    """Write requirements.lock: the exact versions of the installed packages that the project needs."""
    from tidemill.delivery.locking import lock_project, read_sources
    from tidemill.host.git import list_code_files
    from tidemill.project.project import Project

    project = Project.find()
    settings = project.policy.ci
    if (project.folder / "uv.lock").exists():
        raise InputError("the project has a uv.lock, which CI uses", "change it with `uv lock`, or delete it")
    locked = lock_project(read_sources(project.folder, list_code_files(project.folder)), package or ())
    for name, text in zip((settings.lock, settings.test_lock), locked.texts, strict=True):
        if text:
            output.write_file(project.folder / name, text)
