"""`deploy`: which build each environment runs; approvals, promotions, overrides and rollbacks."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.access.roles import DECIDE
from tidemill.cli import output
from tidemill.cli.decisions import Reason, export_audit_head, record_decision
from tidemill.cli.pauses import Until, pause_object, resume_object
from tidemill.cli.run import create_progress, describe_user_cause, print_result, stop_on_signal
from tidemill.cli.session import Json, Limit, current_user, load_session, require_actor
from tidemill.core.environment import CONTROL
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.core.deployment import Deployment
    from tidemill.flow.session import Session

deploy = typer.Typer(no_args_is_help=True, help="Builds in their environments: approve, promote, roll back.")

BuildArgument = Annotated[str, typer.Argument(metavar="BUILD", help="The number of a build, its commit, or its id.")]
EnvironmentArgument = Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="The environment.")]
ToOption = Annotated[str, typer.Option("--to", help="The environment.")]
Rule = Annotated[str, typer.Option(help="The rule: branch, approvals, runs, soak, thresholds, data, freeze or audit.")]


@deploy.command("list")
def list_deployments(
    environment: Annotated[str, typer.Option("--env", help="Only deployments of this environment.")] = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the deployments, newest first."""
    books = load_session().workspace.ledger
    filters: dict[str, Any] = {"environment": environment} if environment else {}
    deployments = books.deployments.find(newest=True, limit=limit, **filters)
    builds = {build.id: build for build in books.builds.find()}
    columns = {
        "environment": lambda d: f"{d.environment} {d.version}",
        "build": lambda d: builds[d.build].label if d.build in builds else d.build,
        "state": lambda d: d.state,
        "change": lambda d: d.change,
        "by": lambda d: d.by,
        "time": lambda d: d.time,
        "address": lambda d: d.address if d.state == "healthy" else "",
        "problem": lambda d: d.problem or d.reason,
    }
    output.print_records(deployments, columns, json=json, nothing="nothing is deployed yet")


@deploy.command("builds")
def list_builds(limit: Limit = 20, json: Json = False) -> None:
    """List the builds, newest first."""
    columns = {
        "build": lambda b: b.label,
        "branch": lambda b: b.branch,
        "state": lambda b: b.state,
        "authors": lambda b: ", ".join(b.authors),
        "python": lambda b: b.python,
        "time": lambda b: b.created,
        "reason": lambda b: b.reason,
    }
    builds = load_session().workspace.ledger.builds.find(newest=True, limit=limit)
    output.print_records(builds, columns, json=json, nothing="no builds yet: `tidemill ci run`")


@deploy.command("status")
def status(json: Json = False) -> None:
    """List the environments with what serves there, and what the next build lacks."""
    from tidemill.delivery.automation import describe_status

    session = load_session()
    rows = describe_status(session.workspace.ledger, session.project.policy, session.clock.now())
    columns = {
        "environment": lambda row: row.environment,
        "serves": lambda row: row.serving,
        "since": lambda row: row.since,
        "address": lambda row: row.address,
        "next build": lambda row: row.next_build,
        "missing": lambda row: row.missing,
    }
    output.print_records(rows, columns, json=json, nothing="tidemill.toml has no [environments]")


@deploy.command("check")
def check(build: BuildArgument, to: ToOption, json: Json = False) -> int:
    """Check whether the rules of an environment allow a build, and change nothing."""
    from tidemill.checks.promotion import judge_promotion
    from tidemill.core.fleet import Fleet
    from tidemill.delivery.promotions import Deployable, collect_case
    from tidemill.registry.deployments import find_build

    session = load_session()
    fleet, books = session.resource(Fleet), session.workspace.ledger
    subject = Deployable(find_build(books, build), to, fleet.settings(to), fleet.people)
    case = collect_case(books, subject, session.clock.now(), current_user(session), verify=True)
    verdict = judge_promotion(case)
    if json:
        output.print_json(verdict)
    else:
        for finding in verdict.evidence["findings"]:
            output.out.print(f"{finding['outcome']:9} {finding['about']:10} {finding['reason']}")
    return 3 if verdict.stops else 0


