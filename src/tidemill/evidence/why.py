"""Why: the whole chain of evidence behind a prediction, a release or a run."""

from datetime import timedelta
from typing import Any

import polars as pl
from msgspec import Struct, to_builtins

from tidemill.clock import moment_of
from tidemill.core.release import Release
from tidemill.core.resources import Books, JournalReader
from tidemill.core.run import Run
from tidemill.errors import NotFound


class Link(Struct, frozen=True):
    """One link of the chain: what it is, what is said of it, and the record itself."""

    kind: str
    id: str
    text: str
    facts: dict[str, Any] = {}


def why(books: Books, journal: JournalReader, models: list[str], environment: str, identifier: str) -> list[Link]:
    """The chain from a prediction's id, a release (`flights/3`) or a run's id back to code and cause.

    Raises
    ------
    NotFound
        if nothing has that id.
    """
    for model in models:
        served = _prediction(journal, model, identifier)
        if served:
            return [*_told(served, model), *_release(books, environment, str(served[0]["release"]))]
    if "/" in identifier:
        return _release(books, environment, identifier)
    try:
        return _run(books, books.runs.get(identifier))
    except NotFound:
        raise NotFound(
            f"nothing has the id {identifier!r}", "give the id of a prediction or a run, or a release such as flights/3"
        ) from None


def _prediction(journal: JournalReader, model: str, identifier: str) -> list[dict[str, Any]]:
    try:
        moment = moment_of(identifier)
    except ValueError:
        return []
    around = timedelta(minutes=2)
    rows = journal.read(f"predictions/{model}", moment - around, moment + around)
    if rows.is_empty():
        return []
    return rows.filter(pl.col("id") == identifier).sort(pl.col("role") == "shadow").to_dicts()


def _told(served: list[dict[str, Any]], model: str) -> list[Link]:
    answer = served[0]
    said = f"{model} said {answer['value']}"
    if answer["probability"]:
        said += f" ({max(answer['probability']):.3f})"
    said += f" for {answer['key'] or 'a row without a key'} at {answer['time']:%Y-%m-%d %H:%M}"
    facts = {name: value for name, value in answer.items() if name != "features"}
    links = [Link("prediction", str(answer["id"]), f"{said}, as {answer['role']}", facts)]
    links.append(Link("features", str(answer["id"]), "as they were served", dict(answer["features"])))
    return links


def _release(books: Books, environment: str, label: str) -> list[Link]:
    name, _, version = label.partition("/")
    found = [r for r in books.releases.find(name=name) if str(r.version) == version]
    if not found:
        raise NotFound(f"there is no release {label!r}", "list them: `tidemill models list`")
    release = found[0]
    scores = ", ".join(f"{k} {v:.4f}" for k, v in release.metrics.items() if k.startswith("test_"))
    links = [
        Link("release", label, f"{release.flavor}, made {release.created:%Y-%m-%d %H:%M}: {scores}", _facts(release))
    ]
    for route in books.routes.find(environment=environment, model=name):
        if any(arm.release == label for arm in route.arms):
            links.append(Link("route", route.id, f"{route.since:%Y-%m-%d %H:%M} by {route.by}: {route.reason}"))
    for entry in books.audit.find(subject=label):
        links.append(
            Link("decision", entry.id, f"{entry.actor} {entry.action} it: {entry.reason or 'no reason given'}")
        )
    return links + (_run(books, books.runs.get(release.run)) if release.run else [])


def _facts(release: Release) -> dict[str, Any]:
    return {"package": release.package, "metrics": release.metrics, **release.data}


def _run(books: Books, run: Run) -> list[Link]:
    links = [Link("run", run.id, f"{run.pipeline} {run.state} on {run.started:%Y-%m-%d %H:%M}", _of_run(run))]
    for verdict in books.verdicts.find(run=run.id):
        said = f"{verdict.check}: {verdict.outcome} → {verdict.action}: {verdict.reason}"
        links.append(Link("verdict", verdict.id, said, verdict.evidence if verdict.check != "schema" else {}))
    commit = run.code.get("commit")
    state = f"commit {commit[:12]}{' with changes' if run.code.get('dirty') else ''}" if commit else "no git commit"
    links.append(Link("code", str(run.code.get("digest", "")), state, run.software))
    cause = run.cause
    if cause.get("event"):
        event = books.events.get(str(cause["event"]))
        said = f"trigger {cause.get('trigger')!r} on {event.kind} of {event.subject}"
        links.append(
            Link("cause", event.id, f"{said}: {event.payload.get('reason', event.payload)}", to_builtins(event))
        )
    else:
        links.append(
            Link("cause", run.id, f"by {cause.get('user') or cause.get('trigger') or cause.get('by', '')}", cause)
        )
    return links


def _of_run(run: Run) -> dict[str, Any]:
    return {"params": run.params, "metrics": run.metrics, "seconds": run.seconds}
