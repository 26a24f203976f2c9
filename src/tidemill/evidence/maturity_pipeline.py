"""Levels 0 and 1: a model is registered and served; a pipeline trains, validates, deploys and monitors it."""

from collections import Counter

from tidemill.core.event import Event
from tidemill.core.run import Run
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

_PERFORMANCE_CHECKS = ("performance", "drift", "regime", "binding", "change", "learning")
_OTHER_CHECKS = ("age", "growth", "silence", "retraining", "answers")
_DATA_KINDS = ("data", "rows", "predictions", "labels")


def _find_registered(records: TrainingRecords) -> Finding:
    if records.releases:
        manual = sum(not release.run for release in records.releases)
        items = [(release.label, release.label, release.created) for release in records.releases]
        text = f"the newest is {records.releases[0].label}"
        return found(to_records("release", items), f"{text}; {manual:,} registered manually" if manual else text)
    if records.settings is None:
        return missing("the model has no release", "tidemill models register FILE --samples ROWS")
    return missing("the model has no release", "tidemill run training")


def _find_served(records: TrainingRecords) -> Finding:
    route = records.routes[0] if records.routes else None
    if route is not None and route.arms:
        serving = ", ".join(f"{arm.release} ({arm.role})" for arm in route.arms if arm.role != "shadow")
        item = EvidenceRecord(kind="route", id=route.id, text=f"{serving} in {route.environment}", time=route.since)
        return found([item])
    newest = records.releases[0].label if records.releases else "RELEASE"
    text = "no release serves the model" if route is None else "the model was withdrawn: no release serves it"
    cure = f"tidemill models promote {newest} --reason …" if records.releases else "register a release first"
    if records.environment != "production" and records.releases:
        cure += f" --env {records.environment}"
    return missing(f"{text} in {records.environment}", cure)


def _find_pipeline(records: TrainingRecords) -> Finding:
    released = {release.run for release in records.releases if release.run}
    made = [run for run in records.trainings if run.id in released]
    if made:
        steps = len({step.step for step in records.books.steps.find(run=made[0].id)})
        return found(run_records(made), f"{made[0].pipeline} made releases, the newest in {steps} recorded steps")
    if records.settings is None:
        return missing("the releases were registered manually: no pipeline trains the model", records.describe_model)
    return missing(
        f"no run in {records.environment} made a release", f"tidemill run training{_environment_option(records)}"
    )


def _find_symmetry(records: TrainingRecords) -> Finding:
    champion = records.champion
    made = {run.id: run for run in records.trainings}
    if champion is not None and champion.run in made:
        run = made[champion.run]
        code = str(run.code.get("digest", ""))[:12]
        text = f"the champion {champion.label} was trained in {run.environment} by {run.pipeline}, code {code}"
        return found(run_records([run]), text)
    if champion is None:
        return missing("there is no champion", "see level 0")
    where = "registered manually" if not champion.run else "trained in another environment"
    if records.settings is None:
        return missing(f"the champion {champion.label} was {where}", records.describe_model)
    cure = f"tidemill run training{_environment_option(records)}"
    return missing(f"the champion {champion.label} was {where}: what is deployed is a model, not its pipeline", cure)


def _find_data_validation(records: TrainingRecords) -> Finding:
    sources = {records.settings.problem.source} if records.settings else set()
    sources |= {release.trained_on.table for release in records.releases} - {""}
    verdicts = [
        verdict
        for verdict in records.books.verdicts.find(
            check="schema", environment=records.environment, newest=True, limit=MAX_RECORDS
        )
        if verdict.subject.partition("/")[0] in sources
    ]
    if verdicts:
        stopped = sum(verdict.stops for verdict in verdicts)
        return found(verdict_records(verdicts), f"batches: {len(verdicts) - stopped:,} accepted, {stopped:,} stopped")
    if records.settings is None:
        return missing("its data is outside Tidemill", f"declare its source in tidemill.toml: {records.describe_model}")
    return missing("no batch was checked", f"tidemill run ingestion{_environment_option(records)}")


def _find_model_validation(records: TrainingRecords) -> Finding:
    if records.gate_verdicts:
        outcomes = Counter(verdict.outcome for verdict in records.gate_verdicts)
        text = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
        return found(verdict_records(records.gate_verdicts), f"verdicts of the gate: {text}")
    if records.settings is None:
        return missing("no gate judges its releases", records.describe_model)
    if not records.settings.gate.enabled:
        return missing("the gate is disabled", "set enabled = true under [gate] in tidemill.toml")
    return missing("the gate has judged no candidate", f"tidemill run training{_environment_option(records)}")


def _find_metadata(records: TrainingRecords) -> Finding:
    runs = [run for run in records.trainings if run.code.get("digest")]
    if runs:
        text = "runs with code, parameters, inputs, outputs and metrics; see `tidemill runs lineage`"
        return found(run_records(runs), text)
    cure = records.describe_model if records.settings is None else "tidemill run training"
    return missing("no run of a training is recorded", cure)


def _find_features(records: TrainingRecords) -> Finding:
    runs = records.books.runs.find(
        pipeline="materialization", environment=records.environment, state="done", newest=True, limit=MAX_RECORDS
    )
    views = records.settings.inputs.views if records.settings else ()
    if runs:
        return found(run_records(runs), f"features of {', '.join(views) or 'other models'} were materialized")
    if views:
        option = _environment_option(records)
        return missing("its feature views are not materialized", f"tidemill run materialization{option}")
    text = "the model uses no feature views: its inputs come with the request"
    return missing(text, "define a view in features.py and name it in [inputs] views")


