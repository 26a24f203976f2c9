"""Conformance suite of flavors: a package predicts a row equally, alone or with others, in any process."""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import polars as pl
import pytest

from tidemill.blobs.codecs import ModelCodec, encode
from tidemill.core.model import Model
from tidemill.errors import DataError
from tidemill.models.load import load
from tidemill.models.predictions import Predictions, Predictor
from tidemill.testing.processes import run_in_processes


class FlavorSuite:
    """Subclass it and define the fixtures `model` and `rows`, and `loader` if the flavor is not registered yet.

    ::

        class TestMyFlavor(FlavorSuite):
            @pytest.fixture
            def model(self):
                return pack(manifest, estimator)

            @pytest.fixture
            def rows(self):
                return pl.DataFrame(…)  # rows that the estimator was fitted on
    """

    @pytest.fixture
    def model(self) -> Model:
        """A package of the flavor."""
        raise NotImplementedError("define the fixture `model`")

    @pytest.fixture
    def rows(self) -> pl.DataFrame:
        """At least ten rows with the inputs of the package, with different predictions."""
        raise NotImplementedError("define the fixture `rows`")

    @pytest.fixture
    def loader(self) -> Callable[[Model], Predictor]:
        """Return a picklable function that loads a package."""
        return load

    @pytest.fixture
    def predictor(self, model: Model, loader: Callable[[Model], Predictor]) -> Predictor:
        return loader(model)

    def test_predictions_have_the_form_of_the_signature(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        signature = model.manifest.signature
        predictions = predictor.predict(rows)
        assert predictor.signature == signature
        assert len(predictions.values) == rows.height
        assert len(set(predictions.values)) > 1
        if signature.task == "regression":
            assert predictions.probabilities is None
            assert all(type(value) is float for value in predictions.values)
            return
        assert predictions.probabilities is not None
        assert predictions.probabilities.shape == (rows.height, len(signature.classes))
        assert np.allclose(predictions.probabilities.sum(axis=1), 1)
        assert (predictions.probabilities >= 0).all()
        assert predictions.values == [signature.classes[index] for index in predictions.probabilities.argmax(axis=1)]

    def test_the_package_predicts_the_same_after_writing_and_in_another_process(
        self, model: Model, predictor: Predictor, loader: Callable[[Model], Predictor], rows: pl.DataFrame
    ) -> None:
        expected, content = predictor.predict(rows), encode(model)
        _assert_equal(_predict(0, loader, content, rows), expected)
        (elsewhere,) = run_in_processes(1, _predict, loader, content, rows)
        _assert_equal(elsewhere, expected)

    def test_a_row_alone_has_the_same_prediction_as_among_others(
        self, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        together = predictor.predict(rows)
        for index in range(min(rows.height, 10)):
            alone = predictor.predict(rows[index : index + 1])
            _assert_equal(alone, _slice(together, slice(index, index + 1)))

    def test_column_order_and_extra_columns_do_not_matter(self, predictor: Predictor, rows: pl.DataFrame) -> None:
        reordered = rows.select(reversed(rows.columns)).with_columns(pl.lit("extra").alias("_extra"))
        _assert_equal(predictor.predict(reordered), predictor.predict(rows))

    def test_no_rows_have_no_predictions(self, predictor: Predictor, rows: pl.DataFrame) -> None:
        assert predictor.predict(rows.clear()).values == []

    def test_the_error_for_an_unreadable_value_has_a_cure(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        numbers = [column.name for column in model.manifest.signature.inputs if column.type in ("number", "integer")]
        if numbers:
            wrong = rows.with_columns(pl.lit("a lot").alias(numbers[0]))
            with pytest.raises(DataError, match=numbers[0]) as error:
                predictor.predict(wrong)
            assert error.value.cure

    def test_an_unseen_text_value_has_a_prediction(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        texts = [column.name for column in model.manifest.signature.inputs if column.type == "text"]
        unseen = rows.with_columns(pl.lit("never seen").alias(name) for name in texts)
        assert len(predictor.predict(unseen).values) == rows.height

    def test_missing_values_have_predictions_or_raise_a_data_error(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        for column in model.manifest.signature.inputs:
            frame = rows.with_columns(pl.lit(None, rows.schema[column.name]).alias(column.name))
            with suppress(DataError):
                assert len(predictor.predict(frame).values) == rows.height

    def test_threads_share_a_predictor(self, predictor: Predictor, rows: pl.DataFrame) -> None:
        alone = predictor.predict(rows)
        with ThreadPoolExecutor(8) as pool:
            for predictions in pool.map(lambda _: predictor.predict(rows), range(32)):
                _assert_equal(predictions, alone)


def _predict(_: int, loader: Callable[[Model], Predictor], content: bytes, rows: pl.DataFrame) -> Predictions:
    return loader(ModelCodec().read(io.BytesIO(content), Model)).predict(rows)


def _slice(predictions: Predictions, rows: slice) -> Predictions:
    return Predictions(
        predictions.values[rows], None if predictions.probabilities is None else predictions.probabilities[rows]
    )


def _assert_equal(predictions: Predictions, expected: Predictions) -> None:
    if predictions.probabilities is None or expected.probabilities is None:
        assert predictions.probabilities is expected.probabilities
        assert np.allclose(np.asarray(predictions.values, float), np.asarray(expected.values, float), rtol=1e-9)
        return
    assert predictions.values == expected.values
    assert np.allclose(predictions.probabilities, expected.probabilities, rtol=1e-9, atol=1e-12)
