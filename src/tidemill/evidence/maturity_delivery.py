"""Level 2: the pipeline itself is built, tested and deployed from source control."""

from tidemill.core.audit import AuditEntry
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.evidence.maturity_records import (
    MAX_RECORDS,
    EvidenceRecord,
    Finding,
    Rule,
    TrainingRecords,
    found,
    missing,
    run_records,
    to_records,
    verdict_records,
)

_PACKAGES = ("wheel", "executable")
_PROMOTE = "tidemill deploy promote"


def _find_source_control(records: TrainingRecords) -> Finding:
    builds = _find_builds(records)
    if builds:
        return found(_build_records(builds), f"builds of commits, the newest is {builds[0].commit[:12]}")
    if not records.trainings:
        return missing("no training with a commit is recorded", "git init && git add . && git commit, then train")
    newest = records.trainings[0]
    if not newest.code.get("commit"):
        return missing("the code of the newest training is in no git repository", "git init && git add . && git commit")
    clean = [run for run in records.trainings if run.code.get("commit") and not run.code.get("dirty")]
    if not clean or clean[0].id != newest.id:
        return missing("the newest training ran with uncommitted changes", "git commit, then train again")
    return found(run_records(clean, lambda run: f"{run.pipeline} at commit {str(run.code['commit'])[:12]}"))


def _find_ci(records: TrainingRecords) -> Finding:
    builds = _find_builds(records)
    passed = [build for build in builds if build.state == "passed"]
    if passed:
        text = f"{len(passed):,} builds passed, {len(builds) - len(passed):,} did not; the newest is {builds[0].label}"
        return found(_build_records(passed), text)
    text = f"no build passed: {builds[0].reason}" if builds else "no commit was built"
    return missing(text, "tidemill ci run, or `tidemill ci install-hook` for each push")


def _find_tests(records: TrainingRecords) -> Finding:
    return _find_check(records, "ci_tests", "no build was tested")


def _find_security(records: TrainingRecords) -> Finding:
    return _find_check(records, "ci_security", "no build was searched for secrets and unsafe files")


def _find_check(records: TrainingRecords, check: str, text: str) -> Finding:
    verdicts = records.books.verdicts.find(check=check, newest=True, limit=MAX_RECORDS)
    passed = [verdict for verdict in verdicts if verdict.outcome in ("pass", "warn")]
    if passed:
        return found(verdict_records(passed), f"{len(passed):,} passed, {len(verdicts) - len(passed):,} did not")
    return missing(f"all failed: {verdicts[0].reason}" if verdicts else text, "tidemill ci run")


def _find_packages(records: TrainingRecords) -> Finding:
    builds = [build for build in _find_builds(records) if _list_packages(build)]
    if builds:
        return found(_build_records(builds), f"{builds[0].label} has {', '.join(_list_packages(builds[0]))}")
    return missing("no build has a package", "tidemill ci run")


def _list_packages(build: Build) -> list[str]:
    kinds = [name for name in _PACKAGES if name in build.artifacts]
    return [*kinds, *(["image"] if build.image or "image" in build.artifacts else [])]


def _find_registry(records: TrainingRecords) -> Finding:
    packaged = [release for release in records.releases if release.package]
    if packaged:
        items = [(release.label, release.label, release.created) for release in packaged]
        return found(to_records("release", items), "releases have a digest, a stage and a history")
    return missing("there is no release", "see level 0")


def _find_test_deployment(records: TrainingRecords) -> Finding:
    return _find_deployment(
        records, "test", 'set branch = "…" under [environments.test] in tidemill.toml, and push to it'
    )


def _find_preproduction(records: TrainingRecords) -> Finding:
    return _find_deployment(records, "preproduction", f"{_PROMOTE} BUILD --to preproduction --reason …")


def _find_deployment(records: TrainingRecords, kind: str, cure: str) -> Finding:
    deployments = records.find_deployments(kind)
    if deployments:
        return found(_deployment_records(records, deployments))
    return missing(f"no build was deployed to an environment of the kind {kind}", cure)


def _find_production(records: TrainingRecords) -> Finding:
    deployments = records.find_deployments("production")
    if not deployments:
        text = "no build was deployed to an environment of the kind production"
        return missing(text, f"{_PROMOTE} BUILD --to production --reason …")
    approved = [(deployment, entry) for deployment in deployments if (entry := _find_approval(records, deployment))]
    if approved:
        deployment, entry = approved[0]
        text = f"{_name_build(records, deployment)} in {deployment.environment}, approved by {entry.actor}"
        return found(_deployment_records(records, [item for item, _ in approved]), text)
    newest = deployments[0]
    text = f"{_name_build(records, newest)} is in {newest.environment} without an approval of another person"
    return missing(
        text,
        "set approvals in tidemill.toml, then `tidemill deploy approve BUILD --to ENVIRONMENT --reason …`",
    )


