"""Learning: an online learner learns the labels of the service, through the gate, to a release in production.

`learning` is the pipeline: the champion learns each row that got a label, once, and its new state is a release.
"""

from datetime import datetime

import numpy as np
import polars as pl
from msgspec import json, to_builtins
from msgspec.structs import replace

from tidemill.checks.comparison import LEAST_COMPARED, describe_champion
from tidemill.checks.gate import combine_findings
from tidemill.checks.learning import Learning, TestThenTrain, check_test_then_train, compare_learner
from tidemill.core.check import Verdict
from tidemill.core.columns import KNOWN_AT, ROW_ID, TIME
from tidemill.core.metric import MetricVersion, ProjectMetrics
from tidemill.core.model import Manifest, Model
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.probe import PackageProbe
from tidemill.core.resources import JournalReader, Sources, TableReader
from tidemill.core.run import Metrics
from tidemill.data.arrays import Floats
from tidemill.data.metrics import losses
from tidemill.data.spellings import unify_columns
from tidemill.errors import ConfigurationError, DataError, NotFound
from tidemill.models.environment import compare_versions, list_versions
from tidemill.models.flavors.river import LearnerRows, OpenLearner
from tidemill.models.package import make_portable
from tidemill.models.transforming import compute_inputs
from tidemill.monitoring.learned import (
    FILE,
    LearnedRows,
    add_learned,
    describe_label_times,
    read_learned_rows,
    read_learning,
    read_unlearned,
)
from tidemill.monitoring.windows import read_truth, unpack_features
from tidemill.recipes.champion import check_champion
from tidemill.recipes.fingerprints import measure_errors
from tidemill.recipes.gating import (
    GateCase,
    check_baseline,
    check_package,
    check_predictions,
    check_signature,
    check_thresholds,
    list_findings,
)
from tidemill.recipes.judging import confirm, find_champion, find_metrics, measure_baseline, measure_on, probe_package
from tidemill.recipes.rows import drop_repeated_rows
from tidemill.recipes.scoring import SplitRows, score, score_candidate
from tidemill.recipes.training import finish, release
from tidemill.training.evaluate import to_truth
from tidemill.training.learners import score_then_learn

LEAST_ROWS = 2 * LEAST_COMPARED
"""The least number of new rows of an update: half of them are learned, and the other half compares it."""

_FLAVOR = "river"
# Rows come in the order of their labels, not of their events, and no source delivered them: the other checks of the
# gate are about the rows of a training.
_CHECKS = (check_signature, check_predictions, check_package, check_thresholds, check_baseline, check_champion)


@step
def take_labelled(
    policy: ModelPolicy,
    champion: Model | None,
    now: datetime,
    journal: JournalReader,
    tables: TableReader,
) -> tuple[pl.DataFrame, LearnedRows]:
    """Return the labelled rows that the champion has not learned, and what it has learned after them.

    They have the features as they were served, and are in the order in which their labels became known.

    Raises
    ------
    DataError
        if there is no champion.
    ConfigurationError
        if the champion is no online learner.
    """
    if champion is None:
        raise DataError(
            f"model {policy.name!r} has no champion that could learn", "train the first one: `tidemill run training`"
        )
    if champion.manifest.flavor != _FLAVOR:
        raise ConfigurationError(
            f"the champion of {policy.name!r} is a {champion.manifest.flavor} model, which cannot learn single rows",
            'set [training] estimator to an online learner, such as "learner:create", and train it first',
        )
    learned = read_learned_rows(champion)
    served = read_unlearned(journal, policy.name, learned, now)
    if served.is_empty():
        return pl.DataFrame(), learned
    served = unify_columns(served, {"truth": policy.problem.spellings})
    served = served.with_columns(read_truth(served["truth"], champion.manifest.signature).alias("truth"))
    served = served.drop_nulls("truth")
    after = add_learned(learned, served)
    served = served.filter(pl.col("role") != "bound")  # rows of a regime that another release serves
    if FILE not in champion.files:
        served = _drop_trained(served, champion.manifest, policy, tables)
    return _to_rows(served, policy.problem.label), after


