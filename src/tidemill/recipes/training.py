"""Training: from the accepted rows, through the gate, to a release in production.

`training` is the pipeline; its parts are steps, so that a project can add or replace steps.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial

import polars as pl
from msgspec import json, to_builtins
from msgspec.structs import replace

from tidemill.checks.regime import ErrorProfile
from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Model
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Board, Books, PackageStore, Sources
from tidemill.core.run import Metrics
from tidemill.core.signing import PackageSigner
from tidemill.data.encoding import Encoding
from tidemill.data.split import choose_split_kind, split_at_random, split_by_group, split_by_time, split_stratified
from tidemill.models.transforming import transform
from tidemill.monitoring.alerts import alert_release
from tidemill.monitoring.stored_releases import ERRORS
from tidemill.recipes.fingerprints import measure_errors
from tidemill.recipes.fitting import add_columns, describe, fit, learn_vocabularies, search
from tidemill.recipes.folds import FoldComparison, compare_folds, hold_out_validation, list_inputs, needs_folds
from tidemill.recipes.gating import GateFacts
from tidemill.recipes.horizons import find_horizons, select_learned_rows, uses_validation
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.inputs import choose_inputs
from tidemill.recipes.judging import (
    check_snapshot,
    confirm,
    find_champion,
    find_metrics,
    gate,
    measure_baseline,
    measure_on,
    plot_predictions,
    probe_package,
    sample,
)
from tidemill.recipes.regime_rows import RowChoice, choose_rows, find_regime, judge_need, keep_rows
from tidemill.recipes.rows import Snapshot, extract, join_features, take_snapshot
from tidemill.recipes.scoring import SplitRows
from tidemill.registry.bindings import REGIME
from tidemill.registry.releases import register
from tidemill.registry.rollout import CANARY_REPLACED, Deployer
from tidemill.registry.waiting import RELEASE_WAITING
from tidemill.training.evaluate import filter_classes
from tidemill.training.tune import SearchResult


@step(transient=True)
def split(
    frame: pl.DataFrame, policy: ModelPolicy, sources: Sources
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split rows into train, validation and test rows by the policy; by default by time if the source has one."""
    options = policy.training
    share, seed = options.test_share, options.seed
    validation = options.validation if uses_validation(options) else 0.0
    source = sources.definition(policy.problem.source)
    inputs = list_inputs(frame, policy, source)
    match choose_split_kind(options, timed=bool(source.time)):
        case "time":
            return split_by_time(frame, options.test, share, validation, options.minimum_test_rows)
        case "group":
            return split_by_group(frame, options.group, share, validation, seed)
        case "stratified":
            return split_stratified(frame, policy.problem.label, share, validation, seed, inputs)
        case "random":
            return split_at_random(frame, share, validation, seed, inputs, policy.problem.label)


@step
def finish(
    model: Model,
    test_metrics: Metrics,
    baseline_metrics: Metrics,
    train_metrics: Metrics,
    verdict: Verdict | None = None,
    errors: ErrorProfile | None = None,
    choice: RowChoice | None = None,
) -> Model:
    """Return the package to release, with its metrics and error profile, after the verdict (if any) approved it.

    If its rows are those of one value of the key, its data names the value: it will be bound to it.
    """
    measured = (test_metrics, baseline_metrics, train_metrics)
    metrics = {f"{part.about}_{name}": value for part in measured for name, value in part.values.items()}
    bounds = {f"{part.about}_{name}": pair for part in measured for name, pair in part.intervals.items()}
    assert verdict is None or not verdict.stops
    files = model.files if errors is None else model.files | {ERRORS: json.encode(errors)}
    regime = choice.regime if choice is not None else None
    data = model.manifest.data | ({REGIME: to_builtins(regime)} if regime is not None else {})
    return replace(model, manifest=replace(model.manifest, metrics=metrics, intervals=bounds, data=data), files=files)


