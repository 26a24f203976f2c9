"""What every flavor promises: a package answers the same for a row, alone or among others, here and elsewhere."""

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
from tidemill.testing.processes import in_processes


class FlavorSuite:
    """Inherit it, give the fixtures `model` and `rows`, and `make` where the flavor is not registered yet.

    ::

        class TestMyFlavor(FlavorSuite):
            @pytest.fixture
            def model(self):
                return pack(manifest, estimator)

            @pytest.fixture
            def rows(self):
                return pl.DataFrame(…)  # some that the estimator was fitted on
    """

    @pytest.fixture
    def model(self) -> Model:
        """A package of the flavor."""
        raise NotImplementedError("give the fixture `model`")

    @pytest.fixture
    def rows(self) -> pl.DataFrame:
        """At least ten rows with the inputs of the package, on which it does not say the same everywhere."""
        raise NotImplementedError("give the fixture `rows`")

    @pytest.fixture
    def make(self) -> Callable[[Model], Predictor]:
        """Loads a package; picklable."""
        return load

    @pytest.fixture
    def predictor(self, model: Model, make: Callable[[Model], Predictor]) -> Predictor:
        return make(model)

    def test_answers_are_of_the_form_that_the_signature_says(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        signature = model.manifest.signature
        said = predictor.predict(rows)
        assert predictor.signature == signature
        assert len(said.values) == rows.height
        assert len(set(said.values)) > 1
        if signature.task == "regression":
            assert said.probabilities is None
            assert all(type(value) is float for value in said.values)
            return
        assert said.probabilities is not None
        assert said.probabilities.shape == (rows.height, len(signature.classes))
        assert np.allclose(said.probabilities.sum(axis=1), 1)
        assert (said.probabilities >= 0).all()
        assert said.values == [signature.classes[place] for place in said.probabilities.argmax(axis=1)]

    def test_the_package_answers_the_same_after_a_journey(
        self, model: Model, predictor: Predictor, make: Callable[[Model], Predictor], rows: pl.DataFrame
    ) -> None:
        here, content = predictor.predict(rows), encode(model)
        _agree(_predict(0, make, content, rows), here)
        (elsewhere,) = in_processes(1, _predict, make, content, rows)
        _agree(elsewhere, here)

    def test_a_row_alone_is_answered_as_among_others(self, predictor: Predictor, rows: pl.DataFrame) -> None:
        together = predictor.predict(rows)
        for place in range(min(rows.height, 10)):
            alone = predictor.predict(rows[place : place + 1])
            _agree(alone, _part(together, slice(place, place + 1)))

    def test_the_order_of_columns_and_columns_beside_do_not_matter(
        self, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        turned = rows.select(reversed(rows.columns)).with_columns(pl.lit("beside").alias("_beside"))
        _agree(predictor.predict(turned), predictor.predict(rows))

    def test_no_rows_have_no_answers(self, predictor: Predictor, rows: pl.DataFrame) -> None:
        assert predictor.predict(rows.clear()).values == []

    def test_what_cannot_be_read_is_refused_with_a_cure(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        numbers = [one.name for one in model.manifest.signature.inputs if one.type in ("number", "integer")]
        if numbers:
            wrong = rows.with_columns(pl.lit("a lot").alias(numbers[0]))
            with pytest.raises(DataError, match=numbers[0]) as refused:
                predictor.predict(wrong)
            assert refused.value.cure

    def test_a_word_that_was_never_seen_is_answered(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        words = [one.name for one in model.manifest.signature.inputs if one.type == "text"]
        unseen = rows.with_columns(pl.lit("never seen").alias(name) for name in words)
        assert len(predictor.predict(unseen).values) == rows.height

    def test_missing_values_are_answered_or_refused_and_never_break_it(
        self, model: Model, predictor: Predictor, rows: pl.DataFrame
    ) -> None:
        for wanted in model.manifest.signature.inputs:
            frame = rows.with_columns(pl.lit(None, rows.schema[wanted.name]).alias(wanted.name))
            with suppress(DataError):
                assert len(predictor.predict(frame).values) == rows.height

    def test_threads_share_a_predictor(self, predictor: Predictor, rows: pl.DataFrame) -> None:
        alone = predictor.predict(rows)
        with ThreadPoolExecutor(8) as pool:
            for said in pool.map(lambda _: predictor.predict(rows), range(32)):
                _agree(said, alone)


def _predict(_: int, make: Callable[[Model], Predictor], content: bytes, rows: pl.DataFrame) -> Predictions:
    return make(ModelCodec().read(io.BytesIO(content), Model)).predict(rows)


def _part(said: Predictions, part: slice) -> Predictions:
    return Predictions(said.values[part], None if said.probabilities is None else said.probabilities[part])


def _agree(one: Predictions, other: Predictions) -> None:
    if one.probabilities is None or other.probabilities is None:
        assert one.probabilities is other.probabilities
        assert np.allclose(np.asarray(one.values, float), np.asarray(other.values, float), rtol=1e-9)
        return
    assert one.values == other.values
    assert np.allclose(one.probabilities, other.probabilities, rtol=1e-9, atol=1e-12)