def _find_approval(records: TrainingRecords, deployment: Deployment) -> AuditEntry | None:
    """Return the approval of the build for the environment by a person who did not write or push it."""
    until = deployment.healthy or deployment.time
    build = _get_build(records, deployment)
    writers = {build.pusher, *build.authors} if build is not None else set[str]()
    entries = records.books.audit.find(action="approved build", text=deployment.build, newest=True, limit=MAX_RECORDS)
    for entry in entries:
        names = {entry.actor, *records.policy.people.get(entry.actor, ())}
        if entry.environment == deployment.environment and entry.time <= until and not names & writers:
            return entry
    return None


def _find_continuous_training(records: TrainingRecords) -> Finding:
    deployed = [
        deployment
        for kind in ("production", "preproduction")
        for deployment in records.find_deployments(kind)
        if deployment.environment == records.environment
    ]
    if not deployed:
        text = f"no build of the pipeline is deployed to {records.environment}"
        return missing(text, f"{_PROMOTE} BUILD --to {records.environment} --reason …")
    first = min(deployment.time for deployment in deployed)
    runs = [run for run, _ in records.triggered if run.started >= first]
    if runs:
        return found(
            run_records(runs, lambda run: f"{run.pipeline} {run.state} by the trigger {run.started_by.trigger}")
        )
    return missing("since the first deployment, no trigger has started a training there", "tidemill up")


def _find_monitoring_trigger(records: TrainingRecords) -> Finding:
    caused = [(run, event) for run, event in records.triggered if event is not None and event.kind == "verdict"]
    if caused:
        _, event = caused[0]
        text = f"verdicts started trainings, the last time: {event.announcement.reason or event.subject}"
        return found(run_records([run for run, _ in caused]), text)
    has_trigger = any(trigger.on == "verdict" for trigger in records.policy.triggers)
    return missing(
        "no verdict of the watch has started a training",
        "tidemill up; a verdict with the action `retrain` starts it"
        if has_trigger
        else 'add to tidemill.toml: [[triggers]] name = "retrain", on = "verdict", '
        'where = { action = "retrain" }, pipeline = "training"',
    )


def _find_builds(records: TrainingRecords) -> list[Build]:
    return records.books.builds.find(newest=True, limit=MAX_RECORDS)


def _get_build(records: TrainingRecords, deployment: Deployment) -> Build | None:
    builds = records.books.builds.find(id=deployment.build, limit=1)
    return builds[0] if builds else None


def _name_build(records: TrainingRecords, deployment: Deployment) -> str:
    build = _get_build(records, deployment)
    return build.label if build else deployment.build


def _build_records(builds: list[Build]) -> list[EvidenceRecord]:
    return to_records("build", ((build.id, f"{build.label} {build.state}", build.created) for build in builds))


def _deployment_records(records: TrainingRecords, deployments: list[Deployment]) -> list[EvidenceRecord]:
    items = ((d.id, f"{_name_build(records, d)} in {d.environment} by {d.by}", d.time) for d in deployments[:3])
    rest = ((d.id, d.environment, d.time) for d in deployments[3:])
    return to_records("deployment", (*items, *rest))


LEVEL_2 = (
    Rule(name="source control", about="the pipeline's code is at a commit", find=_find_source_control),
    Rule(name="continuous integration", about="each push is built in a fresh environment", find=_find_ci),
    Rule(name="tests", about="each build is tested", find=_find_tests),
    Rule(
        name="security checks",
        about="each build is searched for secrets, unsafe files and known vulnerabilities",
        find=_find_security,
        optional=True,
    ),
    Rule(name="packages", about="a build is a package: wheel, executable or image", find=_find_packages),
    Rule(name="model registry", about="releases are stored with their digest and history", find=_find_registry),
    Rule(name="deployment to test", about="a push deploys the pipeline to test", find=_find_test_deployment),
    Rule(
        name="deployment to pre-production",
        about="the pipeline runs in pre-production before production",
        find=_find_preproduction,
    ),
    Rule(
        name="approved deployment to production",
        about="a person approves what reaches production",
        find=_find_production,
    ),
    Rule(
        name="continuous training in the target",
        about="triggers train with the deployed pipeline",
        find=_find_continuous_training,
    ),
    Rule(
        name="monitoring that triggers",
        about="a verdict on live data starts a training",
        find=_find_monitoring_trigger,
    ),
)
