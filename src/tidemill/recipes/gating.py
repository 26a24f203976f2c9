"""The checks of the gate, in their order; each check reads some fields of a `GateCase` and returns findings."""

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.comparison import (
    CHAMPION_CHECKS,
    check_metric_thresholds,
    choose_better_of_two,
    compare,
    compare_on_folds,
)
from tidemill.checks.gate import Finding
from tidemill.checks.infrastructure import INFRASTRUCTURE_FINDINGS, SERVICE_FINDINGS
from tidemill.checks.leaks import LEAK_FINDINGS, find_leaks
from tidemill.checks.package import PACKAGE_FINDINGS, check_probe, check_signature_change
from tidemill.checks.promotion import PROMOTION_FINDINGS
from tidemill.checks.registry import CHECKS, CheckInfo, gate_finding
from tidemill.core.metric import MetricVersion, ProjectMetrics
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy
from tidemill.core.probe import PackageProbe
from tidemill.core.resources import TableReader
from tidemill.core.run import Metrics
from tidemill.core.source import Source
from tidemill.data.frame import TIME
from tidemill.data.keys import to_class_names
from tidemill.data.metrics import losses
from tidemill.data.split import choose_split_kind
from tidemill.models.transforming import add_computed
from tidemill.recipes.champion import check_champion
from tidemill.recipes.folds import FoldComparison
from tidemill.recipes.regime_rows import RowChoice
from tidemill.recipes.scoring import Candidate, SplitRows, score_samples
from tidemill.training.evaluate import filter_classes, find_slices, predict_baseline, to_truth


class SnapshotCheck(Struct, frozen=True, kw_only=True):
    """The batches of a snapshot that the ledger records as stopped."""

    stopped: tuple[str, ...] = ()


class GateFacts(NamedTuple):
    """What earlier steps of the training measured: the candidate's metrics and package, and the data's batches.

    `compared` is the model that is compared with the champion: the candidate, fitted also on the test rows that the
    champion has learned. Without it, the candidate is compared itself. `choice` is the choice of its rows.
    """

    test_metrics: Metrics
    snapshot_check: SnapshotCheck
    probe: PackageProbe
    metrics: list[MetricVersion]
    folds: FoldComparison | None = None
    compared: Model | None = None
    choice: RowChoice | None = None


class GateCase(NamedTuple):
    """A candidate at the gate, and the inputs of its checks."""

    candidate: Candidate
    champion: Model | None
    rows: SplitRows
    policy: ModelPolicy
    source: Source
    stopped_batches: tuple[str, ...]
    test_metrics: Metrics
    probe: PackageProbe
    metrics: list[MetricVersion]
    project_metrics: ProjectMetrics
    tables: TableReader
    folds: FoldComparison | None
    compared: Candidate


def check_data(
    candidate: Candidate,
    champion: Model | None,
    rows: SplitRows,
    stopped_batches: tuple[str, ...],
    policy: ModelPolicy,
) -> list[Finding]:
    """Check the training rows: no batch was stopped, and they are not older than the champion's.

    They may be older if a person has withdrawn a batch that the champion may have learned from.
    """
    findings = []
    if stopped_batches:
        batch_names = ", ".join(stopped_batches[:3])
        reason = f"it was trained on stopped batches: {batch_names} (see `tidemill checks list`)"
        evidence: dict[str, object] = {"stopped_batches": list(stopped_batches)}
        findings.append(Finding(about="data", outcome="fail", reason=reason, evidence=evidence))
    champion_newest = champion.manifest.trained_on.trained_until if champion else None
    if champion_newest is not None and not (policy.gate.older_data or _has_newly_withdrawn(candidate.model, champion)):
        times = rows.learned[TIME]
        newest = (pl.concat([times, rows.test[TIME]]) if policy.training.refit else times).max()
        if isinstance(newest, datetime) and newest < champion_newest:
            data_until, champion_until = newest.isoformat(), champion_newest.isoformat()
            reason = f"its data is older than the champion's: it ends at {data_until}, not at {champion_until}"
            evidence = {"data_until": data_until, "champion_data_until": champion_until}
            findings.append(Finding(about="data", outcome="fail", reason=reason, evidence=evidence))
    return findings


