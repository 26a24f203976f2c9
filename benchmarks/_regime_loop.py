"""The loop on a stream of rows: the decisions are those of `tidemill.checks.regime`, which the daemon makes too.

The rows are kept in memory instead of a journal, and the models are random forests instead of packages.
"""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier

from benchmarks._regime_streams import Stream
from tidemill.checks.regime import (
    ErrorProfile,
    InputFit,
    RegimeWindow,
    Settings,
    decide,
    prefers_regime,
    profile_errors,
)
from tidemill.checks.regime_inputs import compare_inputs, may_have_changed, read_inputs
from tidemill.core.regime import Regimes
from tidemill.data.arrays import Floats, Ints
from tidemill.data.statistics import Profile, profile

POLICY = Regimes()
_TINY = 1e-15
_TEST_SHARE = 0.2
_CHOICE_SHARE = 1 / 3
_AHEAD = 250  # rows that a forest predicts in one call, because most of a call does not depend on them


class Forest:
    """A random forest with its classes in order; `compute_losses` are log losses."""

    def __init__(self, rows: Floats, classes: Ints) -> None:
        self._forest = RandomForestClassifier(40, n_jobs=1, random_state=0).fit(rows, classes)

    def predict(self, rows: Floats) -> Ints:
        return self.classes_of(self.predict_shares(rows))

    def predict_shares(self, rows: Floats) -> Floats:
        return np.asarray(self._forest.predict_proba(rows), dtype=np.float64)

    def classes_of(self, shares: Floats) -> Ints:
        return np.asarray(self._forest.classes_[shares.argmax(axis=1)], dtype=np.int64)

    def compute_losses(self, rows: Floats, classes: Ints) -> Floats:
        return self.losses_of(self.predict_shares(rows), classes) if len(rows) else np.empty(0)

    def losses_of(self, shares: Floats, classes: Ints) -> Floats:
        positions = np.searchsorted(self._forest.classes_, classes).clip(0, len(self._forest.classes_) - 1)
        is_known = self._forest.classes_[positions] == classes
        hit = np.where(is_known, shares[np.arange(len(classes)), positions], 0.0)
        return np.asarray(-np.log(np.clip(hit, _TINY, 1.0)), dtype=np.float64)


class Release(NamedTuple):
    """A model with its fingerprint, the range of its training rows, and the start of the regime it was trained for."""

    name: str
    model: Forest
    errors: ErrorProfile
    inputs: Profile
    begin: int
    end: int
    regime: int


class Change(NamedTuple):
    """A change of the champion at a row: a `recall` or a `training`, and the release."""

    row: int
    kind: str
    release: str
    by: str = ""


class Result(NamedTuple):
    """The predictions of a contender, and its changes."""

    predictions: Ints
    changes: tuple[Change, ...] = ()
    releases: tuple[Release, ...] = ()
    kept: int = 0
    seconds: float = 0.0