@deploy.command("approve")
def approve(build: BuildArgument, to: ToOption, reason: Reason = "") -> None:
    """Approve a build for an environment. An approval shortens no other rule."""
    from tidemill.checks.promotion import explain_uncounted
    from tidemill.core.fleet import Fleet
    from tidemill.delivery.promotions import Deployable, collect_case
    from tidemill.registry.deployments import approve as approve_build
    from tidemill.registry.deployments import find_build

    session = load_session()
    fleet = session.resource(Fleet)
    settings = fleet.settings(to)  # an unknown environment is an error
    actor, books = require_actor(session, DECIDE, to).name, session.workspace.ledger
    with books.transaction(durable=True):
        chosen = find_build(books, build)
        approve_build(books, session.clock, chosen, to, actor=actor, reason=reason)
    export_audit_head(session)
    output.out.print(f"{chosen.label} is approved for {to} by {actor}")
    case = collect_case(books, Deployable(chosen, to, settings, fleet.people), session.clock.now(), actor)
    if reason_against := explain_uncounted(case, actor):
        output.err.print(
            f"it does not count: {actor} {reason_against}; another person approves with a token of their own: "
            "`tidemill tokens create NAME --role approver --owner PERSON`"
        )
    output.err.print(f"what is still missing: `tidemill deploy check {chosen.number} --to {to}`")


@deploy.command("override")
def override(
    build: BuildArgument,
    to: ToOption,
    rule: Rule,
    reason: Reason = "",
    hours: Annotated[float, typer.Option(help="When it expires.", min=0.01, max=72)] = 4.0,
) -> None:
    """Lift one rule for a build in an environment, for some hours. It is written to the audit log."""
    from typing import get_args

    from tidemill.core.environment import PromotionRule
    from tidemill.core.fleet import Fleet
    from tidemill.registry.deployments import OVERRODE, find_build, write_decision

    session = load_session()
    session.resource(Fleet).settings(to)
    if rule not in get_args(PromotionRule):
        raise InputError(f"{rule!r} cannot be overridden", f"use one of: {', '.join(get_args(PromotionRule))}")
    actor, books = require_actor(session, DECIDE, to).name, session.workspace.ledger
    until = session.clock.now() + timedelta(hours=hours)
    with books.transaction(durable=True):
        chosen = find_build(books, build)
        detail = {"rule": rule, "until": until.isoformat()}
        write_decision(books, session.clock, OVERRODE, chosen, to, actor=actor, reason=reason, detail=detail)
    export_audit_head(session)
    output.out.print(f"rule {rule!r} is lifted for {chosen.label} in {to} until {until:%Y-%m-%d %H:%M} UTC")


@deploy.command("promote")
def promote(build: BuildArgument, to: ToOption, reason: Reason = "", json: Json = False) -> int:
    """Deploy a build to an environment, if its rules allow it; otherwise print what is missing."""
    return _deploy(load_session(CONTROL), build, to, "promote", reason, json)


@deploy.command("rollback")
def rollback(environment: EnvironmentArgument, reason: Reason = "", json: Json = False) -> int:
    """Deploy the build that an environment ran before, and pause automation there until `deploy resume`."""
    from tidemill.registry.deployments import find_previous
    from tidemill.registry.pauses import pause

    session = load_session(CONTROL)
    actor, books = require_actor(session, DECIDE, environment).name, session.workspace.ledger
    previous = find_previous(books, environment)
    with books.transaction(durable=True):
        pause(
            books,
            session.clock,
            "environment",
            environment,
            environment=environment,
            actor=actor,
            reason=reason,
        )
    output.err.print(f"automation in {environment} is paused until `tidemill deploy resume {environment} --reason …`")
    return _deploy(session, previous.id, environment, "rollback", reason, json)


@deploy.command("render")
def render(
    build: BuildArgument,
    to: ToOption,
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: print.")] = None,
) -> None:
    """Write the Kubernetes manifests of a build in an environment; nothing is sent to a cluster."""
    from tidemill.core.fleet import Fleet
    from tidemill.delivery.kubernetes import name_secret, render_manifests
    from tidemill.registry.deployments import find_build

    session = load_session(CONTROL)
    workload = session.resource(Fleet).describe_workload(find_build(session.workspace.ledger, build), to)
    text = render_manifests(workload, session.project.policy.ci.registry)
    secret = f"the pods read the secret {name_secret(workload)}, which you create"
    if out is None:
        typer.echo(text)
        output.err.print(secret)
        return
    output.write_file(out, text)
    output.err.print(f"wrote {out}; {secret}; then apply it: `kubectl apply --server-side -f {out}`")


