"""Training: from the rows that were let in to a release that answers, through its gate.

`training` is the pipeline; its parts are plain steps, so that a project can put its own in between.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import polars as pl
from msgspec import json
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.check import Verdict
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
from tidemill.data.frame import KNOWN_AT, TIME
from tidemill.data.split import at_random, by_group, by_time, kind_of, stratified
from tidemill.data.statistics import Profile, profile
from tidemill.data.types import column_type
from tidemill.errors import DataError
from tidemill.models.environment import list_versions
from tidemill.models.flavors import lightgbm, sklearn
from tidemill.models.package import make_portable
from tidemill.recipes.ingestion import ingest
from tidemill.recipes.judging import (
    confirm,
    draw,
    find_champion,
    find_metrics,
    gate,
    look_into_data,
    measure_on,
    sample,
    try_out,
)
from tidemill.recipes.rows import Snapshot, extract, join_features, take_snapshot
from tidemill.registry.releases import register
from tidemill.registry.rollout import Deployer
from tidemill.training.evaluate import check_slice_columns, filter_classes, find_classes, to_truth
from tidemill.training.fit import fit_lightgbm, fit_sklearn
from tidemill.training.tune import LabeledMatrix, SearchResult, tune

_PROFILED = 100_000
_SAMPLE_ROWS = 20
_MADE_WITH = ("tidemill", "lightgbm", "numpy", "polars", "scikit-learn")


@step(transient=True)
def split(
    frame: pl.DataFrame, policy: ModelPolicy, sources: Sources
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Train, validation and test rows, split as the policy says: by time where it does not and the source has one."""
    options = policy.training
    share, seed = options.test_share, options.seed
    validation = options.validation if options.early_stopping or options.search else 0.0
    source = sources.definition(policy.problem.source)
    apart = {*source.key, source.time, TIME, KNOWN_AT, policy.problem.label_known_at}
    inputs = policy.inputs.request or tuple(name for name in frame.columns if name not in apart)
    alike = (*inputs, policy.problem.label)
    match kind_of(options, timed=bool(source.time)):
        case "time":
            return by_time(frame, options.test, share, validation, options.minimum_test_rows)
        case "group":
            return by_group(frame, options.group, share, validation, seed)
        case "stratified":
            return stratified(frame, policy.problem.label, share, validation, seed, alike)
        case "random":
            return at_random(frame, share, validation, seed, alike)


