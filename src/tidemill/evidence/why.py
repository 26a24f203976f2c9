"""Collects the chain of evidence for a prediction, a release, an artifact or a run."""

from datetime import datetime
from typing import Any

from msgspec import to_builtins

from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.route import Route
from tidemill.errors import NotFound
from tidemill.evidence.delivery_links import EvidenceLink, link_delivery
from tidemill.evidence.formatting import (
    describe_content,
    describe_role,
    format_duration,
    format_number,
    format_size,
    format_time,
)
from tidemill.evidence.identify import identify, read_predictions
from tidemill.evidence.run_details import (
    RunDetails,
    describe_cause,
    describe_executor,
    find_artifact,
    find_steps_with,
    read_run_details,
)
from tidemill.ledger.releases import find_release

_MAX_RECORDS = 100


def trace_evidence(
    books: BooksReader, journal: JournalReader, models: list[str], environment: str, identifier: str
) -> list[EvidenceLink]:
    """Return the chain from a prediction, a release (`flights/3`), an artifact or a run back to code, data and cause.

    Raises
    ------
    NotFound
        if no record has this id.
    InputError
        if several ids start with this text.
    """
    reference = identify(books, identifier, journal, models, environment)
    if reference.kind == "prediction":
        predictions = read_predictions(journal, reference.model, reference.id)
        label = str(predictions[0]["release"])
        links = [
            *_link_predictions(predictions, reference.model),
            *_link_label(journal, reference.model, predictions[0]),
        ]
        return [*links, *_link_release(books, environment, label, predictions[0]["known_at"])]
    if reference.kind == "release":
        return _link_release(books, environment, reference.id)
    if reference.kind == "artifact":
        return _link_artifact(books, reference.id)
    return _link_run(read_run_details(books, reference.id), books)


def _link_predictions(predictions: list[dict[str, Any]], model: str) -> list[EvidenceLink]:
    prediction = predictions[0]
    text = f"{model} predicted {prediction['value']}"
    if prediction["probability"]:
        text += f" ({max(prediction['probability']):.3f})"
    text += f" for {prediction['key'] or 'a row without a key'} at {format_time(prediction['time'])}"
    text += f", as {prediction['role']}"
    facts = {name: value for name, value in prediction.items() if name != "features"}
    links = [EvidenceLink("prediction", str(prediction["id"]), text, facts)]
    links += [
        EvidenceLink(
            "prediction", str(shadow["id"]), f"{shadow['release']} predicted {shadow['value']}, as {shadow['role']}"
        )
        for shadow in predictions[1:]
    ]
    return [
        *links,
        EvidenceLink("features", str(prediction["id"]), "as served", dict(prediction["features"])),
    ]


def _link_label(journal: JournalReader, model: str, prediction: dict[str, Any]) -> list[EvidenceLink]:
    """Return a link with the latest label of a prediction; return no link if it has no label."""
    import polars as pl  # imported here, because most chains do not start at a prediction

    labels = journal.read(f"labels/{model}", prediction["known_at"] - LABEL_LEAD)
    if labels.is_empty():
        return []
    own = pl.col("id") == prediction["id"]
    if prediction["key"]:
        is_same_row = (pl.col("key") == prediction["key"]) & (pl.col("time") == prediction["time"])
        own |= (pl.col("id") == "") & is_same_row
    latest = labels.filter(own).tail(1).to_dicts()
    texts = [f"{label['value']} is the label, known {format_time(label['known_at'])}" for label in latest]
    return [EvidenceLink("label", str(prediction["id"]), text) for text in texts]


def _link_artifact(books: BooksReader, digest: str) -> list[EvidenceLink]:
    artifact = find_artifact(books, digest)
    assert artifact is not None
    producer = next(iter(find_steps_with(books, "out", digest, 1)), None)
    origin = f", first output of step {producer.step}: {producer.reason}" if producer else ", of unknown origin"
    collected = f", collected {format_time(artifact.collected)}" if artifact.collected else ""
    text = ", ".join(
        part for part in (describe_role(artifact), describe_content(artifact), format_size(artifact)) if part
    )
    link = EvidenceLink("artifact", digest, text + collected + origin, artifact.summary)
    return [link, *(_link_run(read_run_details(books, producer.run), books) if producer else [])]