@step(cache=False)
def count_labelled(rows: pl.DataFrame, policy: ModelPolicy) -> list[Verdict]:
    """Return a verdict that stops the run if there are too few new rows to judge an update; otherwise none."""
    if rows.height >= LEAST_ROWS:
        return []
    reason = (
        f"{rows.height} labelled rows are new to the champion; an update needs {LEAST_ROWS}: half of them are learned, "
        "half compare it"
    )
    evidence = {"rows": rows.height, "minimum": LEAST_ROWS}
    return [
        Verdict(
            check="gate",
            subject=policy.name,
            outcome="undecided",
            action="collect",
            reason=reason,
            evidence=evidence,
        )
    ]


@step(transient=True)
def halve(
    rows: pl.DataFrame,
    too_few: list[Verdict],  # noqa: ARG001 - a verdict stops the run
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows whose labels became known first, and the others."""
    half = rows.height // 2
    return rows[:half], rows[half:]


@step
def learn(
    champion: Model,
    first: pl.DataFrame,
    second: pl.DataFrame,
    learned: LearnedRows,
    policy: ModelPolicy,
) -> tuple[Model, Model, TestThenTrain]:
    """Learn rows in their order: return the champion after the first half, after all, and its losses on the way.

    Each row is predicted before it is learned (test, then train).
    """
    signature, problem = champion.manifest.signature, policy.problem
    opened, reader = OpenLearner(champion), LearnerRows(champion)
    before: list[Floats] = []
    unlearned: list[Floats] = []
    states: list[Model] = []
    for rows in (first, second):
        truth = to_truth(rows[problem.label], problem.task, signature.classes)
        inputs = reader.read(compute_inputs(champion, rows))
        scores = score_then_learn(opened.learner, inputs, truth.values, len(signature.classes))
        before.append(losses(truth, scores))
        unlearned.append(losses(truth, score(champion, rows)))
        states.append(_pack(opened.save(), champion.manifest, rows))
    compared = compare_learner(np.concatenate(before), np.concatenate(unlearned), policy.gate)
    data = _describe(champion.manifest, pl.concat([first, second])).data
    manifest = replace(states[1].manifest, data=data)
    candidate = replace(states[1], manifest=manifest, files=states[1].files | {FILE: json.encode(learned)})
    return states[0], candidate, compared


@step
def judge_update(
    compared: Model,
    champion: Model,
    first: pl.DataFrame,
    second: pl.DataFrame,
    losses_before: TestThenTrain,
    test_metrics: Metrics,
    probe: PackageProbe,
    metrics: list[MetricVersion],
    policy: ModelPolicy,
    sources: Sources,
    project_metrics: ProjectMetrics,
    tables: TableReader,
) -> Verdict:
    """Judge what the champion learned, on rows that neither it nor its new state has learned, in one verdict.

    A new state that is not better than the trivial baseline is refused, also if the champion is not either: its rows
    are learned again with newer ones, so waiting costs little, and labels that are wrong look like a new concept.
    """
    source = sources.definition(policy.problem.source)
    scored = score_candidate(compared, second, policy.problem, source)
    case = GateCase(
        candidate=scored,
        compared=scored,
        champion=_forget_training(champion),
        rows=SplitRows(first, None, second),
        policy=policy,
        source=source,
        stopped_batches=(),
        test_metrics=test_metrics,
        probe=probe,
        metrics=metrics,
        project_metrics=project_metrics,
        tables=tables,
        folds=None,
    )
    findings = [check_test_then_train(losses_before, policy.gate), *list_findings(case, _CHECKS)]
    verdict = combine_findings(policy.name, findings, has_canary=policy.rollout.decides_later)
    times = describe_label_times(pl.concat([first[KNOWN_AT], second[KNOWN_AT]]))
    verdict = replace(verdict, evidence=verdict.evidence | {"labels_known_at": to_builtins(times)})
    return describe_champion(verdict) if verdict.stops else verdict


@pipeline
def learning(policy: ModelPolicy, now: datetime) -> None:
    """Learn the labelled rows that are new to the champion, judge its new state, and release it."""
    champion = find_champion(policy)
    rows, learned = take_labelled(policy, champion, now)
    first, second = halve(rows, count_labelled(rows, policy))
    compared, candidate, losses_before = learn(champion, first, second, learned, policy)
    metrics, settings = find_metrics(), policy.training_settings
    test_metrics = measure_on(compared, second, policy, "test", metrics)
    train_metrics = measure_on(compared, first, policy, "train", metrics)
    baseline_metrics = measure_baseline(compared, first, second, settings)
    errors = measure_errors(compared, second, settings)
    verdict = None
    if policy.gate.enabled:
        probe = probe_package(compared, policy.gate)
        verdict = judge_update(compared, champion, first, second, losses_before, test_metrics, probe, metrics, policy)
    whole = wait_for(candidate, verdict)
    verdict = confirm(whole, probe_package(whole, policy.gate), policy)
    release(finish(whole, test_metrics, baseline_metrics, train_metrics, verdict, errors), policy)


@step(transient=True)
def wait_for(candidate: Model, verdict: Verdict | None) -> Model:  # noqa: ARG001 - a verdict that stops ends the run
    """Return the champion after all rows, when the gate has judged it after half of them."""
    return candidate


def _drop_trained(served: pl.DataFrame, manifest: Manifest, policy: ModelPolicy, tables: TableReader) -> pl.DataFrame:
    """Drop served rows that the training has learned: their ids are in its table, with a label that was known then."""
    trained_on, problem = manifest.trained_on, policy.problem
    try:
        table = tables.read(trained_on.table, trained_on.version)
    except NotFound:
        return served
    known_until, known_at = manifest.data.get("known_until"), problem.label_known_at or KNOWN_AT
    if known_until is None or not {known_at, problem.label} <= set(table.columns):
        return served
    until = datetime.fromisoformat(known_until)
    return drop_repeated_rows(
        served, table.filter(pl.col(known_at) <= until, pl.col(problem.label).is_not_null()), manifest.key
    )


def _to_rows(served: pl.DataFrame, label: str) -> pl.DataFrame:
    """Return predictions with their truth in the form of the rows of a training."""
    features = unpack_features(served)
    return features.drop(label, strict=False).with_columns(
        served["truth"].alias(label),
        served["time"].alias(TIME),
        served["first_known_at"].alias(KNOWN_AT),
        served["id"].alias(ROW_ID),
    )


def _pack(saved: Model, manifest: Manifest, rows: pl.DataFrame) -> Model:
    """Return a saved learner with a lock of the installed versions, if they have changed since the champion."""
    packed = replace(saved, manifest=replace(manifest, data=_describe(manifest, rows).data))
    if not compare_versions(manifest.environment):
        return packed
    environment = list_versions(*(name for name in manifest.environment if name != "python"))
    return make_portable(replace(packed, manifest=replace(packed.manifest, environment=environment)))


def _describe(manifest: Manifest, rows: pl.DataFrame) -> Manifest:
    """Return the manifest of a champion that has learned these rows, too."""
    earlier, trained_on = read_learning(manifest), manifest.trained_on
    oldest, newest = rows[TIME].min(), rows[TIME].max()
    assert isinstance(oldest, datetime)
    assert isinstance(newest, datetime)
    learned = Learning(
        rows=rows.height,
        all_rows=rows.height + (earlier.all_rows if earlier else 0),
        labels=describe_label_times(rows[KNOWN_AT]),
    )
    data = {
        "rows": trained_on.rows + rows.height,
        "trained_from": min(oldest, trained_on.trained_from or oldest).isoformat(),
        "trained_until": max(newest, trained_on.trained_until or newest).isoformat(),
        "learned": to_builtins(learned),
    }
    return replace(manifest, data=manifest.data | data)


def _forget_training(champion: Model) -> Model:
    """Return the champion without the time of its newest row.

    The journal knows which rows it has learned: rows in the order of their labels can be older than its newest row.
    """
    data = {name: value for name, value in champion.manifest.data.items() if name != "trained_until"}
    return replace(champion, manifest=replace(champion.manifest, data=data))
