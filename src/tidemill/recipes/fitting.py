"""Fitting: the steps that fit a model package on rows: its profile, encoding, parameters and estimator."""

from datetime import datetime
from typing import Any

import polars as pl
from msgspec import json
from msgspec.structs import replace

from tidemill.core.columns import TIME
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy, Problem
from tidemill.core.resources import Sources
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.encoding import Encoding, encode, fit_encoding
from tidemill.data.relations import profile_reference
from tidemill.data.rows import RowReader, convert_columns
from tidemill.data.statistics import Profile
from tidemill.data.types import column_type
from tidemill.models.environment import list_versions
from tidemill.models.flavors import lightgbm, river, sklearn
from tidemill.models.package import make_portable
from tidemill.models.transforming import check_row_wise, declare_raw_inputs, pack_features, transform
from tidemill.recipes.rows import Snapshot
from tidemill.training.estimators import EstimatorRows, fit_estimator
from tidemill.training.evaluate import filter_classes, find_classes, require_finite_labels, to_truth
from tidemill.training.fit import fit_lightgbm
from tidemill.training.tune import LabeledMatrix, SearchResult, tune

_PROFILED = 50_000
_SAMPLE_ROWS = 20
_RECORDED_PACKAGES = ("tidemill", "lightgbm", "numpy", "polars", "scikit-learn")


@step
def describe(frame: pl.DataFrame, features: FeatureSet) -> Profile:
    """Profile the raw inputs, on at most 50,000 training rows: the reference for drift."""
    rows = frame.gather_every(-(-frame.height // _PROFILED)) if frame.height > _PROFILED else frame
    present = set(frame.columns)
    return profile_reference(rows.select(name for name in features.raw_names if name in present), rows[TIME])


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
    statistics: Profile | None,
    policy: ModelPolicy,
    features: FeatureSet,
    snapshot: Snapshot,
    sources: Sources,
    rounds: int | None = None,
    tuned: SearchResult | None = None,
) -> Model:
    """Fit a model package on training rows; the number of rounds is chosen on the validation rows, if any.

    The rows are raw: transformations are checked to be row-wise, and compute their columns here. Without `statistics`,
    the model cannot be compared with live inputs: a model that is only measured needs none.
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
        if fitted.form == "learner":
            learned = replace(manifest, flavor="river", data=manifest.data | _describe_labels(snapshot))
            model = river.pack(learned, fitted.estimator, encoding)
        else:
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
    extra = {"samples.json": samples.write_json().encode()} | code
    if statistics is not None:
        extra["profile.json"] = json.encode(statistics)
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
    oldest, newest = train[TIME].min(), train[TIME].max()
    assert isinstance(oldest, datetime)
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
            "trained_from": oldest.isoformat(),
            "trained_until": newest.isoformat(),
            **({"withdrawn": list(snapshot.withdrawn)} if snapshot.withdrawn else {}),
            "label": problem.label,
            **({"positive": classes[1]} if len(classes) == 2 else {}),
        },
    )


def _describe_labels(snapshot: Snapshot) -> dict[str, str]:
    """Return until when the labels of the source, and those of the service, were learned: a learner goes on there."""
    times = {"known_until": snapshot.known_until, "feedback_until": snapshot.feedback_until}
    return {name: time.isoformat() for name, time in times.items() if time is not None}


def _encode_validation(
    validation: pl.DataFrame | None, encoding: Encoding, problem: Problem, classes: tuple[str, ...]
) -> tuple[Floats, Any] | None:
    if validation is None or not validation.height:
        return None
    validation = filter_classes(validation, problem.label, classes)
    return encode(encoding, validation), to_truth(validation[problem.label], problem.task, classes).values
