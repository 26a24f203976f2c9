"""Tests of the label: its type, its classes, and that no step changes them."""

import polars as pl

from tidemill.data.types import column_type
from tidemill.errors import TidemillError
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.sample import Sample
from tidemill.testing.kit.training import SampleTraining
from tidemill.training.evaluate import find_classes

__tracebackhide__ = True
_LEAST_ROWS = 2


def require_label(sample: Sample) -> None:
    """Require that the label fits the task: numbers for a regression, a few classes for a classification."""
    problem, labels = sample.policy.problem, sample.rows[sample.label]
    kind = column_type(labels.dtype)
    schema = sample.sources.schema(problem.source)
    declared = schema.types.get(sample.label) if schema is not None else None
    if declared not in (None, "empty", kind) and {declared, kind} != {"integer", "number"}:
        fail(
            f"the label {sample.label!r} has the wrong type: {kind}, and its schema declares {declared}",
            f"correct the rows of source {problem.source!r}, or the schema",
        )
    if problem.task == "regression":
        if kind not in ("integer", "number"):
            fail(
                f"the label {sample.label!r} has the wrong type: {kind}, and a regression needs numbers",
                'set task = "classification" under [problem], or choose another label',
            )
        if (bad := int((~labels.cast(pl.Float64).is_finite()).sum())) > 0:
            fail(f"the label {sample.label!r} is not finite in {bad} rows", "remove these labels")
        return
    if labels.dtype.is_float() and not (labels == labels.round(0)).all():
        fail(
            f"the label {sample.label!r} has the wrong type: fractions such as {labels[0]} are no classes",
            'set task = "regression" under [problem], or choose another label',
        )
    try:
        classes = find_classes(labels, sample.label, problem.positive)
    except TidemillError as error:
        fail(error.problem, error.cure)
    counts = labels.value_counts()
    rare = counts.filter(pl.col("count") < _LEAST_ROWS)
    if rare.height == len(classes):
        fail(f"each class of the label {sample.label!r} has one row", "choose another label: this one is a key")


def require_kept_label(training: SampleTraining) -> None:
    """Require that no step changes the type of the label, and that the model declares this type."""
    sample = training.sample
    expected = column_type(sample.rows.schema[sample.label])
    for call, frame in training.list_frames(sample.label):
        kind = column_type(frame.schema[sample.label])
        if kind != expected and frame.height:
            fail(
                f"step {call.node!r} gives the label {sample.label!r} the wrong type: {kind} instead of {expected}",
                "keep the label as it is in the source",
            )
    if training.run.state == "done" and training.model.manifest.signature.label != expected:
        fail(
            f"the model declares the label {sample.label!r} as {training.model.manifest.signature.label}, "
            f"but the source has {expected}",
            "keep the label as it is in the source",
        )