@deploy.command("stop")
def stop(
    environment: Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="The environment.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="All environments.")] = False,
    reason: Reason = "",
) -> None:
    """Stop what runs in an environment; it serves nothing until the next deployment."""
    from tidemill.core.fleet import Fleet
    from tidemill.registry.deployments import find_healthy, mark_stopped

    if bool(environment) == everything:
        raise InputError("name an environment, or give --all", "`tidemill deploy stop test --reason …`")
    session = load_session(CONTROL)
    fleet, books = session.resource(Fleet), session.workspace.ledger
    for name in session.project.policy.environments if everything else [environment]:
        if find_healthy(books, name) is None:  # else it may be one that was removed from the policy
            fleet.settings(name)  # an unknown environment is an error
        actor = require_actor(session, DECIDE, name)
        stopped = mark_stopped(books, session.clock, name)
        if stopped is not None:
            record_decision(session, "stopped", f"environment/{name}", reason, actor, name)
        for running in fleet.list_running(name):
            fleet.stop(name, running)
        output.out.print(f"{name}: {'stopped' if stopped else 'nothing runs'}")
    export_audit_head(session)


@deploy.command("pause")
def pause_environment(
    environment: EnvironmentArgument, reason: Reason = "", until: Until = "", json: Json = False
) -> None:
    """Pause automatic deployments in an environment."""
    pause_object(load_session(environment), "environment", environment, until, reason, json)


@deploy.command("resume")
def resume_environment(environment: EnvironmentArgument, reason: Reason = "", json: Json = False) -> None:
    """Resume automatic deployments in an environment."""
    resume_object(load_session(environment), "environment", environment, reason, json)


@deploy.command("diff")
def diff(json: Json = False) -> int:
    """Compare what each environment should run with what runs; the exit code is 1 if they differ."""
    from tidemill.core.fleet import Fleet
    from tidemill.delivery.reconcile import compare

    session = load_session(CONTROL)
    differences = compare(session.workspace.ledger, session.resource(Fleet), session.project.policy.environments)
    columns = {
        "environment": lambda d: d.environment,
        "declared": lambda d: d.declared,
        "actual": lambda d: d.actual,
        "action": lambda d: d.action or "none",
        "problem": lambda d: d.problem,
    }
    output.print_records(differences, columns, json=json, nothing="tidemill.toml has no [environments]")
    return int(any(difference.action or difference.problem for difference in differences))


@deploy.command("reconcile")
def reconcile(json: Json = False) -> int:
    """Start what should run and does not, stop what should not run, and deploy again what has other settings now."""
    from tidemill.core.fleet import Fleet
    from tidemill.delivery.reconcile import compare, mend

    session = load_session(CONTROL)
    books, fleet = session.workspace.ledger, session.resource(Fleet)
    done, problems, code = [], [], 0
    for difference in compare(books, fleet, session.project.policy.environments):
        environment = difference.environment
        if difference.problem:
            problems.append(f"{environment}: {difference.problem}")
        elif difference.action == "move":
            build = books.deployments.get(difference.deployment).build
            reason = f"its settings changed: {difference.declared.partition(', with ')[2]}"
            code = _deploy(session, build, environment, "move", reason, json) or code
            done.append(f"{environment}: deployed again, because {reason}")
        else:
            done += mend(books, fleet, session.clock, difference)
    for problem in problems:
        output.err.print(problem, style="red")
    if json:
        output.print_json(done)
    elif not problems:
        output.out.print("\n".join(done) or "nothing differs")
    return code or int(bool(problems))


def _deploy(session: "Session", build: str, to: str, change: str, reason: str, json: bool) -> int:
    from tidemill.flow.engine import run as run_pipeline
    from tidemill.recipes.deploying import deployment
    from tidemill.registry.deployments import find_build

    actor = require_actor(session, DECIDE, to).name
    chosen = find_build(session.workspace.ledger, build)
    params = {"environment": to, "build": chosen.id, "by": actor, "reason": reason, "change": change}
    progress = create_progress(session, quiet=json)
    with stop_on_signal(progress):
        done, failed = run_pipeline(
            session, deployment, params, cause=describe_user_cause(session), progress=progress.report, engine="inline"
        )
    if failed is None and not json:
        output.out.print(f"{chosen.label} serves {to} at {_address(session, to)}")
    return print_result(session, done, failed, json)


def _address(session: "Session", environment: str) -> str:
    from tidemill.registry.deployments import find_healthy

    serving: Deployment | None = find_healthy(session.workspace.ledger, environment)
    return serving.address if serving else ""
