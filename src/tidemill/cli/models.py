"""`models`: lists releases with their metrics, stages and history."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.session import (
    EnvironmentOption,
    FilterOption,
    Json,
    Limit,
    describe_empty,
    load_session,
    select_filters,
)
from tidemill.core.metric import METRICS

if TYPE_CHECKING:
    from tidemill.core.model import Model
    from tidemill.core.release import Release
    from tidemill.core.route import Route
    from tidemill.core.run import Metrics
    from tidemill.flow.session import Session


models = typer.Typer(no_args_is_help=True, help="Releases of models.")
_SHOWN = tuple(metric.name for metric in METRICS.values() if metric.standard)
_SHOWN_INPUTS = 20
LabelArgument = Annotated[
    str, typer.Argument(metavar="NAME/VERSION", help="A release, such as flights/3. A name alone: its newest release.")
]
ModelOption = Annotated[str, typer.Option(help="The model. Default: the only model of the project.")]


@models.command("list")
def list_models(name: FilterOption = "", limit: Limit = 50, json: Json = False) -> None:
    """List the newest releases."""
    session = load_session()
    filters = select_filters(name=name)
    _print(session, session.workspace.ledger.releases.find(newest=True, limit=limit, **filters), filters, json)


@models.command("search")
def search(
    text: Annotated[str, typer.Argument(help="Words, or the beginnings of words, in the text of the release.")] = "",
    tag: Annotated[str, typer.Option(help="A tag, as NAME=VALUE.")] = "",
    metric: Annotated[str, typer.Option(help="A condition on a metric, such as test_log_loss<0.5.")] = "",
    json: Json = False,
) -> None:
    """Find releases by text, tag and metric."""
    from tidemill.evidence.search import search as find_records

    session = load_session()
    filters = select_filters(text=text, tag=tag, metric=metric)
    _print(session, find_records(session.workspace.ledger.releases, text=text, tag=tag, metric=metric), filters, json)


def _print(session: "Session", releases: Any, filters: dict[str, Any], json: bool) -> None:
    stages = _find_routes(session, {release.name for release in releases})
    if json:
        output.print_json([_add_stage(release, stages) for release in releases])
        return
    serving = {
        arm.release: f"{arm.role} {arm.portion}"
        for route in session.workspace.board.routes().values()
        for arm in route.arms
        if arm.role != "shadow" or arm.share
    }
    columns = {
        "release": lambda r: r.label,
        "created": lambda r: r.created,
        "flavor": lambda r: r.flavor,
        "stage": lambda r: _add_stage(r, stages)["stage"],
        "serving": lambda r: serving.get(r.label, ""),
        "test metrics (baseline)": lambda r: "  ".join(_format_metrics(r)),
        "tags": lambda r: " ".join(f"{k}={v}" for k, v in r.tags.items()),
    }
    output.print_records(
        releases, columns, json=False, nothing=describe_empty(filters, "no releases yet: `tidemill run training`")
    )


def _format_metrics(release: "Release") -> list[str]:
    """Return the standard metrics of a release, each with that of the baseline."""
    texts = []
    for name in _SHOWN:
        value = release.metrics.get(f"test_{name}")
        baseline = release.metrics.get(f"baseline_{name}")
        if value is not None:
            texts.append(f"{name}={value:.4f}" + (f" ({baseline:.4f})" if baseline is not None else ""))
    return texts


def _find_routes(session: "Session", names: set[str]) -> dict[str, "list[Route]"]:
    """Return all routes of the models; the stages of their releases follow from them."""
    from tidemill.registry.routing import list_routes

    books = session.workspace.ledger
    return {name: list_routes(books, session.workspace.environment, name) for name in names}


def _add_stage(release: "Release", routes: dict[str, "list[Route]"]) -> dict[str, Any]:
    from datetime import datetime

    from msgspec import to_builtins

    from tidemill.registry.stages import find_stage

    fields: dict[str, Any] = to_builtins(release, builtin_types=(datetime,))
    return fields | {"stage": find_stage(release.label, routes[release.name])}


@models.command("show")
def show(label: LabelArgument, env: EnvironmentOption = "production", json: Json = False) -> None:
    """Show a release: its stage, its signature with a request to paste, and its metrics beside the baseline."""
    from msgspec import to_builtins
    from msgspec.structs import replace

    from tidemill.ledger.releases import find_release
    from tidemill.models.usage import describe_usage, read_example

    session = load_session(env)
    release = find_release(session.workspace.ledger, label)
    shown, measured = (
        _add_stage(release, _find_routes(session, {release.name})),
        read_test_metrics(session, release.run),
    )
    model = _load_model(session, release)
    usage = None if model is None else describe_usage(release.name, release.label, model.manifest, read_example(model))
    if json:
        signatures = {
            "signature": {} if model is None else to_builtins(model.manifest.signature),
            "package_signature": release.signature,
        }
        slices = {"slices": measured.slices, "slice_intervals": measured.slice_intervals}
        output.print_json(shown | signatures | slices | {"usage": usage})
        return
    output.print_record(replace(release, metrics={}), json=False)
    output.out.print("stage", style="bold", end="")
    output.out.print(f"  {shown['stage']}")
    _print_usage(usage)
    _print_metrics(release, measured)
    if measured.slices:
        names = [name for name in measured.values if any(name in values for values in measured.slices.values())]
        rows = [
            [part, f"{values['rows']:,.0f}", *(_format_slice(measured, part, name) for name in names)]
            for part, values in measured.slices.items()
        ]
        output.print_table(("slice", "rows", *names), rows)


def _load_model(session: "Session", release: "Release") -> "Model | None":
    """Return the model of a release; None if its package was collected or cannot be read."""
    from tidemill.errors import TidemillError

    try:
        return session.packages.load(release.package)
    except TidemillError:
        return None


def _print_usage(usage: dict[str, Any] | None) -> None:
    if usage is None:
        return
    inputs = ", ".join(f"{column['name']} ({column['type']})" for column in usage["inputs"][:_SHOWN_INPUTS])
    more = len(usage["inputs"]) - _SHOWN_INPUTS
    facts = {
        "inputs": inputs + (f" and {more} more" if more > 0 else ""),
        "key": ", ".join(usage["key"]),
        "time": usage["time"],
        "classes": ", ".join(usage["classes"]),
        "positive class": usage["positive"],
        "request": usage["curl"],
    }
    for name, value in facts.items():
        if value:
            output.out.print(name, style="bold", end="")
            output.out.print(f"  {value}")


def _print_metrics(release: "Release", measured: "Metrics") -> None:
    """Print the metrics of a release: a row for each metric, with the interval of the test and the baseline."""
    from tidemill.core.run import METRIC_SETS
    from tidemill.evidence.formatting import format_number

    sets = [name for name in METRIC_SETS if any(metric.startswith(f"{name}_") for metric in release.metrics)]
    names = dict.fromkeys(metric.partition("_")[2] for metric in release.metrics if metric.partition("_")[0] in sets)
    rows = []
    for name in names:
        low, high = measured.intervals.get(name, (None, None))
        interval = f"{format_number(low)} to {format_number(high)}" if low is not None else ""
        values = [format_number(release.metrics.get(f"{about}_{name}")) for about in sets]
        rows.append([name, *values[:1], interval, *values[1:]])
    if rows:
        output.print_table(("metric", *sets[:1], "interval", *sets[1:]), rows)


def read_test_metrics(session: "Session", run: str) -> "Metrics":
    """Return the metrics of a run on its test rows, empty if they were collected."""
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


def _format_slice(measured: "Metrics", part: str, name: str) -> str:
    """Return a metric of a slice as text, with its interval if it has one."""
    value = measured.slices[part].get(name)
    low, high = measured.slice_intervals.get(part, {}).get(name, (None, None))
    interval = f" ({low:.3f} to {high:.3f})" if low is not None else ""
    return "" if value is None else f"{value:.4f}{interval}"


@models.command("tag")
def put_tag(
    label: LabelArgument, tags: Annotated[list[str], typer.Argument(help="NAME=VALUE; an empty value removes the tag.")]
) -> None:
    """Add tags to a release, or remove them."""
    from tidemill.registry.releases import tag

    pairs = dict(pair.partition("=")[::2] for pair in tags)
    release = tag(load_session().workspace.ledger, label, pairs)
    output.out.print(f"{release.label}: {release.tags}")


@models.command("history")
def history(
    name: ModelOption = "",
    at: Annotated[str, typer.Option(help="Only the route at this time (UTC).")] = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """List the routes of a model: which releases served, since when, and why."""
    from tidemill.backtest.period import parse_time
    from tidemill.registry.routing import list_routes

    session = load_session(env)
    name = name or session.project.model().name
    model_routes = list_routes(session.workspace.ledger, env, name)
    if at:
        time = parse_time(at, session.clock.now())
        model_routes = [route for route in model_routes if route.since <= time][-1:]
    columns = {
        "since": lambda r: r.since,
        "serving": lambda r: ", ".join(f"{a.release} ({a.role} {a.portion})" for a in r.arms),
        "reason": lambda r: r.reason,
        "by": lambda r: r.by,
    }
    output.print_records(
        model_routes, columns, json=json, nothing=f"no release of {name!r} served {'at that time' if at else 'yet'}"
    )