class Loop:
    """Serves a stream: a look after every `every` rows, with the labels of rows that are `delay` rows old."""

    def __init__(self, stream: Stream, *, every: int, delay: int, recalls: bool, features: bool = True) -> None:
        self._stream, self._every, self._delay, self._recalls = stream, every, delay, recalls
        self._settings = Settings(POLICY.evidence, POLICY.novel, features)
        columns = [f"column_{index}" for index in range(stream.rows.shape[1])]
        self._frame = pl.DataFrame(stream.rows, schema=columns)
        self._champion: Release | None = None
        self._stored: dict[str, Release] = {}
        self._all: list[Release] = []
        self._losses: dict[str, Floats] = {}  # each row is scored once by each release
        self._classes: dict[str, Ints] = {}
        self._changes: list[Change] = []
        self._start = 0
        self._novel: int | None = 0
        self._requests: list[int] = []
        self._replaced = ""

    def run(self) -> Result:
        """Return the predictions of all rows."""
        began = time.perf_counter()
        count = len(self._stream.classes)
        predictions = np.zeros(count, dtype=np.int64)
        for begin in range(0, count, self._every):
            end = min(begin + self._every, count)
            if self._champion is not None:
                self._score(self._champion, begin, end)
                predictions[begin:end] = self._classes[self._champion.name][begin:end]
            self._look(end, max(0, end - self._delay))
        seconds = time.perf_counter() - began
        return Result(predictions, tuple(self._changes), tuple(self._all), len(self._stored), seconds)

    def _score(self, release: Release, begin: int, end: int) -> None:
        """Compute the losses and the classes of a release on rows, and on some rows after them."""
        missing = np.flatnonzero(np.isnan(self._losses[release.name][begin:end]))
        if len(missing):
            last = max(begin + int(missing[-1]) + 1, begin + int(missing[0]) + _AHEAD)
            at = slice(begin + int(missing[0]), last)
            shares = release.model.predict_shares(self._stream.rows[at])
            self._classes[release.name][at] = release.model.classes_of(shares)
            self._losses[release.name][at] = release.model.losses_of(shares, self._stream.classes[at])

    def _look(self, end: int, labelled: int) -> None:
        if self._champion is None:
            if labelled >= max(POLICY.minimum, 2 * self._requests[-1] if self._requests else 0):
                self._train(end, labelled, 0)
            return
        begin = max(self._start, min(labelled - POLICY.rows, end - POLICY.rows))
        window = self._open_window(begin, end, labelled)
        stored = [name for name in reversed(self._stored) if name != self._champion.name] if self._recalls else []
        decision = decide(self._champion.name, stored, lambda name: self._stored[name].errors, window, self._settings)
        if decision.outcome == "recall":
            self._recall(decision.release, begin + decision.start, end, decision.by)
        elif decision.outcome == "novel":
            if self._novel is None:
                self._novel, self._requests = begin + decision.start, []
            due = max(POLICY.minimum, 2 * self._requests[-1] if self._requests else 0)
            if labelled - self._novel >= due:
                self._train(end, labelled, self._novel)
        else:
            self._novel = None
            is_young = 0 < len(self._requests) <= POLICY.refits
            if is_young and labelled - self._start >= 2 * self._requests[-1]:
                self._train(end, labelled, self._start)

    def _open_window(self, begin: int, end: int, labelled: int) -> RegimeWindow:
        champion = self._champion
        assert champion is not None
        inputs = read_inputs(self._frame[begin:end], champion.inputs)

        def compute_losses(name: str) -> Floats:
            self._score(self._stored[name], begin, labelled)
            return self._losses[name][begin:labelled]

        def compare(stored: object) -> list[InputFit]:
            others = [self._stored[name] for name in stored]  # type: ignore[attr-defined]
            fits = compare_inputs(inputs, champion.inputs, [other.inputs for other in others])
            return [
                fit._replace(fits=fit.fits and not _has_learned(champion, other))
                for fit, other in zip(fits, others, strict=True)
            ]

        return RegimeWindow(
            labelled=np.arange(begin, end) < labelled,
            losses=compute_losses,
            inputs=compare,
            inputs_changed=lambda: may_have_changed(inputs, champion.inputs),
            replaced=self._replaced,
        )

    def _recall(self, name: str, start: int, end: int, by: str) -> None:
        self._replaced = self._champion.name if self._champion else ""
        self._champion = self._stored[name]
        self._start, self._novel, self._requests = start, None, []
        self._stored[name] = self._stored.pop(name)
        self._changes.append(Change(end, "recall", name, by))

    def _train(self, end: int, labelled: int, start: int) -> None:
        """Train on all rows or on those since `start`, whichever is better on the newest of them."""
        rows, classes = self._stream.rows, self._stream.classes
        begin = self._choose_begin(start, labelled)
        cut = labelled - int((labelled - begin) * _TEST_SHARE) if begin == start else labelled - (labelled - start) // 5
        candidate = Forest(rows[begin:cut], classes[begin:cut])
        test = slice(cut, labelled)
        baseline = float(_compute_baseline(classes[begin:cut], classes[test]).mean())
        errors = profile_errors(candidate.compute_losses(rows[test], classes[test]), baseline)
        if not errors.knows:  # the gate refuses a candidate that is not better than the trivial baseline
            self._requests.append(labelled - start)
            return
        name = f"m/{len(self._all) + 1}"
        model = Forest(rows[begin:labelled], classes[begin:labelled])
        release = Release(name, model, errors, profile(self._frame[begin:labelled]), begin, labelled, start)
        for other in [stored for stored in self._stored.values() if stored.regime == start]:
            del self._stored[other.name]  # the same regime: the newer one has learned its rows too
        self._stored[name] = self._champion = release
        self._all.append(release)
        self._replaced = ""
        self._losses[name] = np.full(len(classes), np.nan)
        self._classes[name] = np.zeros(len(classes), dtype=np.int64)
        self._requests.append(labelled - start)
        self._start, self._novel = start, None
        self._changes.append(Change(end, "training", name))

    def _choose_begin(self, start: int, labelled: int) -> int:
        if start == 0:
            return 0
        rows, classes = self._stream.rows, self._stream.classes
        cut = labelled - int((labelled - start) * _CHOICE_SHARE)
        of_all, of_regime = (
            Forest(rows[begin:cut], classes[begin:cut]).compute_losses(rows[cut:labelled], classes[cut:labelled])
            for begin in (0, start)
        )
        baseline = _compute_baseline(classes[:cut], classes[cut:labelled])
        return start if prefers_regime(of_all, of_regime, baseline=baseline) else 0


