"""Why: the whole chain of evidence behind a prediction, a release, an artifact or a run."""

from datetime import datetime
from typing import Any

from msgspec import Struct, to_builtins

from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.prediction import EARLIER
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.route import Route
from tidemill.errors import NotFound
from tidemill.evidence.identify import identify, served
from tidemill.evidence.story import Story, artifact_of, cause_of, executor_of, steps_with, story_of
from tidemill.evidence.words import holds, moment, number, role_of, seconds, size
from tidemill.ledger.releases import find_release

_MANY = 100


class Link(Struct, frozen=True):
    """One link of the chain: what it is, what is said of it, and the facts of its record."""

    kind: str
    id: str
    text: str
    facts: dict[str, Any] = {}


def why(books: BooksReader, journal: JournalReader, models: list[str], environment: str, identifier: str) -> list[Link]:
    """The chain from a prediction's id, a release (`flights/3`), an artifact or a run back to code, data and cause.

    Raises
    ------
    NotFound
        if nothing has that id.
    InputError
        if several ids begin so.
    """
    named = identify(books, identifier, journal, models, environment)
    if named.kind == "prediction":
        answers = served(journal, named.model, named.id)
        label = str(answers[0]["release"])
        told = [*_told(answers, named.model), *_truth(journal, named.model, answers[0])]
        return [*told, *_release(books, environment, label, answers[0]["known_at"])]
    if named.kind == "release":
        return _release(books, environment, named.id)
    if named.kind == "artifact":
        return _artifact(books, named.id)
    return _run(story_of(books, named.id), books)


def _told(answers: list[dict[str, Any]], model: str) -> list[Link]:
    answer = answers[0]
    said = f"{model} said {answer['value']}"
    if answer["probability"]:
        said += f" ({max(answer['probability']):.3f})"
    said += f" for {answer['key'] or 'a row without a key'} at {moment(answer['time'])}, as {answer['role']}"
    facts = {name: value for name, value in answer.items() if name != "features"}
    links = [Link("prediction", str(answer["id"]), said, facts)]
    links += [
        Link("prediction", str(other["id"]), f"{other['release']} said {other['value']}, as {other['role']}")
        for other in answers[1:]
    ]
    return [*links, Link("features", str(answer["id"]), "as they were served", dict(answer["features"]))]


def _truth(journal: JournalReader, model: str, answer: dict[str, Any]) -> list[Link]:
    """What turned out, as far as it is known: of several labels the one that was known last."""
    import polars as pl  # late: most chains begin at no prediction

    labels = journal.read(f"labels/{model}", answer["known_at"] - EARLIER)
    if labels.is_empty():
        return []
    by_row = (pl.col("id") == "") & (pl.col("key") == answer["key"]) & (pl.col("time") == answer["time"])
    last = labels.filter((pl.col("id") == answer["id"]) | by_row).tail(1).to_dicts()
    said = [f"{one['value']} is the truth, known {moment(one['known_at'])}" for one in last]
    return [Link("label", str(answer["id"]), text) for text in said]


def _artifact(books: BooksReader, digest: str) -> list[Link]:
    artifact = artifact_of(books, digest)
    assert artifact is not None
    made = next(iter(steps_with(books, "out", digest, 1)), None)
    by = f", first given by step {made.step}: {made.reason}" if made else ", and no step is known to have given it"
    gone = f", collected {moment(artifact.collected)}" if artifact.collected else ""
    said = ", ".join(part for part in (role_of(artifact), holds(artifact), size(artifact)) if part)
    link = Link("artifact", digest, said + gone + by, artifact.summary)
    return [link, *(_run(story_of(books, made.run), books) if made else [])]


def _release(books: BooksReader, environment: str, label: str, at: datetime | None = None) -> list[Link]:
    """A release, the routes in which it answered (at an instant: the one in force then), and its run."""
    release = find_release(books, label)
    scores = ", ".join(f"{k} {number(v)}" for k, v in release.metrics.items() if k.startswith("test_"))
    links = [
        Link("release", label, f"{label}, {release.flavor}, made {moment(release.created)}: {scores}", _facts(release))
    ]
    links += [
        Link("route", route.id, f"{_arms(route, label)} since {moment(route.since)} by {route.by}: {route.reason}")
        for route in _routes(books, environment, label, at)
    ]
    links += [
        Link("decision", entry.id, f"{entry.actor} {entry.action} it: {entry.reason or 'no reason given'}")
        for entry in books.audit.find(subject=label, limit=_MANY)
    ]
    if not release.run:
        return links
    try:
        return links + _run(story_of(books, release.run), books)
    except NotFound:
        return [*links, Link("run", release.run, "its run is not in this ledger")]


def _facts(release: Release) -> dict[str, Any]:
    return {"package": release.package, "metrics": release.metrics, "tags": release.tags, **release.data}


def _routes(books: BooksReader, environment: str, label: str, at: datetime | None) -> list[Route]:
    found = books.routes.find(linked=f"release:{label}", newest=True, limit=_MANY)
    here = sorted((route for route in found if route.environment == environment), key=lambda route: route.version)
    return here if at is None else [route for route in here if route.since <= at][-1:]


def _arms(route: Route, label: str) -> str:
    return ", ".join(f"{arm.role} {arm.share:.0%}" for arm in route.arms if arm.release == label)


def _run(story: Story, books: BooksReader) -> list[Link]:
    run = story.run
    took = f" in {seconds(run.seconds)}" if run.seconds is not None else ""
    said = f"{run.pipeline} {run.state}{took}, started {moment(run.started)}, {executor_of(story)}"
    links = [Link("run", run.id, said, {"params": run.params, "metrics": run.metrics, "seconds": run.seconds})]
    links += [_verdict(verdict) for verdict in story.verdicts]
    if story.compared_with is not None:
        other = story.compared_with
        links.append(Link("compared", other.label, f"with {other.label}, made {moment(other.created)}", _facts(other)))
    commit = run.code.get("commit")
    state = f"commit {commit[:12]}{' with changes' if run.code.get('dirty') else ''}" if commit else "no git commit"
    state += f", code {str(run.code.get('digest', ''))[:12]}, policy {str(run.code.get('policy', ''))[:12]}"
    links.append(Link("code", str(run.code.get("digest", "")), state, run.software))
    return links + _cause(story, books)


def _verdict(verdict: Verdict) -> Link:
    said = f"{verdict.check} of {verdict.subject}: {verdict.outcome} → {verdict.action}: {verdict.reason}"
    return Link("verdict", verdict.id, said, verdict.evidence if verdict.check != "schema" else {})


def _cause(story: Story, books: BooksReader) -> list[Link]:
    """Who or which trigger started it; on what event, and on what verdict that was."""
    event: Event | None = story.event
    links = [Link("cause", event.id if event else story.run.id, f"by {cause_of(story)}", _record(event, story))]
    found = books.verdicts.find(id=event.cause, limit=1) if event and event.cause else []
    return links + [_verdict(verdict) for verdict in found]


def _record(event: Event | None, story: Story) -> dict[str, Any]:
    return dict(to_builtins(event)) if event else story.run.cause