@step
def release(
    model: Model,
    policy: ModelPolicy,
    books: Books,
    packages: PackageStore,
    signer: PackageSigner,
    board: Board,
    clock: Clock,
    context: Context,
) -> str:
    """Register an approved model, deploy it by its policy, and return the label of the release."""
    package, signature, place = packages.save(model), signer.sign(model), context.environment
    registered = register(books, clock, model, package, environment=place, run=context.run, signature=signature)
    gate_verdicts = books.verdicts.find(run=context.run, check="gate")
    deployer = Deployer(books, board, clock, context.environment, {"run": context.run})
    deployer.deploy(registered, policy, gate_verdicts[-1].id if gate_verdicts else "")
    for kind in (RELEASE_WAITING, CANARY_REPLACED):
        for event in books.events.find(kind=kind, subject=registered.label, environment=context.environment):
            reason = event.announcement.reason
            alert_release(policy, registered.label, reason, books, clock, context.environment, context.run)
    return registered.label


def train_on(
    frame: pl.DataFrame,
    policy: ModelPolicy,
    features: FeatureSet,
    snapshot: Snapshot,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding] = learn_vocabularies,
    choice: RowChoice | None = None,
) -> None:
    """Train, judge and release a model on a frame with its label and inputs: the second half of a training.

    Validation rows choose the number of rounds and the parameters; then the candidate learns them too, before it is
    measured. For the comparison with the champion it also learns the test rows that the champion has learned.

    Call it inside a pipeline; `frame` is the output of a step. Without a gate, the model is measured on the test rows
    (unless `[gate] measure` is false), fitted on all rows and released. `prepare` is the step that fits the encoding of
    inputs as numbers, on training rows only; the model package contains the encoding. `choice` is the output of
    `choose_rows`, if it chose the rows: a release for one value of the key is compared with what serves its rows.
    """
    settings = policy.training_settings
    inputs = choose_inputs(frame, settings, features, snapshot=snapshot, slices=policy.gate.slices)
    transforms = bool(features.transformations)
    if not policy.gate.enabled and not policy.gate.measure:
        release(fit_unmeasured(frame, policy, inputs, snapshot, prepare, transforms=transforms), policy)
        return
    champion = find_champion(policy, choice=choice) if policy.gate.enabled else None
    train, validation, test = split(frame, settings)
    rounds, tuned = None, None
    if uses_validation(policy.training):
        first, tuned = fit_candidate(train, validation, settings, inputs, snapshot, prepare, transforms=transforms)
        rounds = count_rounds(first)
    horizon, recent = find_horizons(train, validation, test, champion, settings)

    def fit_until(newest: datetime | None, *, has_profile: bool) -> tuple[Model, pl.DataFrame]:
        rows = select_learned_rows(train, validation, test, newest)
        fit_whole = partial(fit_all_rows, transforms=transforms, has_profile=has_profile)
        return fit_whole(rows, policy, inputs, snapshot, rounds, prepare, tuned), rows

    is_fitted_again = policy.training.refit or not policy.gate.enabled
    candidate, learned = fit_until(horizon, has_profile=not is_fitted_again)
    metrics = find_metrics()
    test_metrics = measure_on(candidate, test, policy, "test", metrics)
    train_metrics = measure_on(candidate, sample(learned, policy.training), policy, "train", metrics)
    baseline_metrics = measure_baseline(candidate, learned, test, settings)
    errors = measure_errors(candidate, test, settings, baseline_metrics=baseline_metrics)
    plot_predictions(candidate, test, settings)
    verdict = None
    if policy.gate.enabled:
        snapshot_check = check_snapshot(snapshot)
        has_folds = prepare is learn_vocabularies and not policy.training.search
        folds = validate_first(frame, test, champion, settings, inputs, snapshot) if has_folds else None
        probe = probe_package(candidate, policy.gate)
        compared, _ = fit_until(recent, has_profile=not is_fitted_again)
        facts = GateFacts(test_metrics, snapshot_check, probe, metrics, folds, compared, choice)
        verdict = gate(candidate, champion, SplitRows(learned, None, test), facts, policy)
    if is_fitted_again:
        frame = drop_unlearned_classes(frame, candidate, settings)
        rounds = count_rounds(candidate, verdict)
        candidate = fit_all_rows(frame, policy, inputs, snapshot, rounds, prepare, tuned, transforms=transforms)
    if policy.training.refit and policy.gate.enabled:
        verdict = confirm(candidate, probe_package(candidate, policy.gate), policy)
    release(finish(candidate, test_metrics, baseline_metrics, train_metrics, verdict, errors, choice), policy)


