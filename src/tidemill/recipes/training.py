"""Training: from the accepted rows, through the gate, to a release in production.

`training` is the pipeline; its parts are steps, so that a project can add or replace steps.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import polars as pl
from msgspec import json
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.columns import TIME
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy, Problem
from tidemill.core.resources import Board, Books, PackageStore, Sources
from tidemill.core.run import Metrics
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.encoding import Encoding, encode, fit_encoding
from tidemill.data.rows import RowReader, convert_columns
from tidemill.data.split import choose_split_kind, split_at_random, split_by_group, split_by_time, split_stratified
from tidemill.data.statistics import Profile, profile
from tidemill.data.types import column_type
from tidemill.models.environment import list_versions
from tidemill.models.flavors import lightgbm, sklearn
from tidemill.models.package import make_portable
from tidemill.models.transforming import check_row_wise, declare_raw_inputs, pack_features, transform
from tidemill.monitoring.alerts import alert_release
from tidemill.recipes.folds import FoldComparison, compare_folds, hold_out_validation, list_identity, needs_folds
from tidemill.recipes.gating import GateFacts, SplitRows
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
from tidemill.recipes.rows import Snapshot, extract, join_features, take_snapshot
from tidemill.registry.releases import register
from tidemill.registry.rollout import CANARY_REPLACED, RELEASE_WAITING, Deployer
from tidemill.training.estimators import EstimatorRows, fit_estimator
from tidemill.training.evaluate import filter_classes, find_classes, require_finite_labels, to_truth
from tidemill.training.fit import fit_lightgbm
from tidemill.training.tune import LabeledMatrix, SearchResult, tune

_PROFILED = 100_000
_SAMPLE_ROWS = 20
_RECORDED_PACKAGES = ("tidemill", "lightgbm", "numpy", "polars", "scikit-learn")


@step(transient=True)
def split(
    frame: pl.DataFrame, policy: ModelPolicy, sources: Sources
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split rows into train, validation and test rows by the policy; by default by time if the source has one."""
    options = policy.training
    share, seed = options.test_share, options.seed
    validation = options.validation if options.early_stopping or options.search else 0.0
    source = sources.definition(policy.problem.source)
    identity = list_identity(frame, policy, source)
    match choose_split_kind(options, timed=bool(source.time)):
        case "time":
            return split_by_time(frame, options.test, share, validation, options.minimum_test_rows)
        case "group":
            return split_by_group(frame, options.group, share, validation, seed)
        case "stratified":
            return split_stratified(frame, policy.problem.label, share, validation, seed, identity)
        case "random":
            return split_at_random(frame, share, validation, seed, identity)


