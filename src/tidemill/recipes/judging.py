"""Evaluation: the steps that measure a candidate, probe its package and decide at the gate."""

from typing import Any

import polars as pl
from msgspec.structs import replace

from tidemill.checks.comparison import describe_champion
from tidemill.checks.gate import combine_findings
from tidemill.checks.package import check_probe
from tidemill.core.artifact import Report
from tidemill.core.check import Verdict
from tidemill.core.columns import BATCH, TIME
from tidemill.core.context import Context
from tidemill.core.metric import MetricVersion, ProjectMetrics
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import Gate, ModelPolicy, Training
from tidemill.core.probe import Environments, PackageProbe
from tidemill.core.resources import Books, BooksReader, Packages, Sources, TableReader
from tidemill.core.run import Metrics
from tidemill.data.plots import render_plots
from tidemill.models.inputs import load_samples
from tidemill.models.package import list_warm_modules, to_files
from tidemill.recipes.gating import GateCase, GateFacts, SnapshotCheck, run_checks
from tidemill.recipes.ingestion import find_stopped_ids
from tidemill.recipes.regime_rows import RowChoice
from tidemill.recipes.rows import Snapshot
from tidemill.recipes.scoring import (
    SplitRows,
    digest_rows,
    measure_project_metrics,
    score_candidate,
    score_rows,
    score_samples,
    select_learned,
)
from tidemill.registry.bindings import read_regime
from tidemill.registry.routing import find_current_route
from tidemill.training.evaluate import evaluate, find_slices, predict_baseline, to_truth

_TRAIN_SAMPLE = 20_000
_PLOTTED_ROWS = 5_000


@step(cache=False)
def find_metrics(project_metrics: ProjectMetrics) -> list[MetricVersion]:
    """Return the project's own metrics, each with the digest of its code: a changed metric is measured again."""
    return project_metrics.versions()


@step
def measure_on(
    model: Model,
    rows: pl.DataFrame,
    policy: ModelPolicy,
    about: str,
    metrics: list[MetricVersion],
    sources: Sources,
    project_metrics: ProjectMetrics,
) -> Metrics:
    """Return a model's metrics on rows as they would be served: overall and by slice.

    Rows of a class that it was not trained on are excluded; the gate reports them.
    """
    rows = select_learned(model, rows, policy.problem)
    source = sources.definition(policy.problem.source)
    truth, scores = score_rows(model, rows, policy.problem, source)
    measured = evaluate(truth, scores, find_slices(rows, policy.gate.slices), about, policy.gate.confidence)
    values = measured.values | measure_project_metrics(metrics, project_metrics, truth, scores, rows)
    return replace(measured, values=values, rows=digest_rows(rows, policy.problem, source), count=rows.height)


@step
def measure_baseline(model: Model, train: pl.DataFrame, test: pl.DataFrame, policy: ModelPolicy) -> Metrics:
    """Return the metrics of the trivial baseline on the test rows: it predicts the class shares, or the mean."""
    classes, problem = model.manifest.signature.classes, policy.problem
    learned, rows = (select_learned(model, part, problem) for part in (train, test))
    truth = to_truth(rows[problem.label], problem.task, classes)
    scores = predict_baseline(to_truth(learned[problem.label], problem.task, classes), rows.height)
    measured = evaluate(truth, scores, {}, "baseline", policy.gate.confidence)
    return replace(measured, intervals={}, count=rows.height)


