"""Judging: the steps by which a candidate is measured, tried out and let through, or not."""

from typing import Any

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.gate import combine_findings
from tidemill.checks.package import check_probe
from tidemill.core.artifact import Report
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.metric import MetricVersion
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import Gate, ModelPolicy, Training
from tidemill.core.probe import PackageProbe
from tidemill.core.resources import Books, BooksReader, Environments, Packages, ProjectMetrics, Sources, TableReader
from tidemill.core.run import Metrics
from tidemill.data.plots import render_plots
from tidemill.models.inputs import load_samples
from tidemill.models.package import list_warm_modules, to_files
from tidemill.recipes.gating import Case, SplitRows, run_checks
from tidemill.recipes.ingestion import kept_out
from tidemill.recipes.rows import Snapshot
from tidemill.recipes.scoring import (
    digest_rows,
    measure_own,
    score_candidate,
    score_rows,
    score_samples,
    select_learned,
)
from tidemill.registry.routing import current
from tidemill.training.evaluate import evaluate, find_slices

_TRAIN_SAMPLE = 20_000
_DRAWN = 5_000


class DataFacts(Struct, frozen=True, kw_only=True):
    """What the ledger knows of the rows of a snapshot: the batches in it that a check had stopped."""

    stopped: tuple[str, ...] = ()


@step(cache=False)
def find_metrics(own: ProjectMetrics) -> list[MetricVersion]:
    """The project's own metrics, each by the digest of its code: what is measured by another code is measured anew."""
    return own.versions()


@step
def measure_on(
    model: Model,
    rows: pl.DataFrame,
    policy: ModelPolicy,
    about: str,
    metrics: list[MetricVersion],
    sources: Sources,
    own: ProjectMetrics,
) -> Metrics:
    """The metrics of a model on rows as they would be served, as a whole and by slice.

    Rows of a class that it has not learned are left out: the gate tells of them.
    """
    rows = select_learned(model, rows, policy.problem)
    source = sources.definition(policy.problem.source)
    truth, scores = score_rows(model, rows, policy.problem, source)
    found = evaluate(truth, scores, find_slices(rows, policy.gate.slices), about, policy.gate.confidence)
    values = found.values | measure_own(metrics, own, truth, scores, rows)
    return replace(found, values=values, rows=digest_rows(rows, policy.problem, source))


@step
def draw(model: Model, rows: pl.DataFrame, policy: ModelPolicy, sources: Sources) -> Report:
    """Plots of a model's answers to rows that it has not seen, at most 5,000 of them, for people."""
    rows = select_learned(model, rows, policy.problem)
    rows = rows.gather_every(max(1, -(-rows.height // _DRAWN)))
    truth, scores = score_rows(model, rows, policy.problem, sources.definition(policy.problem.source))
    return Report(html=render_plots(truth, scores, f"{policy.name}: answers to the test rows"))


@step(transient=True)
def sample(rows: pl.DataFrame, options: Training) -> pl.DataFrame:
    """At most 20,000 of the rows: enough to measure how well a model fits what it has seen."""
    return rows.sample(_TRAIN_SAMPLE, seed=options.seed) if rows.height > _TRAIN_SAMPLE else rows


@step
def find_champion(policy: ModelPolicy, books: Books, packages: Packages, context: Context) -> Model | None:
    """The package that answers now, to compare with; None before the first release."""
    route = current(books, context.environment, policy.name)
    arm = route.arm("champion") if route else None
    if arm is None:
        return None
    books.runs.change(context.run, lambda run: replace(run, compared_with=arm.release))
    return packages.load(arm.package)


@step
def look_into_data(snapshot: Snapshot, books: BooksReader, tables: TableReader, context: Context) -> DataFacts:
    """Which batches of a snapshot were stopped by their check, and never let in since."""
    stopped = kept_out(books, context.environment)
    if not stopped:
        return DataFacts()
    inside = set(tables.read(snapshot.table, snapshot.version, ["_batch"])["_batch"].unique())
    return DataFacts(stopped=tuple(sorted(stopped & inside)))


@step
def try_out(model: Model, policy: Gate, environments: Environments) -> PackageProbe:
    """What a package does with its sample rows in a fresh process that has only the packages of its lock."""
    rows = load_samples(model).to_dicts()
    return environments.probe(
        to_files(model), _plain(rows), list_warm_modules(model), strict=policy.environment == "strict"
    )


@step
def gate(
    candidate: Model,
    champion: Model | None,
    train: pl.DataFrame,
    test: pl.DataFrame,
    policy: ModelPolicy,
    tested: Metrics,
    data: DataFacts,
    trial: PackageProbe,
    metrics: list[MetricVersion],
    sources: Sources,
    own_metrics: ProjectMetrics,
    tables: TableReader,
    validation: pl.DataFrame | None = None,
) -> Verdict:
    """Judge a candidate: its data, its package, and its answers to the test rows, in one verdict.

    With the champion it is compared only on rows that the champion has not learned from itself. What was chosen on
    `validation` rows is learned from them, too.
    """
    source = sources.definition(policy.problem.source)
    case = Case(
        candidate=score_candidate(candidate, test, policy.problem, source),
        champion=champion,
        rows=SplitRows(train, validation, test),
        policy=policy,
        source=source,
        stopped=data.stopped,
        tested=tested,
        probe=trial,
        metrics=metrics,
        own_metrics=own_metrics,
        tables=tables,
    )
    on_trial = champion is not None and policy.rollout.decides_later
    return combine_findings(policy.name, run_checks(case), on_trial=on_trial)


@step
def confirm(model: Model, trial: PackageProbe, policy: ModelPolicy) -> Verdict:
    """Judge the package that is to be released, once it was fitted again on all rows: how it answers, not how well."""
    return combine_findings(policy.name, check_probe(trial, score_samples(model), policy.gate), check="package")


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON takes them: a time as text."""
    return [{name: v.isoformat() if hasattr(v, "isoformat") else v for name, v in row.items()} for row in rows]
