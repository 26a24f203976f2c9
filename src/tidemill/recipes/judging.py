"""Judging: the steps by which a candidate is measured, tried out and let through, or not."""

from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.comparison import cannot_compare, compare, compare_with_champion, hold_answers, hold_thresholds
from tidemill.checks.gate import Finding, decide
from tidemill.checks.leaks import find_leaks
from tidemill.checks.package import hold_signature, hold_trial
from tidemill.core.artifact import Report
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.metric import MetricVersion
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import Gate, ModelPolicy, Problem, Source, Training
from tidemill.core.probe import PackageProbe
from tidemill.core.resources import Books, BooksReader, Environments, OwnMetrics, Packages, Sources, TableReader
from tidemill.core.run import Metrics, tested
from tidemill.data.frame import TIME
from tidemill.data.keys import as_classes
from tidemill.data.metrics import Floats, Truth, among, losses, measure, narrowed
from tidemill.data.plots import page
from tidemill.data.split import kind_of
from tidemill.errors import ConfigurationError, DataError, NotFound
from tidemill.models.inputs import load_samples
from tidemill.models.load import load
from tidemill.models.package import list_warm_modules, to_files
from tidemill.recipes.ingestion import kept_out
from tidemill.recipes.rows import Snapshot
from tidemill.registry.routing import current
from tidemill.training.evaluate import evaluate, of_classes, slices_of, trivial, truth_of

_TRAIN_SAMPLE = 20_000
_ASKED_AGAIN = 1_000
_DRAWN = 5_000


class DataFacts(Struct, frozen=True, kw_only=True):
    """What the ledger knows of the rows of a snapshot: the batches in it that a check had stopped."""

    stopped: tuple[str, ...] = ()


@step(cache=False)
def find_metrics(own: OwnMetrics) -> list[MetricVersion]:
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
    own: OwnMetrics,
) -> Metrics:
    """The metrics of a model on rows as they would be served, as a whole and by slice.

    Rows of a class that it has not learned are left out: the gate tells of them.
    """
    rows = _answerable(model, rows, policy.problem)
    truth, scores = _scored(model, rows, policy.problem, sources)
    found = evaluate(truth, scores, slices_of(rows, policy.gate.slices), about, policy.gate.confidence)
    return replace(found, values=found.values | _own(metrics, own, truth, scores, rows))


def _own(
    metrics: list[MetricVersion], own: OwnMetrics, truth: Truth, scores: Floats, rows: pl.DataFrame
) -> dict[str, float]:
    if not metrics:
        return {}
    names = np.array(truth.classes)
    given = {
        "truth": names[truth.values.astype(int)] if len(names) else truth.values,
        "predicted": names[scores.argmax(axis=1)] if len(names) else scores,
        "probabilities": scores,
        "rows": rows,
    }
    values = {}
    for wanted in metrics:
        metric = own.metric(wanted.name)
        value = values[wanted.name] = float(metric(**{want: given[want] for want in metric.wants}))
        if not np.isfinite(value):
            raise ConfigurationError(
                f"metric {wanted.name!r} of the project gave {value} for {rows.height} rows",
                "let it give a finite number for any rows, in pipeline.py",
            )
    return values