@step
def plot_predictions(model: Model, rows: pl.DataFrame, policy: ModelPolicy, sources: Sources) -> Report:
    """Plot a model's predictions for rows that it has not seen, at most 5,000 of them."""
    rows = select_learned(model, rows, policy.problem)
    rows = rows.gather_every(max(1, -(-rows.height // _PLOTTED_ROWS)))
    truth, scores = score_rows(model, rows, policy.problem, sources.definition(policy.problem.source))
    return Report(html=render_plots(truth, scores, f"{policy.name}: predictions for the test rows"))


@step(transient=True)
def sample(rows: pl.DataFrame, options: Training) -> pl.DataFrame:
    """Return at most 20,000 of the rows: enough to measure how well a model fits its training rows."""
    return rows.sample(_TRAIN_SAMPLE, seed=options.seed) if rows.height > _TRAIN_SAMPLE else rows


@step
def find_champion(
    policy: ModelPolicy, books: Books, packages: Packages, context: Context, choice: RowChoice | None = None
) -> Model | None:
    """Return the champion's package, to compare with; None before the first release.

    If the rows are those of one value of the key, it is the release that serves them: the bound one, if there is one.
    """
    route = find_current_route(books, context.environment, policy.name)
    arm = route.arm("champion") if route else None
    if route is not None and choice is not None and choice.value:
        arm = route.find_bound(choice.value) or arm
    if arm is None:
        return None
    books.runs.change(context.run, lambda run: replace(run, compared_with=arm.release))
    return packages.load(arm.package)


@step
def check_snapshot(snapshot: Snapshot, books: BooksReader, tables: TableReader, context: Context) -> SnapshotCheck:
    """Return the batches of a snapshot that a check stopped and that no person has accepted since."""
    stopped = find_stopped_ids(books, context.environment)
    if not stopped:
        return SnapshotCheck()
    batches = set(tables.read(snapshot.table, snapshot.version, [BATCH])[BATCH].unique())
    return SnapshotCheck(stopped=tuple(sorted(stopped & batches)))


@step
def probe_package(model: Model, policy: Gate, environments: Environments) -> PackageProbe:
    """Predict a package's sample rows in a fresh process that has only the packages of its lock."""
    rows = load_samples(model).to_dicts()
    return environments.probe(
        to_files(model), _to_json_rows(rows), list_warm_modules(model), strict=policy.environment == "strict"
    )


@step
def gate(
    candidate: Model,
    champion: Model | None,
    rows: SplitRows,
    facts: GateFacts,
    policy: ModelPolicy,
    sources: Sources,
    project_metrics: ProjectMetrics,
    tables: TableReader,
) -> Verdict:
    """Judge a candidate by its data, its package, and its predictions for the test rows, in one verdict.

    The candidate is compared with the champion only on rows that neither has learned from, fitted on all older rows. A
    refusal states whether the champion itself would pass. A candidate for one value of the key takes part in no canary.
    """
    if facts.choice is not None and facts.choice.value:
        policy = _adapt_policy(policy, champion, facts.choice)
    source = sources.definition(policy.problem.source)
    scored = score_candidate(candidate, rows.test, policy.problem, source)
    compared = facts.compared
    if compared is None or compared.manifest.trained_on == candidate.manifest.trained_on:
        compared_scores = scored
    else:
        newer = rows.test.filter(pl.col(TIME) > compared.manifest.trained_on.trained_until)
        compared_scores = score_candidate(compared, newer, policy.problem, source)
    case = GateCase(
        candidate=scored,
        compared=compared_scores,
        champion=champion,
        rows=rows,
        policy=policy,
        source=source,
        stopped_batches=facts.snapshot_check.stopped,
        test_metrics=facts.test_metrics,
        probe=facts.probe,
        metrics=facts.metrics,
        project_metrics=project_metrics,
        tables=tables,
        folds=facts.folds,
    )
    has_canary = champion is not None and policy.rollout.decides_later
    verdict = combine_findings(policy.name, run_checks(case), has_canary=has_canary)
    return describe_champion(verdict) if verdict.stops else verdict


def _adapt_policy(policy: ModelPolicy, champion: Model | None, choice: RowChoice) -> ModelPolicy:
    """Return the policy for a candidate for one value: no canary, and its rows may be older than the champion's."""
    own = champion is not None and read_regime(champion.manifest.data) == choice.regime
    gate_policy = policy.gate if own else replace(policy.gate, older_data=True)
    return replace(policy, gate=gate_policy, rollout=replace(policy.rollout, canary=False))


@step
def confirm(model: Model, probe: PackageProbe, policy: ModelPolicy) -> Verdict:
    """Judge the package that was fitted again on all rows: its predictions and its lock, not its metrics."""
    return combine_findings(policy.name, check_probe(probe, score_samples(model), policy.gate), check="package")


def _to_json_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with times as text, for JSON."""
    return [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in rows
    ]
