"""Tests of training: the loss falls over the rounds, and a model overfits a few records."""

from typing import Any

import msgspec
import numpy as np
import polars as pl
from msgspec.structs import replace

from tidemill.core.columns import TIME
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy
from tidemill.data.arrays import Floats
from tidemill.data.encoding import Encoding, encode, fit_encoding
from tidemill.data.metrics import Truth, losses
from tidemill.errors import TidemillError
from tidemill.models.flavors.estimator import load_pickle
from tidemill.models.predictions import to_predictions
from tidemill.models.transforming import compute_inputs
from tidemill.recipes.fitting import fit
from tidemill.recipes.rows import Snapshot
from tidemill.recipes.scoring import score, select_learned
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.sample import Sample
from tidemill.testing.kit.training import SampleTraining
from tidemill.training.evaluate import predict_baseline, to_truth

__tracebackhide__ = True
_LEAST_FALL = 0.005
_OVERFIT = 0.5
_COPIES = 50
_MOST_CLASSES = 4
_CURE = "check the learning rate, the objective and the labels under [training] in tidemill.toml and in pipeline.py"


def require_falling_loss(training: SampleTraining) -> None:
    """Require that the loss on the training rows falls from the first round to the last.

    A model without rounds must have a lower loss on these rows than the trivial baseline.
    """
    model, rows = training.model, select_learned(training.model, training.sample.joined, training.sample.policy.problem)
    truth = _find_truth(model, rows, training.sample.policy)
    curve = _measure_rounds(model, rows, truth)
    if len(curve) < 2:
        curve = [float(losses(truth, predict_baseline(truth, rows.height)).mean()), _measure(model, rows, truth)]
        compared = "the loss of the trivial baseline is"
    else:
        compared = "after the first round it is"
    if not np.isfinite(curve).all():
        fail(f"the loss of the training is not finite: {curve[-1]}", _CURE)
    if curve[-1] > curve[0] * (1 - _LEAST_FALL):
        fail(
            f"the loss does not fall: {compared} {curve[0]:.4f}, and after the last {curve[-1]:.4f}, on the training "
            "rows",
            _CURE,
        )


def require_overfit(sample: Sample, encoding: Encoding | None = None) -> None:
    """Require that the estimator of the policy learns a few records by heart: their loss falls to less than half."""
    policy, rows = sample.model, _choose_records(sample)
    batch = pl.concat([rows] * _COPIES)
    settings = replace(policy, training=replace(policy.training, early_stopping=0)).training_settings
    encoding = encoding or fit_encoding(sample.complete, sample.features.names)
    snapshot = Snapshot(table=policy.problem.source, version=0, known_until=None)
    try:
        model = fit(batch, None, encoding, None, settings, sample.features, snapshot, sample.sources)
    except TidemillError as error:
        fail(f"a model cannot be fitted on {rows.height} records: {error.problem}", error.cure)
    truth = _find_truth(model, rows, policy)
    baseline = float(losses(truth, predict_baseline(truth, rows.height)).mean())
    loss = _measure(model, rows, truth)
    if not loss <= _OVERFIT * baseline:
        fail(
            f"the loss does not fall on {rows.height} records: {loss:.4f}, and {baseline:.4f} without a model; "
            "a model that can learn overfits them",
            _CURE,
        )


def _choose_records(sample: Sample) -> pl.DataFrame:
    """Return a few records that differ in their inputs: two of each of some classes, or four with different labels."""
    rows, label = sample.joined, sample.label
    names = [name for name in sample.features.raw_names if name in rows.columns]
    distinct = rows.unique(names, keep="first", maintain_order=True)
    if sample.policy.problem.task == "regression":
        ordered = distinct.sort(label, maintain_order=True)
        positions = sorted({index * (ordered.height - 1) // 3 for index in range(4)})
        return ordered[positions].sort(TIME, maintain_order=True)
    classes = distinct[label].value_counts(sort=True)[label].head(_MOST_CLASSES).to_list()
    chosen = [distinct.filter(pl.col(label) == name).head(2) for name in classes]
    return pl.concat(chosen).sort(TIME, maintain_order=True)


def _find_truth(model: Model, rows: pl.DataFrame, policy: ModelPolicy) -> Truth:
    return to_truth(rows[policy.problem.label], policy.problem.task, model.manifest.signature.classes)


def _measure(model: Model, rows: pl.DataFrame, truth: Truth) -> float:
    return float(losses(truth, score(model, rows)).mean())


def _measure_rounds(model: Model, rows: pl.DataFrame, truth: Truth) -> list[float]:
    """Return the loss after some rounds of a boosted model; empty for another estimator."""
    if "encoding.json" not in model.files:
        return []
    matrix = encode(msgspec.json.decode(model.files["encoding.json"], type=Encoding), compute_inputs(model, rows))
    if model.manifest.flavor == "lightgbm":
        return _measure_boosting(model, matrix, truth)
    return _measure_stages(model, matrix, truth)


def _measure_boosting(model: Model, matrix: Floats, truth: Truth) -> list[float]:
    import lightgbm

    booster = lightgbm.Booster(model_str=model.files["model.txt"].decode())
    count = booster.current_iteration()
    if count < 2:
        return []
    curve = []
    for rounds in sorted({1, max(1, count // 2), count}):
        raw = np.asarray(booster.predict(matrix, num_iteration=rounds, num_threads=1))
        predictions = to_predictions(model.manifest.signature, raw)
        scores = predictions.probabilities if predictions.probabilities is not None else np.asarray(predictions.values)
        curve.append(float(losses(truth, scores).mean()))
    return curve


def _measure_stages(model: Model, matrix: Floats, truth: Truth) -> list[float]:
    """Return the loss after each stage of an estimator of scikit-learn that has stages; empty for another one."""
    if model.manifest.flavor != "sklearn" or "estimator.json" in model.files:
        return []
    estimator: Any = load_pickle(model, "model.joblib")
    staged = getattr(estimator, "staged_predict_proba" if truth.classes else "staged_predict", None)
    if staged is None:
        return []
    return [float(losses(truth, np.asarray(scores)).mean()) for scores in staged(matrix)]