def _has_newly_withdrawn(candidate: Model, champion: Model | None) -> bool:
    """Return whether a batch was withdrawn since the champion was trained."""
    withdrawn, earlier = (model.manifest.data.get("withdrawn", ()) if model else () for model in (candidate, champion))
    return bool(set(withdrawn) - set(earlier))


def check_classes(candidate: Candidate, rows: SplitRows, policy: ModelPolicy) -> list[Finding]:
    """Check whether validation and test rows have classes that no training row has."""
    known, label, held_out = candidate.model.manifest.signature.classes, policy.problem.label, rows.held_out
    excluded = held_out.height - filter_classes(held_out, label, known).height
    if not excluded:
        return []
    new = sorted(set(to_class_names(held_out[label])) - set(known))
    class_names = ", ".join(new[:3])
    rows_text = f"{excluded} of {held_out.height} validation and test rows"
    reason = f"{rows_text} are excluded: no training row has their class ({class_names})"
    return [Finding(about="classes", outcome="warn", reason=reason, evidence={"unlearned": new, "left_out": excluded})]


def check_leaks(
    candidate: Candidate, champion: Model | None, rows: SplitRows, source: Source, policy: ModelPolicy
) -> list[Finding]:
    """Check that no input reveals the label, and that no test row is equal to or older than a training row."""
    inputs = tuple(column.name for column in candidate.model.manifest.signature.inputs)
    learned, test = (add_computed(candidate.model, part) for part in (rows.learned, rows.test))
    return find_leaks(
        learned,
        test,
        inputs=inputs + tuple(name for name in learned.columns if name not in rows.train.columns),
        label=policy.problem.label,
        key=source.key,
        group=policy.training.group,
        timed=choose_split_kind(policy.training, timed=bool(source.time)) == "time",
        most=policy.gate.leakage,
        earlier=_select_earlier(learned, candidate.model, champion, policy.problem.label),
    )


def _select_earlier(learned: pl.DataFrame, candidate: Model, champion: Model | None, label: str) -> pl.DataFrame | None:
    """Return the rows that the champion has learned, with the label and the inputs that come with its requests."""
    until = champion.manifest.trained_on.trained_until if champion is not None else None
    if champion is None or until is None or TIME not in learned.columns:
        return None
    known = _list_request(champion) & _list_request(candidate) & set(learned.columns)
    return learned.filter(pl.col(TIME) <= until).select(label, *sorted(known - {label}))


def _list_request(model: Model) -> set[str]:
    """Return the inputs that come with a request: what code computes can have another meaning under the same name."""
    features = model.manifest.features
    names = features.request if features is not None else tuple(item.name for item in model.manifest.signature.inputs)
    return set(names)


def check_signature(candidate: Candidate, champion: Model | None, policy: ModelPolicy) -> list[Finding]:
    """Check that the candidate accepts the requests that the champion accepts."""
    deployed = champion.manifest.signature if champion else None
    return check_signature_change(deployed, candidate.model.manifest.signature, policy.gate)


def check_predictions(candidate: Candidate) -> list[Finding]:
    """Check that the candidate predicts finite numbers or probabilities, and the same ones in a second run."""
    return candidate.prediction_findings


def check_package(candidate: Candidate, probe: PackageProbe, policy: ModelPolicy) -> list[Finding]:
    """Check that the package predicts the same in a fresh process; skip this check if `check_predictions` failed."""
    if candidate.prediction_findings[0].about != "answers":
        return []
    return check_probe(probe, score_samples(candidate.model), policy.gate)


def check_thresholds(test_metrics: Metrics, policy: ModelPolicy) -> list[Finding]:
    """Check that the metrics on the test rows are within the policy's thresholds."""
    return check_metric_thresholds(test_metrics.values, policy.gate.thresholds, test_metrics.intervals)