def _link_release(books: BooksReader, environment: str, label: str, at: datetime | None = None) -> list[EvidenceLink]:
    """Return links for a release, its routes, decisions and its run.

    If `at` is a time: only the route at that time, and the decisions before it.
    """
    release = find_release(books, label)
    scores = ", ".join(f"{k} {format_number(v)}" for k, v in release.metrics.items() if k.startswith("test_"))
    links = [
        EvidenceLink(
            "release",
            label,
            f"{label}, {release.flavor}, created {format_time(release.created)}: {scores}",
            _collect_facts(release),
        )
    ]
    links += [
        EvidenceLink(
            "route",
            route.id,
            f"{_describe_arms(route, label)} since {format_time(route.since)} by {route.by}: {route.reason}",
        )
        for route in _find_routes(books, environment, label, at)
    ]
    links += [
        EvidenceLink("decision", entry.id, f"{entry.actor} {entry.action} {label}: {entry.reason or 'no reason'}")
        for entry in books.audit.find(subject=label, limit=_MAX_RECORDS)
        if at is None or entry.time <= at
    ]
    if not release.run:
        return links
    try:
        return links + _link_run(read_run_details(books, release.run), books)
    except NotFound:
        return [*links, EvidenceLink("run", release.run, "its run is not in the ledger")]


def _collect_facts(release: Release) -> dict[str, Any]:
    return {"package": release.package, "metrics": release.metrics, "tags": release.tags, **release.data}


def _find_routes(books: BooksReader, environment: str, label: str, at: datetime | None) -> list[Route]:
    routes = books.routes.find(linked=f"release:{label}", newest=True, limit=_MAX_RECORDS)
    matching = sorted((route for route in routes if route.environment == environment), key=lambda route: route.version)
    return matching if at is None else [route for route in matching if route.since <= at][-1:]


def _describe_arms(route: Route, label: str) -> str:
    return ", ".join(f"{arm.role} {arm.portion}" for arm in route.arms if arm.release == label)


def _link_run(details: RunDetails, books: BooksReader) -> list[EvidenceLink]:
    run = details.run
    duration = f" in {format_duration(run.seconds)}" if run.seconds is not None else ""
    text = f"{run.pipeline} {run.state}{duration}, started {format_time(run.started)}, {describe_executor(details)}"
    links = [EvidenceLink("run", run.id, text, {"params": run.params, "metrics": run.metrics, "seconds": run.seconds})]
    links += [_link_verdict(verdict) for verdict in details.verdicts]
    if details.compared_with is not None:
        release = details.compared_with
        links.append(
            EvidenceLink(
                "compared",
                release.label,
                f"with {release.label}, created {format_time(release.created)}",
                _collect_facts(release),
            )
        )
    commit = run.code.get("commit")
    text = f"commit {commit[:12]}{' with changes' if run.code.get('dirty') else ''}" if commit else "no git commit"
    text += f", code {str(run.code.get('digest', ''))[:12]}, policy {str(run.code.get('policy', ''))[:12]}"
    links.append(EvidenceLink("code", str(run.code.get("digest", "")), text, run.software))
    if run.code.get("build"):
        links += link_delivery(books, str(run.code["build"]), run.environment)
    return links + _link_cause(details, books)


def _link_verdict(verdict: Verdict) -> EvidenceLink:
    text = f"{verdict.check} of {verdict.subject}: {verdict.outcome} → {verdict.action}: {verdict.reason}"
    return EvidenceLink("verdict", verdict.id, text, verdict.evidence if verdict.check != "schema" else {})


def _link_cause(details: RunDetails, books: BooksReader) -> list[EvidenceLink]:
    """Return links for the user or trigger that started a run, and for the verdict that caused the trigger's event."""
    event: Event | None = details.event
    links = [
        EvidenceLink(
            "cause",
            event.id if event else details.run.id,
            f"by {describe_cause(details)}",
            _collect_cause_facts(event, details),
        )
    ]
    verdicts = books.verdicts.find(id=event.cause, limit=1) if event and event.cause else []
    return links + [_link_verdict(verdict) for verdict in verdicts]


def _collect_cause_facts(event: Event | None, details: RunDetails) -> dict[str, Any]:
    return dict(to_builtins(event)) if event else details.run.cause
