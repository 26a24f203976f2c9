"""Compares the recipe of a first model with the trivial baseline on folds, where its test has too few rows.

A test of 36 rows decides little: one confident error can hide that a model is good. With folds, every row is a test row
of a model that was not fitted on it.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.core.columns import TIME, is_internal
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy
from tidemill.core.source import Source
from tidemill.data.folds import split_folds
from tidemill.data.metrics import losses
from tidemill.data.split import choose_split_kind, split_at_random, split_by_group, split_stratified
from tidemill.errors import DataError
from tidemill.recipes.scoring import score_rows, select_learned
from tidemill.training.evaluate import predict_baseline, to_truth

FOLDS = 10
FEW_TEST_ROWS = 200


class FoldComparison(Struct, frozen=True, kw_only=True):
    """The losses of the rows of all folds: of the models that were not fitted on them, and of the baselines.

    `ratio` is the mean number of test rows per training row.
    """

    losses: list[float]
    baseline_losses: list[float]
    folds: int
    ratio: float


def needs_folds(test: pl.DataFrame) -> bool:
    """Return whether a test has too few rows to decide alone about a first model."""
    return test.height < FEW_TEST_ROWS


def compare_folds(
    frame: pl.DataFrame, policy: ModelPolicy, source: Source, fit: Callable[[pl.DataFrame], Model]
) -> FoldComparison | None:
    """Return the losses of all folds; None if a fold cannot be fitted or tested, or a loss is not finite.

    `fit` returns the model of the training rows of a fold. As for a test, rows of classes that these rows do not have
    are excluded.
    """
    options, problem = policy.training, policy.problem
    kind = choose_split_kind(options, timed=bool(source.time))
    candidate, baseline, ratios = [], [], []
    try:
        for train, test in split_folds(
            frame,
            kind,
            FOLDS,
            seed=options.seed,
            group=options.group,
            label=problem.label,
            alike=list_inputs(frame, policy, source),
        ):
            model = fit(train)
            rows = select_learned(model, test, problem)
            truth, scores = score_rows(model, rows, problem, source)
            learned = to_truth(select_learned(model, train, problem)[problem.label], problem.task, truth.classes)
            candidate.append(losses(truth, scores))
            baseline.append(losses(truth, predict_baseline(learned, rows.height)))
            ratios.append(test.height / train.height)
    except DataError:
        return None
    if len(candidate) < 2 or not np.isfinite(np.concatenate(candidate)).all():
        return None
    return FoldComparison(
        losses=np.concatenate(candidate).tolist(),
        baseline_losses=np.concatenate(baseline).tolist(),
        folds=len(candidate),
        ratio=float(np.mean(ratios)),
    )


def list_inputs(frame: pl.DataFrame, policy: ModelPolicy, source: Source) -> tuple[str, ...]:
    """Return the columns of a model's inputs: copies are equal in them, and stay on one side of a split."""
    not_inputs = {*source.key, source.time, policy.problem.label_known_at, policy.problem.label}
    columns = (name for name in frame.columns if name not in not_inputs and not is_internal(name))
    return policy.inputs.request or tuple(columns)


def hold_out_validation(
    rows: pl.DataFrame, policy: ModelPolicy, source: Source
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Return the rows to fit on and the validation rows, split as the policy splits; None without early stopping."""
    options = policy.training
    if not (options.early_stopping and options.validation):
        return rows, None
    share, seed = options.validation, options.seed
    match choose_split_kind(options, timed=bool(source.time)):
        case "time":
            ordered = rows.sort(TIME, maintain_order=True)
            cut = max(1, int(rows.height * (1 - share)))
            return ordered[:cut], ordered[cut:]
        case "group":
            split = split_by_group(rows, options.group, share, 0.0, seed)
        case "stratified":
            inputs = list_inputs(rows, policy, source)
            split = split_stratified(rows, policy.problem.label, share, 0.0, seed, inputs)
        case "random":
            inputs = list_inputs(rows, policy, source)
            split = split_at_random(rows, share, 0.0, seed, inputs, policy.problem.label)
    return split.train, split.test
