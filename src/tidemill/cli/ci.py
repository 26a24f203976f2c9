"""`ci`: builds commits of the project, with their tests, checks and packages."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.run import create_progress, describe_user_cause, stop_on_signal
from tidemill.cli.session import EnvironmentOption, Json, current_user, load_session
from tidemill.core.environment import CONTROL
from tidemill.errors import InputError

ci = typer.Typer(no_args_is_help=True, help="Build commits: tests, checks, security, packages.")
RemoteOption = Annotated[str, typer.Option(help="The repository. Default: that of the policy, or the project's own.")]
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

    session = load_session(env, create=True)
    progress = create_progress(session, quiet=json)
    params = {"remote": remote, "branch": branch, "commit": commit, "pusher": current_user(session), "force": force}
    with stop_on_signal(progress):
        done, failed = run_pipeline(
            session, session.pipeline("ci"), params, cause=describe_user_cause(session), progress=progress.report
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


@ci.command("why")
def why(
    remote: RemoteOption = "",
    branch: BranchOption = "",
    commit: Annotated[str, typer.Option(help="The full id of the commit. Default: the tip of the branch.")] = "",
    env: EnvironmentOption = CONTROL,
    json: Json = False,
) -> None:
    """Show what changed since the last passed build of a branch, and so whether CI must run."""
    from tidemill.core.ci import BuildHost
    from tidemill.core.event import PushPayload
    from tidemill.delivery.archive import read_archive
    from tidemill.delivery.changes import list_changes
    from tidemill.delivery.checkout import fetch_source, find_last_passed

    session = load_session(env)
    settings, books = session.project.policy.ci, session.workspace.ledger
    request = PushPayload(commit=commit, branch=branch, remote=remote)
    source = fetch_source(settings, session.resource(BuildHost), books.builds, request, force=True)
    checkout = source.checkout
    last = find_last_passed(books.builds, session.project.name, checkout.branch)
    if checkout.problem or last is None:
        reason = checkout.problem or f"the branch {checkout.branch!r} has no passed build: CI must run"
        output.print_json([]) if json else output.out.print(reason)
        return
    last_files = read_archive(session.workspace.blobs.get(last.artifacts["source"]))
    changes = list_changes(settings, checkout, source.files, last, last_files)
    if json:
        output.print_json(changes)
        return
    since = f"since build {last.label}"
    if not changes:
        output.out.print(f"nothing changed {since}: CI need not run")
        return
    output.out.print(f"{checkout.branch} {checkout.commit[:12]}: CI must run, because {since} this changed:")
    rows = [[change.kind, change.name, change.before, change.after] for change in changes]
    output.print_table(("kind", "name", "before", "now"), rows, indent=2)


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
    # A service that must verify signatures, and a training that has the key, need the packages of the extra.
    policy = project.policy
    signed = bool(policy.signing.key) or any(environment.signed for environment in policy.environments.values())
    more = [*(package or ()), *(["tidemill[signing]"] if signed else [])]
    locked = lock_project(read_sources(project.folder, list_code_files(project.folder)), more)
    for name, text in zip((settings.lock, settings.test_lock), locked.texts, strict=True):
        if text:
            output.write_file(project.folder / name, text)