@step
def describe(frame: pl.DataFrame, features: FeatureSet) -> Profile:
    """The profile of the inputs that a model is trained on, from at most 100,000 rows: the reference for drift."""
    rows = frame.gather_every(-(-frame.height // _PROFILED)) if frame.height > _PROFILED else frame
    return profile(rows.select(name for name in features.names if name in frame.columns))


@step
def learn_vocabularies(frame: pl.DataFrame, features: FeatureSet) -> Encoding:
    """How each input becomes a number; fitted on training rows only."""
    return fit_encoding(frame, features.names)


@step
def search(train: pl.DataFrame, validation: pl.DataFrame, encoding: Encoding, policy: ModelPolicy) -> SearchResult:
    """The best parameters that Optuna finds within the policy's budget, on these rows and no others."""
    problem = policy.problem
    classes = _learned_classes(train, problem)
    train_rows, held = (
        LabeledMatrix(encode(encoding, rows), to_truth(rows[problem.label], problem.task, classes))
        for rows in (train, filter_classes(validation, problem.label, classes))
    )
    return tune(train_rows, held, policy=policy.training, names=encoding.names, categorical=encoding.categorical)


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
    """A model package, fitted on training rows; the number of rounds is chosen on the validation rows, if any."""
    problem, options = policy.problem, policy.training
    if tuned is not None:
        options = replace(options, params=options.params | tuned.params)
    classes = _learned_classes(train, problem)
    target = to_truth(train[problem.label], problem.task, classes)
    manifest = _describe_model(train, encoding, classes, policy, features, snapshot, sources.definition(problem.source))
    matrix = encode(encoding, train)
    if manifest.flavor == "sklearn":
        model = sklearn.pack(manifest, fit_sklearn(matrix, target.values, policy=options), encoding)
    else:
        booster = fit_lightgbm(
            matrix,
            target.values,
            task=problem.task,
            classes=len(classes),
            policy=options,
            names=encoding.names,
            categorical=encoding.categorical,
            validation=_held(validation, encoding, problem, classes) if options.early_stopping else None,
            rounds=rounds,
        )
        manifest = replace(manifest, data=manifest.data | {"iterations": booster.current_iteration()})
        model = lightgbm.pack(manifest, booster, encoding)
    samples = train.tail(_SAMPLE_ROWS).select(column.name for column in encoding.columns)
    extra = {"profile.json": json.encode(statistics), "samples.json": samples.write_json().encode()}
    return make_portable(replace(model, files=model.files | extra), options.packages)


def _learned_classes(train: pl.DataFrame, problem: Problem) -> tuple[str, ...]:
    """The classes of the training rows; none for a regression."""
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
    """The manifest of a model that learns from these rows."""
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
        environment=list_versions(*_MADE_WITH),
        data={
            "table": snapshot.table,
            "version": snapshot.version,
            "rows": train.height,
            "trained_until": newest.isoformat(),
            "label": problem.label,
            **({"positive": classes[1]} if len(classes) == 2 else {}),
        },
    )


def _held(
    validation: pl.DataFrame | None, encoding: Encoding, problem: Problem, classes: tuple[str, ...]
) -> tuple[Floats, Any] | None:
    if validation is None or not validation.height:
        return None
    validation = filter_classes(validation, problem.label, classes)
    return encode(encoding, validation), to_truth(validation[problem.label], problem.task, classes).values


@step
def finish(model: Model, tested: Metrics, trained: Metrics, verdict: Verdict) -> Model:
    """The package to release, with its metrics; only once the verdict let it through."""
    metrics = {f"{one.about}_{name}": value for one in (tested, trained) for name, value in one.values.items()}
    bounds = {f"{one.about}_{name}": pair for one in (tested, trained) for name, pair in one.intervals.items()}
    assert not verdict.stops
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
    """Register a model that passed, and let it go live as its policy says; the label of the release."""
    made = register(books, clock, model, packages.save(model), environment=context.environment, run=context.run)
    judged = books.verdicts.find(run=context.run, check="gate")
    Deployer(books, board, clock, context.environment).release(made, policy, judged[-1].id if judged else "")
    return made.label


def train_on(
    frame: pl.DataFrame,
    policy: ModelPolicy,
    features: FeatureSet,
    snapshot: Snapshot,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding] = learn_vocabularies,
) -> None:
    """The second half of a training: from a frame with its label and inputs to a release.

    Call it inside a pipeline; `frame` is what a step gave. A policy without a gate releases what is fitted on all rows.
    `prepare` is the step that learns, from training rows only, how inputs become numbers; the model keeps what it gave.
    """
    learning = policy.training_settings
    inputs = choose_inputs(frame, learning, features, slices=policy.gate.slices)
    if not policy.gate.enabled:
        release(fit_unjudged(frame, learning, inputs, snapshot, prepare), policy)
        return
    train, validation, test = split(frame, learning)
    candidate, tuned = fit_candidate(train, validation, learning, inputs, snapshot, prepare)
    metrics = find_metrics()
    tested = measure_on(candidate, test, policy, "test", metrics)
    trained = measure_on(candidate, sample(train, policy.training), policy, "train", metrics)
    draw(candidate, test, learning)
    champion, data = find_champion(policy), look_into_data(snapshot)
    trial = try_out(candidate, policy.gate)
    verdict = gate(candidate, champion, train, test, policy, tested, data, trial, metrics, validation=validation)
    if policy.training.refit:
        frame = leave_unlearned(frame, candidate, learning)
        candidate = fit_whole(frame, policy, inputs, snapshot, count_rounds(candidate, verdict), prepare, tuned)
        verdict = confirm(candidate, try_out(candidate, policy.gate), policy)
    release(finish(candidate, tested, trained, verdict), policy)