def check_baseline(
    candidate: Candidate, champion: Model | None, rows: SplitRows, policy: ModelPolicy, folds: FoldComparison | None
) -> list[Finding]:
    """Check that the candidate is better than the trivial baseline; without a champion, on each slice too.

    With `folds`, the rows of all folds decide, unless the test rows prove that the candidate is not better.
    """
    if not candidate.measurable:
        return []
    truth = candidate.truth
    train_truth = to_truth(rows.train[policy.problem.label], policy.problem.task, truth.classes)
    baseline = losses(truth, predict_baseline(train_truth, candidate.rows.height))
    slices = find_slices(candidate.rows, policy.gate.slices) if champion is None else {}
    findings = compare(candidate.losses, baseline, None, policy=policy.gate, slices=slices)
    if folds is None or findings[-1].outcome == "fail":
        return findings
    on_folds = compare_on_folds(
        np.array(folds.losses), np.array(folds.baseline_losses), policy.gate, folds=folds.folds, ratio=folds.ratio
    )
    return [*findings[:-1], replace(on_folds, evidence=findings[-1].evidence | on_folds.evidence)]


class GateCheck(NamedTuple):
    """A check of the gate: its function, whose parameters name fields of `GateCase`, and the findings that it adds."""

    run: Callable[..., list[Finding]]
    findings: tuple[CheckInfo, ...]


# The order matters: if all checks pass, the last finding is the reason of the verdict.
GATE_CHECKS: tuple[GateCheck, ...] = (
    GateCheck(
        check_data,
        (gate_finding("data", "its training rows with stopped batches and the champion's newest row", "rows"),),
    ),
    GateCheck(
        check_classes,
        (gate_finding("classes", "the classes of newer rows with those of its training rows", "rows", "labels"),),
    ),
    GateCheck(check_leaks, LEAK_FINDINGS),
    GateCheck(
        check_signature,
        (gate_finding("signature", "its signature with that of the champion", "package", "champion"),),
    ),
    GateCheck(
        check_predictions,
        (
            gate_finding("answers", "its predictions with finite numbers and probabilities", "rows"),
            gate_finding("determinism", "its predictions with those of a second request for the same rows", "rows"),
        ),
    ),
    GateCheck(check_package, PACKAGE_FINDINGS),
    GateCheck(
        check_thresholds,
        (
            gate_finding(
                "thresholds",
                "its metrics on test rows with the limits of its policy; a finding per metric",
                "rows",
                "labels",
            ),
        ),
    ),
    GateCheck(
        check_baseline,
        (gate_finding("baseline", "its loss with that of the trivial baseline", "rows", "labels"),),
    ),
    GateCheck(
        check_champion,
        (
            gate_finding(
                "metrics",
                "its metrics with those of the champion on the same test rows",
                "rows",
                "labels",
                "champion",
            ),
            gate_finding(
                CHAMPION_CHECKS,
                "the champion with the thresholds and the trivial baseline, on the same rows",
                "rows",
                "labels",
                "champion",
            ),
            gate_finding(
                "champion",
                "its loss with that of the champion on rows that neither was trained on",
                "rows",
                "labels",
                "champion",
            ),
            gate_finding("slices", "its loss with that of the champion on each slice", "rows", "labels", "champion"),
        ),
    ),
)


LEARNING_FINDING = gate_finding(
    "test_then_train",
    "the losses of an online learner just before it learned each row with those of the champion, which did not",
    "rows",
    "labels",
    "champion",
)


def list_check_kinds() -> tuple[CheckInfo, ...]:
    """Return all checks: those that store verdicts, after the gate its findings, and those of deployments."""
    findings = (*(finding for check in GATE_CHECKS for finding in check.findings), LEARNING_FINDING)
    position = 1 + next(index for index, check in enumerate(CHECKS) if check.name == "gate")
    deployment = (*PROMOTION_FINDINGS, *INFRASTRUCTURE_FINDINGS, *SERVICE_FINDINGS)
    return (*CHECKS[:position], *findings, *CHECKS[position:], *deployment)


def run_checks(case: GateCase) -> list[Finding]:
    """Return the findings of all checks; each check gets the fields of the case that its parameters name."""
    return choose_better_of_two(list_findings(case, tuple(check.run for check in GATE_CHECKS)))


def list_findings(case: GateCase, checks: tuple[Callable[..., list[Finding]], ...]) -> list[Finding]:
    """Return the findings of some checks."""
    findings: list[Finding] = []
    for check in checks:
        findings += check(**{field: getattr(case, field) for field in inspect.signature(check).parameters})
    return findings
