"""`models register`, `approve`, `promote`, `rollback`, `freeze`, `thaw`: decisions of people about releases."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.access.roles import DECIDE, DEVELOP
from tidemill.cli import output
from tidemill.cli.decisions import Reason, deciding, export_audit_head, record_decision
from tidemill.cli.models import LabelArgument, ModelOption, models
from tidemill.cli.pauses import Until, pause_object, resume_object
from tidemill.cli.session import EnvironmentOption, Json, load_session, require_actor
from tidemill.errors import InputError

if TYPE_CHECKING:
    from tidemill.core.model import Model


ModelArgument = Annotated[str, typer.Argument(help="The model. Default: the only model of the project.")]


@models.command("register")
def register(
    path: Annotated[Path, typer.Argument(help="A joblib, LightGBM, ONNX file or an MLflow model folder.")],
    samples: Annotated[Path, typer.Option(help="A file with rows of the model's inputs.")],
    name: Annotated[str, typer.Option(help="The name of the model. Default: the name of the project.")] = "",
    label: Annotated[str, typer.Option(help="The label's column, if the samples have it.")] = "",
    task: Annotated[str, typer.Option(help="classification or regression, if the file does not define it.")] = "",
    classes: Annotated[
        str, typer.Option(help="The classes in the order of the model's outputs, separated by commas.")
    ] = "",
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow the service to unpickle this file; use it only for your own files.")
    ] = False,
    memory: Annotated[
        int, typer.Option("--max-memory-mb", min=100, help="The most memory of the process that reads the model.")
    ] = 2_000,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Register a model that was trained elsewhere; it is inspected without unpickling it, in a process with limits."""
    from tidemill.core.signing import PackageSigner
    from tidemill.data.learning import learn_table
    from tidemill.models.adopting import adopt_in_child
    from tidemill.registry.releases import register as register_release

    if task not in ("", "classification", "regression"):
        raise InputError(f"there is no task {task!r}", "use classification or regression")
    session = load_session(env, create=True)
    actor = require_actor(session, DEVELOP)
    adoption = adopt_in_child(
        path,
        learn_table(samples, ask=False).frame,
        memory_mb=memory,
        name=name or session.project.name,
        task=task or None,
        classes=tuple(part for part in classes.split(",") if part),
        label=label,
        trusted=trust,
    )
    model = adoption.model
    books = session.workspace.ledger
    digest = session.packages.save(model)
    signature = session.resource(PackageSigner).sign(model)
    tags = {"origin": "by hand"}
    with books.transaction(durable=True):
        release = register_release(books, session.clock, model, digest, environment=env, tags=tags, signature=signature)
        reason = f"from {path.name}" + (", trusted" if trust else "")
        record_decision(session, "registered", release.label, reason, actor)
    export_audit_head(session)
    if json:
        output.print_json(release)
    else:
        output.out.print(f"release {release.label} ({release.flavor}) is registered; it does not serve yet")
        for line in _describe_pickle(model, trusted=trust):
            output.err.print(line, style="yellow")
        problem = adoption.problem
        output.err.print(
            f"it cannot predict its samples, so it cannot be promoted: {problem}"
            if problem
            else f"to deploy it: `tidemill models promote {release.label} --reason …`"
        )


def _describe_pickle(model: "Model", *, trusted: bool) -> list[str]:
    """Return what a person who trusts a pickle should know: its imports, and whether their list is complete."""
    origin = model.manifest.data["adopted"]
    if "imports" not in origin:
        return []
    verb = "imports" if trusted else "would import"
    lines = [f"this pickle {verb}: {', '.join(origin['imports']) or 'nothing'}"]
    if not origin["complete"]:
        lines.append(f"this list cannot be proven to be complete: {origin['doubt']}; it may import anything else")
    if origin.get("dangerous"):
        lines.append(f"{origin['scanner']} reports as dangerous: {', '.join(origin['dangerous'])}")
    return lines


@models.command("approve")
def approve(label: LabelArgument, reason: Reason = "", env: EnvironmentOption = "production") -> None:
    """Approve a release that waits for approval; it is rolled out as in its policy."""
    from tidemill.ledger.releases import find_release

    session = load_session(env)
    release = find_release(session.workspace.ledger, label)
    policy = session.project.model(release.name)
    with deciding(session, DECIDE) as (deployer, actor):
        route = deployer.approve(release, policy, actor.name, reason)
    if route is None:
        raise InputError(
            f"{release.label} cannot serve: nothing watches model {release.name!r}",
            "add [[watch.values]] to tidemill.toml",
        )
    output.out.print(f"{release.label}: {route.reason}")


@models.command("promote")
def promote(label: LabelArgument, reason: Reason = "", env: EnvironmentOption = "production") -> None:
    """Make a release the champion at once."""
    from tidemill.core.signing import PackageSigner
    from tidemill.ledger.releases import find_release
    from tidemill.models.usable import require_predictions

    session = load_session(env)
    release = find_release(session.workspace.ledger, label)
    model = session.packages.load(release.package)
    session.resource(PackageSigner).verify(model, release.signature, release.label)
    require_predictions(model)  # a model that cannot predict must not serve
    with deciding(session, DECIDE) as (deployer, actor):
        route = deployer.promote(label, actor.name, reason)
    policy = session.project.policy.models.get(route.model)
    if policy is None or not policy.watch.values:
        output.err.print(
            f"warning: nothing watches model {route.model!r}: add [[watch.values]] to tidemill.toml", style="yellow"
        )
    output.out.print(f"{route.arms[0].release} serves model {route.model}")


@models.command("rollback")
def rollback(name: ModelOption = "", reason: Reason = "", env: EnvironmentOption = "production") -> None:
    """Roll back to the previous champion."""
    session = load_session(env)
    with deciding(session, DECIDE) as (deployer, actor):
        route = deployer.rollback(name or session.project.model().name, actor.name, reason)
    output.out.print(f"{route.arms[0].release} serves model {route.model} again")


@models.command("freeze")
def freeze(
    name: ModelArgument = "",
    until: Until = "",
    reason: Reason = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Freeze a model: only people can change its route."""
    session = load_session(env, create=True)
    pause_object(session, "model", session.project.model(name).name, until, reason, json)


@models.command("thaw")
def thaw(
    name: ModelArgument = "",
    reason: Reason = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Unfreeze a model: the policy can change its route again."""
    session = load_session(env)
    resume_object(session, "model", session.project.model(name).name, reason, json)