def _find_triggers(records: TrainingRecords) -> Finding:
    if records.triggered:
        kinds = Counter(_name_trigger(run, event) for run, event in records.triggered)
        text = "trainings were started by " + ", ".join(f"{name} ({count:,})" for name, count in sorted(kinds.items()))
        return found(run_records([run for run, _ in records.triggered]), text)
    if records.settings is None:
        return missing("no trigger can train the model", records.describe_model)
    names = {run.pipeline for run in records.trainings} or {"training"}
    if any(trigger.pipeline in names for trigger in records.policy.triggers):
        return missing("a trigger exists, but has started no training yet", "tidemill up")
    return missing(
        "no trigger starts a training",
        'add to tidemill.toml: [[triggers]] name = "performance or age", on = "verdict", '
        'where = { action = "retrain" }, pipeline = "training"; then `tidemill up`',
    )


def _name_trigger(run: Run, event: Event | None) -> str:
    if event is None:
        return f"the schedule {run.started_by.trigger}"
    if event.kind == "verdict":
        return f"the check {event.payload.get('check', '')}".strip()
    return "new data" if event.kind in _DATA_KINDS else f"the event {event.kind}"


def _find_continuous_delivery(records: TrainingRecords) -> Finding:
    made = {release.label for release in records.releases if release.run}
    changed = [
        route
        for route in records.routes
        if route.change not in ("manual", "unknown", "rollback") and any(arm.release in made for arm in route.arms)
    ]
    if changed:
        items = [(route.id, f"{route.change}: {route.reason}", route.since) for route in changed]
        return found(to_records("route", items), f"the policy changed the route, the last time: {changed[0].reason}")
    if records.settings is None:
        return missing("people promote its releases", records.describe_model)
    if not records.settings.watch.values:
        cure = "add [[watch.values]] to tidemill.toml: a release without a watch is not deployed"
        return missing("nothing watches the model", cure)
    return missing("the policy has deployed no release", f"tidemill run training{_environment_option(records)}")


def _find_online_validation(records: TrainingRecords) -> Finding:
    verdicts = records.find_verdicts("traffic")
    if verdicts:
        decided = [verdict for verdict in verdicts if verdict.action in ("promote", "rollback")]
        text = f"{len(decided):,} decisions on challengers; the newest: {(decided or verdicts)[0].reason}"
        return found(verdict_records(verdicts), text)
    if records.settings is None:
        return missing("no challenger was compared with the champion in production", records.describe_model)
    if not records.settings.rollout.canary:
        return missing("the rollout has no canary", "set canary = true under [rollout] in tidemill.toml")
    return missing(
        "no challenger was compared with the champion in production",
        "tidemill up; the second release starts as a canary, which is judged as labels arrive",
    )


def _find_monitoring(records: TrainingRecords) -> Finding:
    counts, verdicts = Counter[str](), []
    for check in (*_PERFORMANCE_CHECKS, *_OTHER_CHECKS):
        of_check = records.find_verdicts(check)
        counts[check] += len(of_check)
        verdicts += [v for v in of_check if check in _PERFORMANCE_CHECKS and v.outcome != "undecided"]
    if verdicts:
        text = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        return found(verdict_records(sorted(verdicts, key=lambda v: v.id, reverse=True)), f"verdicts by check: {text}")
    if records.settings is None:
        return missing("nothing watches the model", records.describe_model)
    if not records.settings.watch.values:
        return missing("nothing watches the model", "add [[watch.values]] to tidemill.toml")
    if sum(counts.values()):
        cure = "send predictions to `tidemill serve`, and labels to its path `/labels/MODEL`"
        return missing("the watch has too few rows or labels for a verdict on performance or drift", cure)
    return missing("the watch has not run", f"tidemill up, or `tidemill run watching{_environment_option(records)}`")


def _environment_option(records: TrainingRecords) -> str:
    return "" if records.environment == "production" else f" --env {records.environment}"


LEVEL_0 = (
    Rule(name="registered model", about="each model is a numbered release with its origin", find=_find_registered),
    Rule(name="prediction service", about="a release serves the requests for the model", find=_find_served),
)
LEVEL_1 = (
    Rule(
        name="automated training pipeline",
        about="a pipeline of recorded steps trains the model, not a person",
        find=_find_pipeline,
    ),
    Rule(
        name="the same pipeline in production",
        about="the pipeline runs in the environment in which its model serves",
        find=_find_symmetry,
    ),
    Rule(name="data validation", about="each batch is checked by a schema before training", find=_find_data_validation),
    Rule(
        name="model validation",
        about="each candidate is compared with a baseline and the champion",
        find=_find_model_validation,
    ),
    Rule(name="metadata", about="each run is recorded with its code, inputs, outputs and metrics", find=_find_metadata),
    Rule(
        name="feature store",
        about="features are defined once, and materialized for serving",
        find=_find_features,
        optional=True,
    ),
    Rule(name="triggers", about="a schedule, new data or a check starts the training", find=_find_triggers),
    Rule(
        name="continuous delivery of models",
        about="the policy deploys a release that passes its gate",
        find=_find_continuous_delivery,
    ),
    Rule(
        name="online validation",
        about="a challenger is compared with the champion in production",
        find=_find_online_validation,
    ),
    Rule(name="monitoring", about="the live performance and the inputs are checked", find=_find_monitoring),
)