def _compute_baseline(learned: Ints, classes: Ints) -> Floats:
    """Return the log losses of the shares of the classes."""
    return np.asarray(-np.log([max(float((learned == name).mean()), _TINY) for name in classes]), dtype=np.float64)


def _has_learned(release: Release, other: Release) -> bool:
    return release.begin <= (other.begin + other.end) // 2 and other.end <= release.end


def run_oracle(stream: Stream) -> Ints:
    """Return the predictions of the right model from the first row of each segment on.

    Each model is trained on the whole first visit of its regime.
    """
    predictions = np.zeros(len(stream.classes), dtype=np.int64)
    models: dict[int, Forest] = {}
    bounds = [*stream.starts, len(stream.classes)]
    for begin, end in itertools.pairwise(bounds):
        regime = int(np.bincount(stream.regimes[begin:end]).argmax())
        if regime not in models:
            models[regime] = Forest(stream.rows[begin:end], stream.classes[begin:end])
        predictions[begin:end] = models[regime].predict(stream.rows[begin:end])
    return predictions


def run_refits(stream: Stream, *, every: int, delay: int, window: int | None, refit: int = 250) -> Result:
    """Return the predictions of a model that is fitted again every 250 rows, on all rows or on the newest."""
    began = time.perf_counter()
    count = len(stream.classes)
    predictions = np.zeros(count, dtype=np.int64)
    model: Forest | None = None
    changes = []
    for begin in range(0, count, every):
        labelled = max(0, begin - delay)
        if labelled >= POLICY.minimum and (model is None or begin % refit == 0):
            first = 0 if window is None else max(0, labelled - window)
            model = Forest(stream.rows[first:labelled], stream.classes[first:labelled])
            changes.append(Change(begin, "training", ""))
        if model is not None:
            predictions[begin : begin + every] = model.predict(stream.rows[begin : begin + every])
    return Result(predictions, tuple(changes), seconds=time.perf_counter() - began)


Contender = Callable[[Stream, int, int], Result]
CONTENDERS: dict[str, Contender] = {
    "recall": lambda stream, every, delay: Loop(stream, every=every, delay=delay, recalls=True).run(),
    "retraining": lambda stream, every, delay: Loop(stream, every=every, delay=delay, recalls=False).run(),
    "sliding window": lambda stream, every, delay: run_refits(stream, every=every, delay=delay, window=1_000),
    "all rows": lambda stream, every, delay: run_refits(stream, every=every, delay=delay, window=None),
}