@step
def describe(frame: pl.DataFrame, features: FeatureSet) -> Profile:
    """Profile the raw inputs, on at most 100,000 training rows: the reference for drift."""
    rows = frame.gather_every(-(-frame.height // _PROFILED)) if frame.height > _PROFILED else frame
    return profile(rows.select(name for name in features.raw_names if name in frame.columns))


@step(transient=True)
def add_columns(rows: pl.DataFrame, features: FeatureSet) -> pl.DataFrame:
    """Return rows with the columns that the transformations of the model compute."""
    return transform(rows, features)


@step
def learn_vocabularies(frame: pl.DataFrame, features: FeatureSet) -> Encoding:
    """Fit the encoding of inputs as numbers, on training rows only."""
    return fit_encoding(frame, features.names)


@step
def search(train: pl.DataFrame, validation: pl.DataFrame, encoding: Encoding, policy: ModelPolicy) -> SearchResult:
    """Search the best parameters with Optuna, within the policy's budget, on these rows only."""
    problem = policy.problem
    classes = _learned_classes(train, problem)
    train_data, validation_data = (
        LabeledMatrix(
            encode(encoding, rows),
            to_truth(rows[problem.label], problem.task, classes),
            RowReader(encoding.inputs).read_frame(rows),
        )
        for rows in (train, filter_classes(validation, problem.label, classes))
    )
    return tune(
        train_data, validation_data, policy=policy.training, names=encoding.names, categorical=encoding.categorical
    )


@step
def fit(
    train: pl.DataFrame,
    validation: pl.DataFrame | None,
    encoding: Encoding,
    statistics: Profile,
    policy: ModelPolicy,
    features: FeatureSet,
    snapshot: Snapshot,
    sources: Sources,
    rounds: int | None = None,
    tuned: SearchResult | None = None,
) -> Model:
    """Fit a model package on training rows; the number of rounds is chosen on the validation rows, if any.

    The rows are raw: transformations are checked to be row-wise, and compute their columns here.
    """
    problem, options = policy.problem, policy.training
    check_row_wise(train, features)
    raw, train = train, transform(train, features)
    validation = None if validation is None else transform(validation, features)
    if tuned is not None:
        options = replace(options, params=options.params | tuned.params)
    classes = _learned_classes(train, problem)
    target = to_truth(train[problem.label], problem.task, classes)
    require_finite_labels(target, problem.label)
    packed, code = pack_features(features)
    manifest = _describe_model(train, encoding, classes, policy, packed, snapshot, sources.definition(problem.source))
    if features.transformations:
        inputs = declare_raw_inputs(raw, features)
        manifest = replace(manifest, signature=replace(manifest.signature, inputs=inputs))
    matrix = encode(encoding, train)
    if manifest.flavor == "sklearn":
        rows = EstimatorRows(matrix, encoding.names, RowReader(encoding.inputs).read_frame(train))
        fitted = fit_estimator(rows, target.values, policy=options, task=problem.task)
        model = sklearn.pack(manifest, fitted.estimator, encoding, fitted.form)
    else:
        booster = fit_lightgbm(
            matrix,
            target.values,
            task=problem.task,
            classes=len(classes),
            policy=options,
            names=encoding.names,
            categorical=encoding.categorical,
            validation=_encode_validation(validation, encoding, problem, classes) if options.early_stopping else None,
            rounds=rounds,
        )
        manifest = replace(manifest, data=manifest.data | {"iterations": booster.current_iteration()})
        model = lightgbm.pack(manifest, booster, encoding)
    types = {column.name: column.type for column in manifest.signature.inputs}
    samples = pl.DataFrame(list(convert_columns(raw.tail(_SAMPLE_ROWS), types).values()))
    extra = {"profile.json": json.encode(statistics), "samples.json": samples.write_json().encode()} | code
    return make_portable(replace(model, files=model.files | extra), options.packages)


def _learned_classes(train: pl.DataFrame, problem: Problem) -> tuple[str, ...]:
    """Return the classes of the training rows; none for a regression."""
    if problem.task != "classification":
        return ()
    return find_classes(train[problem.label], problem.label, problem.positive)


def _describe_model(
    train: pl.DataFrame,
    encoding: Encoding,
    classes: tuple[str, ...],
    policy: ModelPolicy,
    features: FeatureSet,
    snapshot: Snapshot,
    source: Source,
) -> Manifest:
    """Return the manifest of a model that is trained on these rows."""
    newest = train[TIME].max()
    assert isinstance(newest, datetime)
    problem = policy.problem
    return Manifest(
        name=policy.name,
        flavor="lightgbm" if policy.training.estimator == "lightgbm" else "sklearn",
        signature=Signature(
            inputs=encoding.inputs,
            task=problem.task,
            classes=classes,
            label=column_type(train.schema[problem.label]),
        ),
        features=features,
        key=source.key,
        time=source.time or "",
        environment=list_versions(*_RECORDED_PACKAGES),
        columns=snapshot.columns,
        spellings=problem.spellings,
        data={
            "table": snapshot.table,
            "version": snapshot.version,
            "rows": train.height,
            "trained_until": newest.isoformat(),
            **({"withdrawn": list(snapshot.withdrawn)} if snapshot.withdrawn else {}),
            "label": problem.label,
            **({"positive": classes[1]} if len(classes) == 2 else {}),
        },
    )


def _encode_validation(
    validation: pl.DataFrame | None, encoding: Encoding, problem: Problem, classes: tuple[str, ...]
) -> tuple[Floats, Any] | None:
    if validation is None or not validation.height:
        return None
    validation = filter_classes(validation, problem.label, classes)
    return encode(encoding, validation), to_truth(validation[problem.label], problem.task, classes).values


@step
def finish(
    model: Model,
    test_metrics: Metrics,
    baseline_metrics: Metrics,
    train_metrics: Metrics,
    verdict: Verdict | None = None,
) -> Model:
    """Return the package to release, with its metrics, after the verdict (if there is a gate) approved it."""
    measured = (test_metrics, baseline_metrics, train_metrics)
    metrics = {f"{part.about}_{name}": value for part in measured for name, value in part.values.items()}
    bounds = {f"{part.about}_{name}": pair for part in measured for name, pair in part.intervals.items()}
    assert verdict is None or not verdict.stops
    return replace(model, manifest=replace(model.manifest, metrics=metrics, intervals=bounds))


@step
def release(
    model: Model,
    policy: ModelPolicy,
    books: Books,
    packages: PackageStore,
    board: Board,
    clock: Clock,
    context: Context,
) -> str:
    """Register an approved model, deploy it by its policy, and return the label of the release."""
    registered = register(books, clock, model, packages.save(model), environment=context.environment, run=context.run)
    gate_verdicts = books.verdicts.find(run=context.run, check="gate")
    deployer = Deployer(books, board, clock, context.environment)
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
) -> None:
    """Train, judge and release a model on a frame with its label and inputs: the second half of a training.

    Call it inside a pipeline; `frame` is the output of a step. Without a gate, the model is measured on the test rows,
    fitted on all rows and released. `prepare` is the step that fits the encoding of inputs as numbers, on training rows
    only; the model package contains the encoding.
    """
    settings = policy.training_settings
    inputs = choose_inputs(frame, settings, features, snapshot=snapshot, slices=policy.gate.slices)
    transforms = bool(features.transformations)
    train, validation, test = split(frame, settings)
    candidate, tuned = fit_candidate(train, validation, settings, inputs, snapshot, prepare, transforms=transforms)
    metrics = find_metrics()
    test_metrics = measure_on(candidate, test, policy, "test", metrics)
    train_metrics = measure_on(candidate, sample(train, policy.training), policy, "train", metrics)
    baseline_metrics = measure_baseline(candidate, train, test, settings)
    plot_predictions(candidate, test, settings)
    verdict = None
    if policy.gate.enabled:
        champion, snapshot_check = find_champion(policy), check_snapshot(snapshot)
        has_folds = prepare is learn_vocabularies and not policy.training.search
        folds = validate_first(frame, test, champion, settings, inputs, snapshot) if has_folds else None
        facts = GateFacts(test_metrics, snapshot_check, probe_package(candidate, policy.gate), metrics, folds)
        verdict = gate(candidate, champion, SplitRows(train, validation, test), facts, policy)
    if policy.training.refit or not policy.gate.enabled:
        frame = drop_unlearned_classes(frame, candidate, settings)
        rounds = count_rounds(candidate, verdict)
        candidate = fit_all_rows(frame, policy, inputs, snapshot, rounds, prepare, tuned, transforms=transforms)
    if policy.training.refit and policy.gate.enabled:
        verdict = confirm(candidate, probe_package(candidate, policy.gate), policy)
    release(finish(candidate, test_metrics, baseline_metrics, train_metrics, verdict), policy)


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
    """Fit a model without the test rows, and return it with its tuned parameters; call it inside a pipeline.

    `transforms` is whether the model has transformations.
    """
    learned, checked = (add_columns(rows, inputs) if transforms else rows for rows in (train, validation))
    encoding = prepare(learned, inputs)
    tuned = search(learned, checked, encoding, policy) if policy.training.search else None
    return fit(train, validation, encoding, describe(train, inputs), policy, inputs, snapshot, tuned=tuned), tuned


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
        return fit(train, validation, encoding, describe(train, inputs), policy, inputs, snapshot, sources)

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
) -> Model:
    """Fit on all rows; call it inside a pipeline."""
    encoding = prepare(add_columns(frame, inputs) if transforms else frame, inputs)
    statistics = describe(frame, inputs)
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
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    frame = join_features(rows, features, snapshot)
    train_on(frame, policy, features, snapshot)
