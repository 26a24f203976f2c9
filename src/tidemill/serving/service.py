"""The service: one synchronous core that answers rows, whether they come by HTTP, as a batch or in a backtest."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import polars as pl
from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.resources import Board, Journal, Packages
from tidemill.core.route import Route
from tidemill.data.moments import MOMENT, moments
from tidemill.errors import NotFound, Transient
from tidemill.featurestore.lookup import Lookup
from tidemill.serving.answering import Facts, consult, journal_rows
from tidemill.serving.asked import keys_of, moments_of, timed
from tidemill.serving.buffer import stacked
from tidemill.serving.labels import label_rows
from tidemill.serving.metrics import Metrics
from tidemill.serving.predictor import Live, take_up
from tidemill.telemetry import get_logger

log = get_logger("serving")
_LONGEST_PAUSE = 30.0


class Appends(Protocol):
    """Takes rows for the journal: the journal itself, or a buffer before it."""

    def append(self, kind: str, frame: pl.DataFrame) -> None: ...


class Answered(Struct, frozen=True):
    """The rows that answer, in the order in which they were asked, and the route that was in force."""

    rows: pl.DataFrame
    live: Live


class Failure(Struct, frozen=True):
    """A route that could not be taken up: why, and when (monotonic seconds) it is tried again after `pause`."""

    route: Route
    problem: str
    again: float
    pause: float


class Service:
    """Answers for every model whose route is on the board; it reads routes and packages, never the ledger.

    `refresh` takes up routes that changed; until it is called, the routes that were in force stay. `answer`,
    `labels` and `refresh` may be called from many threads. Answers go to `predictions` (by default the journal),
    labels straight to the journal.
    """

    def __init__(
        self,
        board: Board,
        packages: Packages,
        journal: Journal,
        lookup: Lookup | None,
        clock: Clock,
        *,
        predictions: Appends | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.clock = clock
        self.metrics = metrics or Metrics()
        self._board, self._packages, self._journal, self._lookup = board, packages, journal, lookup
        self._predictions = predictions or journal
        self._live: dict[str, Live] = {}
        self._previous: dict[str, Live] = {}
        self._failures: dict[str, Failure] = {}
        self._refreshing = threading.Lock()

    @property
    def live(self) -> dict[str, Live]:
        """The routes in force, by model."""
        return self._live

    @property
    def failures(self) -> dict[str, Failure]:
        """The published routes that could not be taken up, by model; an earlier one answers, where there is one."""
        return self._failures

    def refresh(self) -> None:
        """Take up the routes that changed on the board: each is loaded and warmed up before it gets traffic.

        A route that cannot be taken up leaves the one before it in force; it is tried again after a growing pause.
        """
        with self._refreshing:
            for model, route in self._board.routes().items():
                live, failure = self._live.get(model), self._failures.get(model)
                if live is not None and live.route == route:
                    self._forget_failure(model)
                    continue
                if failure and failure.route == route and self.clock.monotonic() < failure.again:
                    continue
                self._take_up(route)

    def answer(self, model: str, rows: pl.DataFrame, known_at: pl.Series | None = None) -> pl.DataFrame:
        """The answers to rows, one for each, in their order; all that was said of them goes to the journal.

        Parameters
        ----------
        model
            whose route is asked.
        rows
            the inputs in their own columns, with those of the key and of the event time, where there are any;
            others are ignored. Columns of views that the rows do not bring are looked up.
        known_at
            when each row was asked (UTC), shape (rows,); now, where it is not given.

        Returns
        -------
        polars.DataFrame
            `known_at, id, release, version, role, key, time, value, probability, features`: one row for each.

        Raises
        ------
        NotFound
            if no route names the model.
        Transient
            if its route could not be taken up yet.
        DataError
            if the rows do not fit the champion's signature; it names the row and the column.
        TidemillError
            if the champion fails or answers NaN.
        """
        return self.ask(model, rows, known_at).rows

    def ask(
        self, model: str, rows: pl.DataFrame | Sequence[dict[str, Any]], known_at: pl.Series | None = None
    ) -> Answered:
        """As `answer`, for a frame or for rows as JSON gives them, and says which route was in force."""
        live = self.route_of(model)
        frame = rows if isinstance(rows, pl.DataFrame) else live.reader.read_json(rows, live.others)
        for arm in live.arms:
            if self._lookup is not None and arm.loaded.manifest.features is not None:
                frame = self._lookup.fill(arm.loaded.manifest.features, frame, self.clock.now())
        if known_at is None:
            known_at = moments("known_at", [self.clock.now()] * frame.height)
        frame = timed(frame, live.manifest, known_at)
        facts = Facts(
            known_at.cast(MOMENT),
            [self.clock.mint() for _ in range(frame.height)],
            keys_of(frame, live.manifest.key),
            moments_of(frame, live.manifest.time, known_at),
        )
        answering, shadows = consult(live, frame, facts, self.metrics)
        parts = [journal_rows(part, facts) for part in (*answering, *shadows)]
        for part in parts:
            self._predictions.append(f"predictions/{model}", part)
        told = parts[: len(answering)]
        self.metrics.count("tidemill_rows_total", frame.height, model=model)
        if len(told) == 1:
            return Answered(told[0], live)
        order = pl.concat([pl.Series(part.places) for part in answering]).arg_sort()
        return Answered(stacked(told)[order], live)

    def labels(self, model: str, frame: pl.DataFrame) -> int:
        """Keep outcomes, from columns `value`, `id` or `key` and `time`, and `known_at`; how many there are.

        Raises
        ------
        NotFound
            if no route names the model.
        DataError
            if a label has no value, does not fit the model's task, or does not say what it is the outcome of.
        """
        task = self.route_of(model).manifest.signature.task
        rows = label_rows(frame, task, self.clock.now())
        self._journal.append(f"labels/{model}", rows)
        self.metrics.count("tidemill_labels_total", rows.height, model=model)
        return rows.height

    def route_of(self, model: str) -> Live:
        """The route in force for a model; raises `NotFound`, or `Transient` where its releases are not loaded."""
        live = self._live.get(model)
        if live is not None and live.arms:
            return live
        if model in self._failures:
            raise Transient(f"no release of {model!r} could be loaded yet", "see /ready for the reason")
        if live is not None:
            raise Transient(f"{model!r} is withdrawn: its route names no release", "route a release to it")
        if not self._live:
            raise Transient("no model is loaded: none has a route yet", "promote a release, then try again")
        raise NotFound(f"no model is called {model!r}", f"the models are: {', '.join(sorted(self._live))}")

    def _take_up(self, route: Route) -> None:
        before = self._live.get(route.model)
        kept = [*self._live.values(), *self._previous.values()]
        known = {arm.loaded.digest: arm.loaded for live in kept for arm in live.arms}
        try:
            live = take_up(route, self._packages, known)
        except Exception as wrong:
            earlier = self._failures.get(route.model)
            pause = min(2 * earlier.pause, _LONGEST_PAUSE) if earlier and earlier.route == route else 0.5
            failure = Failure(route, str(wrong) or type(wrong).__name__, self.clock.monotonic() + pause, pause)
            self._failures = {**self._failures, route.model: failure}
            self.metrics.set("tidemill_route_failed", 1, model=route.model)
            log.exception("version %d of the route of %s is not taken up", route.version, route.model)
            return
        if before is not None:
            self._previous = {**self._previous, route.model: before}
        self._live = {**self._live, route.model: live}
        self._forget_failure(route.model)
        self.metrics.set("tidemill_route_version", route.version, model=route.model)
        log.info("route of %s: version %d, %s", route.model, route.version, ", ".join(a.label for a in live.arms))

    def _forget_failure(self, model: str) -> None:
        if model in self._failures:
            self._failures = {other: failure for other, failure in self._failures.items() if other != model}
            self.metrics.set("tidemill_route_failed", 0, model=model)
