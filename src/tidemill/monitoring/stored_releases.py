"""Stored releases: their profiles, and their losses on live rows (for recall)."""

from collections import OrderedDict
from functools import cached_property
from typing import TypeVar

import msgspec
import numpy as np
import polars as pl

from tidemill.checks.regime import ErrorProfile
from tidemill.core.model import Manifest, Model
from tidemill.core.resources import Packages
from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth, losses
from tidemill.data.rows import RowReader
from tidemill.data.statistics import Profile
from tidemill.errors import Corrupt
from tidemill.models.load import load
from tidemill.models.predictions import Predictor
from tidemill.monitoring.windows import read_truth

ERRORS = "errors.json"
PROFILE = "profile.json"
UNKNOWN_CLASS = 50.0  # the loss of a row whose class a model was not trained on
_KEPT = 64
T = TypeVar("T")
_NO_PROFILE = Profile(rows=0, columns=())
_cache: OrderedDict[str, "StoredRelease"] = OrderedDict()


class StoredRelease:
    """A release with its fingerprint; a package of an earlier version has no error profile."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @property
    def manifest(self) -> Manifest:
        """The manifest of its package."""
        return self.model.manifest

    @cached_property
    def errors(self) -> ErrorProfile | None:
        """The profile of its losses on held-out rows; raise `Corrupt` if it cannot be read."""
        content = self.model.files.get(ERRORS)
        return self._decode(ERRORS, content, ErrorProfile) if content else None

    @cached_property
    def inputs(self) -> Profile:
        """The profile of its training rows, without the event time; empty if the package has none.

        Raise `Corrupt` if it cannot be read.
        """
        content = self.model.files.get(PROFILE)
        if not content:
            return _NO_PROFILE
        profile = self._decode(PROFILE, content, Profile)
        columns = tuple(column for column in profile.columns if column.name != self.manifest.time)
        return Profile(rows=profile.rows, columns=columns)

    def _decode(self, file: str, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            problem = f"{file} in the package of model {self.manifest.name!r} cannot be read: {error}"
            raise Corrupt(problem, "train the model again") from None

    @cached_property
    def _predictor(self) -> Predictor:
        return load(self.model)

    def compute_losses(self, features: pl.DataFrame, truth: pl.Series) -> Floats:
        """Return the loss of each row, shape (rows,), from the inputs as they were served.

        Raises
        ------
        DataError
            if the rows do not fit the signature.
        """
        signature = self.manifest.signature
        known = read_truth(truth, signature)
        values = np.full(len(truth), UNKNOWN_CLASS)
        indices = np.flatnonzero(known.is_not_null().to_numpy())
        if not len(indices):
            return values
        inputs = RowReader(signature.inputs).read_frame(features[indices])
        predictions = self._predictor.predict(inputs)
        if signature.task == "regression":
            known_truth = Truth("regression", known[indices].cast(pl.Float64).to_numpy())
            scores = np.asarray(predictions.values, float)
        else:
            order = {name: index for index, name in enumerate(signature.classes)}
            labels = np.array([order[name] for name in known[indices]])
            known_truth = Truth("classification", labels, signature.classes)
            assert predictions.probabilities is not None
            scores = predictions.probabilities
        computed = losses(known_truth, scores)
        values[indices] = np.where(np.isfinite(computed), computed, UNKNOWN_CLASS)
        return values


def has_learned(release: StoredRelease, other: StoredRelease) -> bool:
    """Return whether a release has learned the rows of another one too: then it knows that regime itself."""
    own, others = release.manifest.trained_on, other.manifest.trained_on
    if own.trained_from is None or own.trained_until is None or others.trained_from is None:
        return False
    newest = others.trained_until or others.trained_from
    middle = others.trained_from + (newest - others.trained_from) / 2
    return own.trained_from <= middle and newest <= own.trained_until


def load_release(packages: Packages, digest: str) -> StoredRelease:
    """Return a stored release; the last 64 are kept in memory."""
    if digest not in _cache:
        _cache[digest] = StoredRelease(packages.load(digest))
        while len(_cache) > _KEPT:
            _cache.popitem(last=False)
    _cache.move_to_end(digest)
    return _cache[digest]