def fit_candidate(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding],
) -> tuple[Model, SearchResult | None]:
    """A model that has seen no test rows, and the parameters that were found for it; call it inside a pipeline."""
    learned = prepare(train, inputs)
    tuned = search(train, validation, learned, policy) if policy.training.search else None
    return fit(train, validation, learned, describe(train, inputs), policy, inputs, snapshot, tuned=tuned), tuned


def fit_unjudged(
    frame: pl.DataFrame,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding],
) -> Model:
    """Fit on every row, as many rounds as are best on validation rows where the policy asks for it."""
    if not (policy.training.early_stopping or policy.training.search):
        return fit_whole(frame, policy, inputs, snapshot, prepare=prepare)
    train, validation, _ = split(frame, policy)
    candidate, tuned = fit_candidate(train, validation, policy, inputs, snapshot, prepare)
    return fit_whole(frame, policy, inputs, snapshot, count_rounds(candidate), prepare, tuned)


def fit_whole(
    frame: pl.DataFrame,
    policy: ModelPolicy,
    inputs: FeatureSet,
    snapshot: Snapshot,
    rounds: int | None = None,
    prepare: Callable[[pl.DataFrame, FeatureSet], Encoding] = learn_vocabularies,
    tuned: SearchResult | None = None,
) -> Model:
    """Fit on every row; call it inside a pipeline."""
    learned, statistics = prepare(frame, inputs), describe(frame, inputs)
    return fit(frame, None, learned, statistics, policy.training_settings, inputs, snapshot, rounds=rounds, tuned=tuned)


@step(transient=True)
def leave_unlearned(rows: pl.DataFrame, candidate: Model, policy: ModelPolicy) -> pl.DataFrame:
    """The rows whose class a candidate knows: its refit is to answer as the one that was judged."""
    return filter_classes(rows, policy.problem.label, candidate.manifest.signature.classes)


@step
def count_rounds(candidate: Model, verdict: Verdict | None = None) -> int | None:
    """How many rounds a candidate has, where the `verdict` on it lets it pass.

    Its refit takes as many: none is chosen on the rows that it learns from.
    """
    return candidate.manifest.trained_on.iterations if verdict is None or not verdict.stops else None


@step
def choose_inputs(
    rows: pl.DataFrame,
    policy: ModelPolicy,
    features: FeatureSet,
    sources: Sources,
    slices: tuple[str, ...] = (),
) -> FeatureSet:
    """The model's inputs: those that the policy lists, or every column that is no label, key, time or group.

    Before anything is fitted, the columns of the gate's `slices` are held to be there.
    """
    check_slice_columns(rows, slices)
    if features.request:
        return features
    source = sources.definition(policy.problem.source)
    apart = {*source.key, *source.later, *policy.inputs.exclude, source.time, source.known_at}
    apart |= {policy.problem.label, policy.problem.label_known_at, policy.training.group}
    views = {name for view in features.views for name in view.features}
    apart |= views | {name for name, kind in rows.schema.items() if kind.is_nested()}
    found = [name for name in rows.columns if name not in apart and not name.startswith("_")]
    if not found:
        raise DataError("no column is left to learn from", "list some under [inputs] request in tidemill.toml")
    return replace(features, request=tuple(found))


@pipeline
def training(policy: ModelPolicy, features: FeatureSet, until: datetime) -> None:
    """Ingest what is new, train on what is known, judge, release."""
    snapshot = take_snapshot(policy, until, ingest(policy.problem.source, until))
    rows = extract(snapshot, policy.problem, policy.training, policy.name)
    frame = join_features(rows, features, snapshot)
    train_on(frame, policy, features, snapshot)