def fit_candidate(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding],
    *,
    transforms: bool = False,
) -> tuple[Model, SearchResult | None]:
    """Fit a model that chooses rounds and parameters on validation rows, and return it with the parameters.

    Call it inside a pipeline.

    `transforms` is whether the model has transformations.
    """
    learned, checked = (add_columns(rows, inputs) if transforms else rows for rows in (train, validation))
    encoding = prepare(learned, inputs)
    tuned = search(learned, checked, encoding, policy) if policy.training.search else None
    return fit(train, validation, encoding, None, policy, inputs, snapshot, tuned=tuned), tuned


def fit_unmeasured(
    frame: pl.DataFrame,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding],
    *,
    transforms: bool = False,
) -> Model:
    """Fit on all rows, with the rounds and parameters that are best on validation rows; call it inside a pipeline."""
    settings = policy.training_settings
    has_profile = any(value.value == "drift" for value in policy.watch.values)
    fit_whole = partial(fit_all_rows, transforms=transforms, has_profile=has_profile)
    if not uses_validation(settings.training):
        return fit_whole(frame, policy, inputs, snapshot, prepare=prepare)
    train, validation, _ = split(frame, settings)
    candidate, tuned = fit_candidate(train, validation, settings, inputs, snapshot, prepare, transforms=transforms)
    frame = drop_unlearned_classes(frame, candidate, settings)
    return fit_whole(frame, policy, inputs, snapshot, count_rounds(candidate), prepare, tuned)


@step
def validate_first(
    frame: pl.DataFrame,
    test: pl.DataFrame,
    champion: Model | None,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    sources: Sources,
) -> FoldComparison | None:
    """Compare the recipe of a first model with the trivial baseline on folds of all rows; None if they are not needed.

    They are needed if the test has few rows and there is no champion.
    """
    if champion is not None or not needs_folds(test):
        return None
    source = sources.definition(policy.problem.source)

    def fit_fold(rows: pl.DataFrame) -> Model:
        train, validation = hold_out_validation(rows, policy, source)
        encoding = learn_vocabularies(transform(train, inputs), inputs)
        return fit(train, validation, encoding, None, policy, inputs, snapshot, sources)

    return compare_folds(frame, policy, source, fit_fold)


def fit_all_rows(
    frame: pl.DataFrame,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    rounds: int | None = None,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding] = learn_vocabularies,
    tuned: SearchResult | None = None,
    *,
    transforms: bool = False,
    has_profile: bool = True,
) -> Model:
    """Fit on all rows; call it inside a pipeline. A model that only is measured needs no profile of its rows."""
    encoding = prepare(add_columns(frame, inputs) if transforms else frame, inputs)
    statistics = describe(frame, inputs) if has_profile else None
    return fit(
        frame, None, encoding, statistics, policy.training_settings, inputs, snapshot, rounds=rounds, tuned=tuned
    )


@step(transient=True)
def drop_unlearned_classes(rows: pl.DataFrame, candidate: Model, policy: ModelPolicy) -> pl.DataFrame:
    """Return the rows whose class the candidate was trained on, so that its refit has the same classes."""
    return filter_classes(rows, policy.problem.label, candidate.manifest.signature.classes)


@step
def count_rounds(candidate: Model, verdict: Verdict | None = None) -> int | None:
    """Return the number of a candidate's rounds, where its `verdict` does not stop it.

    Its refit has the same number: rounds cannot be chosen on rows that it is fitted on.
    """
    return candidate.manifest.trained_on.iterations if verdict is None or not verdict.stops else None


@pipeline
def training(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """Ingest new batches, train on the labels known until then, judge, release."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name, policy.regimes.key)
    frame = join_features(rows, features, snapshot)
    choice = None
    if policy.regimes.key or policy.training.rows != "all":
        choice = choose_rows(frame, find_regime(policy), policy.training_settings, features, snapshot)
        needed = judge_need(choice, policy) if policy.regimes.key else None
        frame = keep_rows(frame, choice, needed)
    train_on(frame, policy, features, snapshot, choice=choice)