@step
def draw(model: Model, rows: pl.DataFrame, policy: ModelPolicy, sources: Sources) -> Report:
    """Plots of a model's answers to rows that it has not seen, at most 5,000 of them, for people."""
    rows = _answerable(model, rows, policy.problem)
    rows = rows.gather_every(max(1, -(-rows.height // _DRAWN)))
    return Report(html=page(*_scored(model, rows, policy.problem, sources), f"{policy.name}: answers to the test rows"))


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
    own_metrics: OwnMetrics,
    tables: TableReader,
    validation: pl.DataFrame | None = None,
) -> Verdict:
    """Judge a candidate: its data, its package, and its answers to the test rows, in one verdict.

    With the champion it is compared only on rows that the champion has not learned from itself. What was chosen on
    `validation` rows is learned from them, too.
    """
    source, signature = sources.definition(policy.problem.source), candidate.manifest.signature
    options, seen = policy.training, train if validation is None else pl.concat([train, validation])
    asked = _answerable(candidate, test, policy.problem)
    truth, scores = _scored(candidate, asked, policy.problem, sources)
    few = asked.head(_ASKED_AGAIN)
    again = _scored(candidate, few, policy.problem, sources)[1]
    own = losses(truth, scores)
    findings = [
        *_hold_data(champion, seen, test, data, policy),
        *_hold_classes(candidate, test if validation is None else pl.concat([validation, test]), policy.problem),
        *find_leaks(
            seen,
            test,
            inputs=tuple(one.name for one in signature.inputs),
            label=policy.problem.label,
            key=source.key,
            group=options.group,
            timed=kind_of(options, timed=bool(source.time)) == "time",
            most=policy.gate.leakage,
        ),
        *hold_signature(champion.manifest.signature if champion else None, signature, policy.gate),
        *(answered := hold_answers(scores, own, again)),
    ]
    if answered[0].about == "answers":  # what differs from time to time differs elsewhere, too
        findings += hold_trial(trial, _expected(candidate), policy.gate)
    findings += hold_thresholds(tested.values, policy.gate)
    if np.isfinite(own).all():
        known = truth_of(train[policy.problem.label], policy.problem.task, truth.classes)
        baseline, slices = losses(truth, trivial(known, asked.height)), slices_of(asked, policy.gate.slices)
        if champion is None:
            findings += compare(own, baseline, None, policy=policy.gate, slices=slices)
            return decide(policy.name, findings)
        other = _rival(champion, asked, truth, scores, policy, sources)
        findings += compare(own, baseline, None, policy=policy.gate, slices={})
        if isinstance(other, Finding):
            return decide(policy.name, [*findings, other])
        unseen = _unseen_by(champion, other.rows, source, options.group, tables)
        findings.append(_scored_again(champion, other, unseen, metrics, own_metrics))
        findings += compare_with_champion(
            other.losses,
            losses(other.truth, other.scores),
            policy=policy.gate,
            slices=slices_of(other.rows, policy.gate.slices),
            unseen=unseen,
        )
    return decide(policy.name, findings)


@step
def confirm(model: Model, trial: PackageProbe, policy: ModelPolicy) -> Verdict:
    """Judge the package that is to be released, once it was fitted again on all rows: how it answers, not how well."""
    return decide(policy.name, hold_trial(trial, _expected(model), policy.gate), check="package")


def _answerable(model: Model, rows: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    """The rows whose class a model has learned; all of them where it has learned none, which is an error later."""
    known = of_classes(rows, problem.label, model.manifest.signature.classes)
    return known if known.height else rows


def _hold_classes(candidate: Model, held: pl.DataFrame, problem: Problem) -> list[Finding]:
    """Whether the rows that were held out have classes that came only after the training rows."""
    known = candidate.manifest.signature.classes
    left = held.height - of_classes(held, problem.label, known).height
    if not left:
        return []
    new = sorted(set(as_classes(held[problem.label])) - set(known))
    reason = f"{left} of {held.height} newer rows are left out: their class is not learned yet ({', '.join(new[:3])})"
    return [Finding(about="classes", outcome="warn", reason=reason, evidence={"unlearned": new, "left_out": left})]


class _Rival(NamedTuple):
    """What a champion says of the rows that both can judge, over the classes that both know; the candidate's losses."""

    rows: pl.DataFrame
    truth: Truth
    scores: Floats
    losses: Floats


def _rival(
    champion: Model, rows: pl.DataFrame, truth: Truth, scores: Floats, policy: ModelPolicy, sources: Sources
) -> _Rival | Finding:
    """The champion's answers to the test rows, or why there are none to compare with."""
    theirs = champion.manifest.signature.classes
    if champion.manifest.signature.task != truth.task:
        return cannot_compare(f"the champion does {champion.manifest.signature.task}", policy.gate)
    both = tuple(name for name in truth.classes if name in theirs)
    if truth.classes and len(both) < 2:
        return cannot_compare(f"the champion knows other classes: {', '.join(theirs)}", policy.gate)
    shared = of_classes(rows, policy.problem.label, both)
    try:
        said = _scores(champion, shared.drop(sources.definition(policy.problem.source).later, strict=False))
    except DataError as cannot:
        return cannot_compare(f"the champion cannot answer for these rows ({cannot.problem})", policy.gate)
    if both == truth.classes == theirs:
        return _Rival(rows, truth, said, losses(truth, scores))
    inside = np.isin(truth.values, [truth.classes.index(name) for name in both])
    known, own = narrowed(Truth(truth.task, truth.values[inside], truth.classes), scores[inside], both)
    return _Rival(shared, known, among(both, said, theirs), losses(known, own))


def _scored(model: Model, rows: pl.DataFrame, problem: Problem, sources: Sources) -> tuple[Truth, Floats]:
    """The truth of rows, and what a model says of them without the columns that nobody knows when it is asked."""
    scores = _scores(model, rows.drop(sources.definition(problem.source).later, strict=False))
    return truth_of(rows[problem.label], problem.task, model.manifest.signature.classes), scores


def _scores(model: Model, rows: pl.DataFrame) -> Floats:
    answers = load(model).predict(rows)
    return answers.probabilities if answers.probabilities is not None else np.asarray(answers.values, float)


def _scored_again(
    champion: Model,
    rival: _Rival,
    unseen: npt.NDArray[np.bool_] | None,
    metrics: list[MetricVersion],
    own: OwnMetrics,
) -> Finding:
    """What the champion's metrics are on these test rows, and by the metrics as they are now.

    Where it has not learned some of the rows they are measured on those, else on all.
    """
    fresh = unseen if unseen is not None and unseen.any() else np.ones(rival.rows.height, dtype=bool)
    truth, scores = Truth(rival.truth.task, rival.truth.values[fresh], rival.truth.classes), rival.scores[fresh]
    values = measure(truth, scores) | _own(metrics, own, truth, scores, rival.rows.filter(fresh))
    return Finding(
        about="metrics",
        reason="the champion is scored again, on these test rows and by these metrics",
        evidence={
            "champion_metrics": values,
            "champion_metrics_rows": int(fresh.sum()),
            "champion_metrics_at_release": tested(champion.manifest.metrics),
        },
    )


def _expected(model: Model) -> Floats:
    """The answers of this process to the sample rows."""
    return _scores(model, load_samples(model))


def _plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as JSON takes them: a time as text."""
    return [{name: v.isoformat() if hasattr(v, "isoformat") else v for name, v in row.items()} for row in rows]


def _hold_data(
    champion: Model | None, seen: pl.DataFrame, test: pl.DataFrame, data: DataFacts, policy: ModelPolicy
) -> list[Finding]:
    """Whether a candidate may have learned from these rows: none was stopped, and they are no older than before."""
    found = []
    if data.stopped:
        some = ", ".join(data.stopped[:3])
        reason = f"it is trained on data that was stopped: {some} (see `tidemill checks list`)"
        found.append(
            Finding(about="data", outcome="fail", reason=reason, evidence={"stopped_batches": list(data.stopped)})
        )
    before = champion.manifest.data.get("trained_until") if champion else None
    if isinstance(before, str) and not policy.gate.older_data:
        rows = pl.concat([seen[TIME], test[TIME]]) if policy.training.refit else seen[TIME]
        newest = rows.max()
        if isinstance(newest, datetime) and newest < datetime.fromisoformat(before):
            reason = f"its data is older than the champion's: it ends at {newest.isoformat()}, not at {before}"
            evidence = {"data_until": newest.isoformat(), "champion_data_until": before}
            found.append(Finding(about="data", outcome="fail", reason=reason, evidence=evidence))
    return found


def _unseen_by(
    champion: Model, rows: pl.DataFrame, source: Source, group: str, tables: TableReader
) -> npt.NDArray[np.bool_] | None:
    """Which rows the champion has not learned from, nor from others of their `group`; None: nobody knows.

    With an event time these are the rows that are newer than its own. Without one a row that comes again is as new as
    its file, so that they are looked up in the version of the table that the champion was trained on.
    """
    newest = champion.manifest.data.get("trained_until")
    if not isinstance(newest, str):
        return None
    if source.time:
        unseen = rows.select(fresh=pl.col(TIME) > datetime.fromisoformat(newest))["fresh"]
    else:
        unseen = _not_in(rows, champion.manifest.data, source.key, tables)
    marked = rows.with_columns(unseen.alias("_fresh"))
    if not group:
        return marked["_fresh"].to_numpy()
    alone = pl.col(group).is_null()  # null is no group
    fresh = pl.when(alone).then("_fresh").otherwise(pl.col("_fresh").all().over(group))
    return marked.select(fresh.alias("_fresh"))["_fresh"].to_numpy()


def _not_in(rows: pl.DataFrame, data: dict[str, Any], key: tuple[str, ...], tables: TableReader) -> pl.Series:
    """Which rows are not in a version of a table, by their key, or else as a whole; none where that is gone."""
    try:
        learned = tables.read(data["table"], data["version"])
    except NotFound:
        return pl.repeat(value=False, n=rows.height, eager=True)
    shared = [name for name in rows.columns if name in learned.columns and not name.startswith("_")]
    columns = list(key) if key and set(key) <= set(shared) else shared
    plain = [name for name in columns if not rows.schema[name].is_nested()]
    kinds = pl.Schema({name: rows.schema[name] for name in plain})
    known = learned.select(plain).cast(kinds, strict=False).unique().with_columns(_known=pl.lit(value=True))
    found = rows.select(plain).join(known, on=plain, how="left", nulls_equal=True, maintain_order="left")
    return found["_known"].is_null()
