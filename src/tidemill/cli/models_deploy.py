"""`models register`, `approve`, `promote`, `rollback`, `freeze`, `thaw`: decisions of people about releases."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.access.roles import DECIDE, DEVELOP
from tidemill.cli import output
from tidemill.cli.decisions import deciding, record_decision
from tidemill.cli.models import LabelArgument, ModelOption, models
from tidemill.cli.pauses import Reason, Until, pause_object, resume_object
from tidemill.cli.session import EnvironmentOption, Json, load_session, require_actor
from tidemill.errors import InputError, TidemillError

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
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Register a model that was trained elsewhere; the file is inspected without unpickling it."""
    from tidemill.core.signing import PackageSigner
    from tidemill.data.learning import learn_table
    from tidemill.models.adopt import adopt
    from tidemill.registry.releases import register as register_release

    if task not in ("", "classification", "regression"):
        raise InputError(f"there is no task {task!r}", "use classification or regression")
    session = load_session(env, create=True)
    actor = require_actor(session, DEVELOP)
    model = adopt(
        path,
        learn_table(samples, ask=False).frame,
        name=name or session.project.name,
        task=task or None,  # type: ignore[arg-type]  # checked above
        classes=tuple(part for part in classes.split(",") if part),
        label=label,
        trusted=trust,
    )
    books = session.workspace.ledger
    digest = session.packages.save(model)
    signature = session.resource(PackageSigner).sign(model)
    tags = {"origin": "by hand"}
    with books.transaction(durable=True):
        release = register_release(books, session.clock, model, digest, environment=env, tags=tags, signature=signature)
        reason = f"from {path.name}" + (", trusted" if trust else "")
        record_decision(session, "registered", release.label, reason, actor)
    if json:
        output.print_json(release)
    else:
        output.out.print(f"release {release.label} ({release.flavor}) is registered; it does not serve yet")
        output.err.print(_describe_next(release.label, model))


def _describe_next(label: str, model: "Model") -> str:
    """Return the command that deploys a registered model, or why it cannot be deployed."""
    from tidemill.models.usable import require_predictions

    try:
        require_predictions(model)
    except TidemillError as error:
        return f"it cannot predict its samples, so it cannot be promoted: {error.problem} — {error.cure}"
    return f"to deploy it: `tidemill models promote {label} --reason …`"


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
