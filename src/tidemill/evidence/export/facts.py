"""Collects the facts about a release: all records that lead to it and that followed from it."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.artifacts import read_artifact
from tidemill.blobs.store import Blobs
from tidemill.core.audit import AuditEntry
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.release import Release
from tidemill.core.resources import BooksReader, Packages
from tidemill.core.route import Route
from tidemill.core.run import Metrics
from tidemill.core.schema import SchemaVersion
from tidemill.errors import NotFound, TidemillError
from tidemill.evidence.audit import AuditReport
from tidemill.evidence.run_details import RunDetails, read_run_details
from tidemill.ledger.batches import split_batch_id
from tidemill.ledger.releases import find_release

_MAX_RECORDS = 10_000
_PROFILE = "profile.json"
_HIDDEN = ("(not exported)",)
# `tidemill init` writes these texts for a person to replace.
_PLACEHOLDERS = ("describe the decision that uses the predictions", "name the responsible person or team")


class ReleaseFacts(Struct, frozen=True, kw_only=True):
    """The records of a release, each list in the order of time.

    Attributes
    ----------
    model
        The package; None if its bytes cannot be read, and then `package_problem` says why.
    run
        The run that trained it with its steps; None if it was registered manually, or the run is not in the ledger.
    measured
        The metrics on its test rows, with slices and intervals.
    batches
        The verdicts on the batches of its source that were checked before it was trained, or by its run.
    live
        The verdicts on it in production.
    audit_log
        The verification of the whole audit log, of which `audit` are the entries about the release.
    builds, ci_verdicts, deployments
        The builds of the code that trained it, the verdicts on them, and where they were deployed.
    policy
        The settings of its model, as they are now; None if it was only registered.
    policy_changed
        Whether the policy is another one than that of its training.
    """

    project: str
    release: Release
    environment: str
    previous: tuple[Release, ...] = ()
    model: Model | None = None
    package_problem: str = ""
    run: RunDetails | None = None
    measured: Metrics | None = None
    profile: dict[str, Any] = {}
    packages: str = ""
    signature: bytes = b""
    schemas: tuple[SchemaVersion, ...] = ()
    batches: tuple[Verdict, ...] = ()
    live: tuple[Verdict, ...] = ()
    routes: tuple[Route, ...] = ()
    audit: tuple[AuditEntry, ...] = ()
    audit_log: AuditReport | None = None
    builds: tuple[Build, ...] = ()
    ci_verdicts: tuple[Verdict, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    policy: ModelPolicy | None = None
    policy_digest: str = ""
    policy_changed: bool = False
    triggers: tuple[str, ...] = ()
    source_kind: str = ""

    @property
    def source(self) -> str:
        """The name of the source that the model was trained on."""
        return self.release.trained_on.table or (self.policy.problem.source if self.policy else "")

    @property
    def decision(self) -> str:
        """What people do with the predictions; empty if nobody has described it."""
        return _drop_placeholder(self.policy.problem.decision) if self.policy else ""

    @property
    def owner(self) -> str:
        """Who is responsible for the model; empty if nobody is named."""
        return _drop_placeholder(self.policy.problem.owner) if self.policy else ""

    @property
    def audit_state(self) -> str:
        """Whether the audit log was changed since, with the number of its entries and its last hash."""
        log = self.audit_log
        if log is None or not log.entries:
            return ""
        state = f"{len(log.faults)} entries were changed" if log.faults else "no entry was changed"
        return f"{state}; {log.entries:,} entries, the last hash is {log.head}"

    @property
    def gate(self) -> Verdict | None:
        """The verdict of the gate."""
        verdicts = self.run.verdicts if self.run else []
        return next((verdict for verdict in reversed(verdicts) if verdict.check == "gate"), None)

    @property
    def commit(self) -> str:
        """The commit of the code that trained it; empty outside a repository."""
        return str(self.run.run.code.get("commit", "")) if self.run else ""

    @property
    def newest_record(self) -> datetime:
        """The time of the newest record, which does not depend on the time of the export."""
        times = [self.release.created, *(route.since for route in self.routes), *(entry.time for entry in self.audit)]
        times += [verdict.time for verdict in (*self.live, *self.ci_verdicts) if verdict.time is not None]
        return max([*times, *(deployment.time for deployment in self.deployments)])


def collect_facts(
    books: BooksReader,
    packages: Packages,
    blobs: Blobs,
    policy: Policy,
    policy_digest: str,
    environment: str,
    label: str,
    audit_log: AuditReport | None = None,
) -> ReleaseFacts:
    """Return the facts about a release; raise `NotFound` if there is no such release."""
    release = find_release(books, label)
    details = _read_run(books, release)
    model, problem = _read_package(packages, release)
    settings = policy.models.get(release.name)
    source = release.trained_on.table or (settings.problem.source if settings else "")
    verdicts = books.verdicts.find(subject=release.label, newest=True, limit=_MAX_RECORDS)
    own = {verdict.id for verdict in details.verdicts} if details else set[str]()
    builds = _find_builds(books, details)
    ci_runs = {build.run for build in builds if build.run}
    ci_verdicts = [verdict for run in sorted(ci_runs) for verdict in books.verdicts.find(run=run)]
    deployments = sorted(
        (deployment for build in builds for deployment in books.deployments.find(build=build.id)),
        key=lambda deployment: deployment.id,
    )
    promotions = {name for deployment in deployments for name in deployment.verdicts}
    ci_verdicts += [v for name in sorted(promotions) for v in books.verdicts.find(id=name, limit=1)]
    trained_policy = str(details.run.code.get("policy", "")) if details else ""
    return ReleaseFacts(
        project=policy.name,
        release=release,
        environment=environment,
        previous=tuple(r for r in books.releases.find(name=release.name) if r.version < release.version),
        model=model,
        package_problem=problem,
        run=details,
        measured=_read_measured(books, blobs, details),
        profile=_read_profile(model),
        packages=_read_packages(blobs, details),
        signature=_read_signature(blobs, release),
        schemas=tuple(books.schemas.find(source=source)) if source else (),
        batches=_find_batches(books, details, source),
        live=tuple(sorted((v for v in verdicts if v.id not in own), key=lambda verdict: verdict.id)),
        routes=tuple(sorted(books.routes.find(linked=f"release:{release.label}"), key=lambda route: route.id)),
        audit_log=audit_log,
        audit=_find_decisions(books, release, builds, deployments),
        builds=tuple(builds),
        ci_verdicts=tuple({verdict.id: verdict for verdict in ci_verdicts}.values()),
        deployments=tuple(deployments),
        policy=_without_addresses(settings) if settings else None,
        policy_digest=policy_digest,
        policy_changed=bool(trained_policy) and trained_policy != policy_digest,
        triggers=tuple(f"{t.name}: {t.on or t.cron} → {t.pipeline}" for t in policy.triggers),
        source_kind=_describe_source(policy, source),
    )


def _without_addresses(policy: ModelPolicy) -> ModelPolicy:
    """Return the settings without the addresses of notifications, which can contain passwords."""
    values = tuple(replace(value, notify=_HIDDEN * len(value.notify)) for value in policy.watch.values)
    return replace(policy, watch=replace(policy.watch, values=values, notify=_HIDDEN * len(policy.watch.notify)))


def _read_run(books: BooksReader, release: Release) -> RunDetails | None:
    try:
        return read_run_details(books, release.run) if release.run else None
    except NotFound:
        return None


def _read_package(packages: Packages, release: Release) -> tuple[Model | None, str]:
    try:
        return packages.load(release.package), ""
    except TidemillError as error:
        return None, error.problem


def _read_measured(books: BooksReader, blobs: Blobs, details: RunDetails | None) -> Metrics | None:
    """Return the metrics on test rows; None if they were collected."""
    for step in details.steps if details else ():
        if step.step != "measure_on":
            continue
        for digest in step.outputs.values():
            try:
                measured: Metrics = read_artifact(blobs, books.artifacts.get(digest), Metrics)
            except TidemillError:
                continue
            if measured.about == "test":
                return measured
    return None


def _read_profile(model: Model | None) -> dict[str, Any]:
    """Return the statistics of the columns, without their values: rare texts can identify a person."""
    import msgspec

    content = model.files.get(_PROFILE) if model else None
    if content is None:
        return {}
    found = msgspec.json.decode(content)
    names = ("name", "type", "rows", "missing", "mean", "deviation", "low", "high", "distinct")
    columns = [{name: column.get(name) for name in names} for column in found.get("columns", [])]
    return {"rows": found.get("rows"), "columns": columns}


def _read_packages(blobs: Blobs, details: RunDetails | None) -> str:
    """Return the installed packages of the run, as lines of `name==version`."""
    try:
        return blobs.get(details.run.packages).decode() if details and details.run.packages else ""
    except TidemillError:
        return ""


def _read_signature(blobs: Blobs, release: Release) -> bytes:
    """Return the signature of the package; empty if it is not signed."""
    try:
        return blobs.get(release.signature) if release.signature else b""
    except TidemillError:
        return b""


def _find_batches(books: BooksReader, details: RunDetails | None, source: str) -> tuple[Verdict, ...]:
    if details is None or not source:
        return ()
    scope: dict[str, Any] = {"check": "schema", "environment": details.run.environment}
    earlier = books.verdicts.find(before=details.run.id, newest=True, limit=_MAX_RECORDS, **scope)
    own = [verdict for verdict in details.verdicts if verdict.check == "schema"]
    verdicts = {verdict.id: verdict for verdict in (*earlier, *own) if split_batch_id(verdict.subject)[0] == source}
    return tuple(sorted(verdicts.values(), key=lambda verdict: verdict.id))


def _find_builds(books: BooksReader, details: RunDetails | None) -> list[Build]:
    """Return the builds of the commit, or of the code, that trained the release."""
    if details is None:
        return []
    commit, code = str(details.run.code.get("commit", "")), str(details.run.code.get("digest", ""))
    builds = books.builds.find(commit=commit) if commit else []
    if code:
        known = {build.id for build in builds}
        builds += [b for b in books.builds.find(limit=_MAX_RECORDS) if b.code == code and b.id not in known]
    return sorted(builds, key=lambda build: build.number)


def _find_decisions(
    books: BooksReader, release: Release, builds: list[Build], deployments: list[Deployment]
) -> tuple[AuditEntry, ...]:
    subjects = (release.label, release.name, f"model/{release.name}")
    found = [entry for subject in subjects for entry in books.audit.find(subject=subject)]
    found += [entry for build in builds for entry in books.audit.find(text=build.id)]
    found += [entry for deployment in deployments for entry in books.audit.find(text=deployment.id)]
    entries = {entry.id: entry for entry in found}
    return tuple(entries[identifier] for identifier in sorted(entries))


def _drop_placeholder(text: str) -> str:
    return "" if text in _PLACEHOLDERS else text


def _describe_source(policy: Policy, name: str) -> str:
    """Return the kind and the place of a source, without names and passwords of a URL."""
    source = policy.sources.get(name)
    if source is None:
        return ""
    scheme, separator, rest = source.path.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else source.path
