"""The delivery of a build as evidence: its commit and authors, its CI run, and the deployments and approvals."""

from typing import Any

from msgspec import Struct, to_builtins

from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.resources import BooksReader
from tidemill.errors import NotFound
from tidemill.evidence.formatting import format_time

_DIGEST_LENGTH = 12


class EvidenceLink(Struct, frozen=True):
    """One link of the chain: its kind, its id, its description, and the facts of its record."""

    kind: str
    id: str
    text: str
    facts: dict[str, Any] = {}


def link_delivery(books: BooksReader, build: str, environment: str) -> list[EvidenceLink]:
    """Return links for the build with this id, and for its way into an environment; none if it is unknown."""
    try:
        found = books.builds.get(build)
    except NotFound:
        return [EvidenceLink("build", build, "its build is not in the ledger")]
    links = [_link_build(found), *_link_ci(books, found)]
    for deployment in books.deployments.find(build=found.id, environment=environment)[-1:]:
        links += _link_deployment(books, found, deployment)
    return links


def _link_build(build: Build) -> EvidenceLink:
    people = ", ".join(build.authors) or "unknown authors"
    pushed = f", pushed by {build.pusher}" if build.pusher else ""
    wheel = build.artifacts.get("wheel", "")[:_DIGEST_LENGTH]
    image = f", image {build.image[:19]}" if build.image else ""
    text = f"{build.label} of branch {build.branch}, by {people}{pushed}: {build.state}, wheel {wheel}{image}"
    return EvidenceLink("build", build.id, text, to_builtins(build))


def _link_ci(books: BooksReader, build: Build) -> list[EvidenceLink]:
    verdicts = books.verdicts.find(run=build.run) if build.run else []
    texts = {verdict.id: f"{verdict.check}: {verdict.outcome}: {verdict.reason}" for verdict in verdicts}
    return [EvidenceLink("verdict", name, text) for name, text in texts.items()]


def _link_deployment(books: BooksReader, build: Build, deployment: Deployment) -> list[EvidenceLink]:
    environment = deployment.environment
    text = f"deployment {deployment.version} of {environment} ({deployment.change}) by {deployment.by}"
    text += f" at {format_time(deployment.time)}, {deployment.state}"
    links = [EvidenceLink("deployment", deployment.id, text, to_builtins(deployment))]
    for identifier in deployment.verdicts:
        for verdict in books.verdicts.find(id=identifier, limit=1):
            reason = f"{verdict.check}: {verdict.outcome}: {verdict.reason}"
            links.append(EvidenceLink("verdict", verdict.id, reason, verdict.evidence))
    decisions = books.audit.find(subject=build.subject(environment))
    texts = {
        entry.id: f"{entry.actor} {entry.action} for {environment}: {entry.reason or 'no reason'}"
        for entry in decisions
    }
    return links + [EvidenceLink("decision", name, text) for name, text in texts.items()]
