"""`models`: releases by name, their metrics, stages and history."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.session import Environment, Json, Limit, Only, given, nothing, session_here
from tidemill.core.metric import METRICS

if TYPE_CHECKING:
    from tidemill.core.release import Release
    from tidemill.core.route import Route
    from tidemill.core.run import Metrics
    from tidemill.flow.session import Session


models = typer.Typer(no_args_is_help=True, help="Releases of models.")
_SHOWN = tuple(f"test_{one.name}" for one in METRICS.values() if one.standard)
Label = Annotated[str, typer.Argument(metavar="NAME/VERSION", help="Such as flights/3; a name alone: its newest.")]
Name = Annotated[str, typer.Option(help="The model; the only one, if not given.")]


@models.command("list")
def list_models(name: Only = "", limit: Limit = 50, json: Json = False) -> None:
    """The newest releases."""
    session = session_here()
    asked = given(name=name)
    _print(session, session.workspace.ledger.releases.find(newest=True, limit=limit, **asked), asked, json)


@models.command("search")
def search(
    text: Annotated[str, typer.Argument(help="Words that the release has, or their beginnings.")] = "",
    tag: Annotated[str, typer.Option(help="name=value")] = "",
    metric: Annotated[str, typer.Option(help="Such as test_log_loss<0.5")] = "",
    json: Json = False,
) -> None:
    """Releases by text, tag and metric."""
    from tidemill.evidence.search import search as find

    session = session_here()
    asked = given(text=text, tag=tag, metric=metric)
    _print(session, find(session.workspace.ledger.releases, text=text, tag=tag, metric=metric), asked, json)


def _print(session: "Session", found: Any, asked: dict[str, Any], json: bool) -> None:
    stages = _stages(session, {release.name for release in found})
    if json:
        output.as_json([_staged(release, stages) for release in found])
        return
    answering = {
        arm.release: f"{arm.role} {arm.share:.0%}"
        for route in session.workspace.board.routes().values()
        for arm in route.arms
        if arm.role != "shadow" or arm.share
    }
    columns = {
        "release": lambda r: r.label,
        "created": lambda r: r.created,
        "flavor": lambda r: r.flavor,
        "stage": lambda r: _staged(r, stages)["stage"],
        "answers": lambda r: answering.get(r.label, ""),
        "metrics": lambda r: "  ".join(f"{k}={v:.4f}" for k, v in r.metrics.items() if k in _SHOWN),
        "tags": lambda r: " ".join(f"{k}={v}" for k, v in r.tags.items()),
    }
    output.records(found, columns, json=False, nothing=nothing(asked, "no releases yet: `tidemill run training`"))


def _stages(session: "Session", names: set[str]) -> dict[str, "list[Route]"]:
    """The routes of these models, from which the stages of their releases follow."""
    from tidemill.registry.routing import history as routes_of

    books = session.workspace.ledger
    return {name: routes_of(books, session.workspace.environment, name) for name in names}


def _staged(release: "Release", routes: dict[str, "list[Route]"]) -> dict[str, Any]:
    from datetime import datetime

    from msgspec import to_builtins

    from tidemill.registry.stages import stage_of

    told: dict[str, Any] = to_builtins(release, builtin_types=(datetime,))
    return told | {"stage": stage_of(release.label, routes[release.name])}


@models.command("show")
def show(label: Label, env: Environment = "production", json: Json = False) -> None:
    """One release, with its stage, and its metrics on the test rows by slice."""
    from tidemill.ledger.releases import find_release

    session = session_here(env)
    release = find_release(session.workspace.ledger, label)
    told, measured = _staged(release, _stages(session, {release.name})), measured_of(session, release.run)
    if json:
        output.as_json(told | {"slices": measured.slices, "slice_intervals": measured.slice_intervals})
        return
    output.record(release, json=False)
    output.out.print("stage", style="bold", end="")
    output.out.print(f"  {told['stage']}")
    if measured.slices:
        names = [name for name in measured.values if any(name in one for one in measured.slices.values())]
        rows = [
            [part, f"{found['rows']:,.0f}", *(_within(measured, part, name) for name in names)]
            for part, found in measured.slices.items()
        ]
        output.table(("slice", "rows", *names), rows)


def measured_of(session: "Session", run: str) -> "Metrics":
    """What a release's run measured on its test rows; nothing where that is not kept any more."""
    from tidemill.blobs.artifacts import read_artifact
    from tidemill.core.run import Metrics
    from tidemill.errors import TidemillError

    books = session.workspace.ledger
    for step in books.steps.find(run=run, step="measure_on") if run else ():
        for digest in step.outputs.values():
            with suppress(TidemillError):
                measured: Metrics = read_artifact(session.workspace.blobs, books.artifacts.get(digest), Metrics)
                return measured
    return Metrics(values={})


def _within(measured: "Metrics", part: str, name: str) -> str:
    """A metric of a slice, and its interval where it has one."""
    value = measured.slices[part].get(name)
    low, high = measured.slice_intervals.get(part, {}).get(name, (None, None))
    around = f" ({low:.3f} to {high:.3f})" if low is not None else ""
    return "" if value is None else f"{value:.4f}{around}"


@models.command("tag")
def put_tag(
    label: Label, tags: Annotated[list[str], typer.Argument(help="name=value; an empty value removes.")]
) -> None:
    """Put tags on a release."""
    from tidemill.registry.releases import tag

    pairs = dict(one.partition("=")[::2] for one in tags)
    release = tag(session_here().workspace.ledger, label, pairs)
    output.out.print(f"{release.label}: {release.tags}")


@models.command("history")
def history(
    name: Name = "",
    at: Annotated[str, typer.Option(help="Which release served at this instant (UTC).")] = "",
    env: Environment = "production",
    json: Json = False,
) -> None:
    """Which releases answered, since when, and why."""
    from tidemill.backtest.period import parse_time
    from tidemill.registry.routing import history as routes_of

    session = session_here(env)
    name = name or session.project.model().name
    found = routes_of(session.workspace.ledger, env, name)
    if at:
        instant = parse_time(at, session.clock.now())
        found = [route for route in found if route.since <= instant][-1:]
    columns = {
        "since": lambda r: r.since,
        "answering": lambda r: ", ".join(f"{a.release} ({a.role} {a.share:.0%})" for a in r.arms),
        "why": lambda r: r.reason,
        "by": lambda r: r.by,
    }
    output.records(found, columns, json=json, nothing=f"nothing of {name!r} has answered {'by then' if at else 'yet'}")
