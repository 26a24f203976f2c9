"""The service: one synchronous core that predicts rows of HTTP requests, of batches and of backtests."""

import threading
from collections.abc import Callable, Container, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

import polars as pl
from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.damage import Checked
from tidemill.core.prediction import failures_kind
from tidemill.core.resources import Board, Journal, Packages
from tidemill.core.route import Route
from tidemill.core.signing import PackageSigner
from tidemill.data.frame import require_one_answer_each
from tidemill.data.timestamps import TIMESTAMP, to_timestamps
from tidemill.errors import NotFound, Transient
from tidemill.featurestore.lookup import Lookup
from tidemill.serving.buffer import stack_frames
from tidemill.serving.dispatch import (
    ArmFailure,
    RowIdentities,
    ShadowTask,
    predict_rows,
    predict_shadow,
    to_failure_rows,
    to_journal_rows,
)
from tidemill.serving.identity import fill_event_times, read_event_times, read_keys, read_regimes
from tidemill.serving.labels import to_label_rows
from tidemill.serving.loading import LoadedRoute, PackageLoader, load_in_process, load_route
from tidemill.serving.metrics import ServiceMetrics
from tidemill.serving.request_check import RequestWarning, raise_strict
from tidemill.telemetry import get_logger

log = get_logger("serving")
_LONGEST_PAUSE = 30.0


class PredictionWriter(Protocol):
    """Accepts rows for the journal: the journal itself, or a buffer before it."""

    def append(self, kind: str, frame: pl.DataFrame) -> "Future[None] | None": ...


class PredictResult(Struct, frozen=True):
    """The predictions of one request, in the order of its rows, the route that was in force, and its warnings.

    `shadows` must be called after the reply; None if there is nothing to do. The rows are on the disk when all futures
    in `recorded` are done.
    """

    rows: pl.DataFrame
    route: LoadedRoute
    warnings: tuple[RequestWarning, ...] = ()
    shadows: Callable[[], None] | None = None
    recorded: "tuple[Future[None], ...]" = ()


class RouteFailure(Struct, frozen=True):
    """A route that could not be loaded: why, and the time (monotonic seconds) of the next try, after `pause`."""

    route: Route
    problem: str
    next_try: float
    pause: float


class Service:
    """Predicts for every model whose route is on the board; it reads routes and packages, never the ledger.

    `refresh` loads routes that changed; until it is called, the earlier routes stay in force. `predict`, `add_labels`
    and `refresh` may be called from many threads. Predictions go to `predictions` (by default the journal), labels
    directly to the journal. Requests for the `strict` models must fit; the predictions of other models have warnings.
    Without `with_times`, the journal does not contain how long the models took. The `signer` verifies packages before
    they are loaded, by the `loader`.
    """

    def __init__(
        self,
        board: Board,
        packages: Packages,
        journal: Journal,
        lookup: Lookup | None,
        clock: Clock,
        *,
        predictions: PredictionWriter | None = None,
        metrics: ServiceMetrics | None = None,
        strict: Container[str] = (),
        with_times: bool = True,
        signer: PackageSigner | None = None,
        loader: PackageLoader = load_in_process,
    ) -> None:
        self.clock = clock
        self._loader = loader
        self._strict, self._with_times, self._signer = strict, with_times, signer
        self.metrics = metrics or ServiceMetrics()
        self._board, self._packages, self._journal, self._lookup = board, packages, journal, lookup
        self._predictions = predictions or journal
        self._routes: dict[str, LoadedRoute] = {}
        self._previous: dict[str, LoadedRoute] = {}
        self._failures: dict[str, RouteFailure] = {}
        self._damaged: tuple[str, ...] = ()
        self._refreshing, self._updating = threading.Lock(), threading.Lock()
        self._loading: set[str] = set()

    @property
    def routes(self) -> dict[str, LoadedRoute]:
        """The routes in force, by model."""
        return self._routes

    @property
    def journal_problem(self) -> str:
        """Why predictions cannot be recorded now; empty if all is well."""
        return str(getattr(self._predictions, "problem", ""))

    @property
    def damaged_routes(self) -> tuple[str, ...]:
        """The models whose files on the board are damaged, and that have no earlier route in force."""
        return tuple(model for model in self._damaged if model not in self._routes)

    @property
    def failures(self) -> dict[str, RouteFailure]:
        """The published routes that could not be loaded, by model; the earlier route, if any, stays in force."""
        return self._failures

    @property
    def loading(self) -> frozenset[str]:
        """The models whose newest route is being loaded; the earlier route, if any, stays in force."""
        return frozenset(self._loading)

    def refresh(self, wait: float | None = None) -> None:
        """Load the routes that changed on the board: each is loaded and warmed up before it gets traffic.

        If a route cannot be loaded, the earlier one stays in force; the next try follows after a growing pause. With
        `wait`, each route is loaded in a thread of its own, and one that takes more seconds stays in progress, so that
        it does not delay the routes of other models.
        """
        with self._refreshing:
            started = []
            published = self._board.routes()
            damages = self._board.damages() if isinstance(self._board, Checked) else []
            self._damaged = tuple(file.name.removesuffix(".json") for file in damages if file.name.endswith(".json"))
            for model, route in published.items():
                loaded, failure = self._routes.get(model), self._failures.get(model)
                if loaded is not None and loaded.route == route:
                    self._forget_failure(model)
                    continue
                if model in self._loading:
                    continue
                if failure and failure.route == route and self.clock.monotonic() < failure.next_try:
                    continue
                if wait is None:
                    self._load_route(route)
                    continue
                thread = threading.Thread(target=self._load_in_thread, args=(route,), name="tidemill-load", daemon=True)
                self._loading.add(model)
                started.append(thread)
                thread.start()
            deadline = self.clock.monotonic() + (wait or 0.0)
            for thread in started:
                thread.join(max(0.0, deadline - self.clock.monotonic()))

    def _load_in_thread(self, route: Route) -> None:
        try:
            self._load_route(route)
        finally:
            self._loading.discard(route.model)

    def predict(
        self, model: str, rows: pl.DataFrame, known_at: pl.Series | None = None, keys: pl.Series | None = None
    ) -> pl.DataFrame:
        """Return one prediction for each row, in the order of the rows; write all predictions to the journal.

        Parameters
        ----------
        model
            the name of the model.
        rows
            the inputs in their own columns, and the columns of the key and of the event time, if any; other columns
            are ignored. Features of views that are not among the columns are looked up in the online store.
        known_at
            the time of the request of each row (UTC), shape (rows,); by default now.
        keys
            the id of each row of a backtest, shape (rows,), which also happens at `known_at`; by default the rows are
            identified by their key columns and their event time.

        Returns
        -------
        polars.DataFrame
            `known_at, id, release, version, role, key, time, value, probability, milliseconds, features`: one
            row for each; also `regime`, if a key names the regimes.

        Raises
        ------
        NotFound
            if no route names the model.
        Transient
            if its route could not be loaded yet.
        DataError
            if the rows do not fit the champion's signature, or those of a strict model have warnings; it names the row
            and the column.
        TidemillError
            if the champion fails, predicts NaN or what are no probabilities, or returns another number of predictions.
        """
        result = self.predict_request(model, rows, known_at, keys)
        if result.shadows is not None:
            result.shadows()
        return result.rows

    def predict_request(
        self,
        model: str,
        rows: pl.DataFrame | Sequence[dict[str, Any]],
        known_at: pl.Series | None = None,
        keys: pl.Series | None = None,
    ) -> PredictResult:
        """Return the same as `predict`, for a frame or for rows from JSON, with the route in force and warnings.

        The caller asks the `shadows` of the result.
        """
        route = self.find_route(model)
        json_rows = None if isinstance(rows, pl.DataFrame) else rows
        frame = rows if isinstance(rows, pl.DataFrame) else route.reader.read_json(rows, route.other_columns)
        warnings = self._check_request(route, json_rows, frame)
        for arm in route.arms:
            if self._lookup is not None and arm.loaded.manifest.features is not None:
                frame = self._lookup.fill(arm.loaded.manifest.features, frame, self.clock.now())
        if known_at is None:
            known_at = to_timestamps("known_at", [self.clock.now()] * frame.height)
        frame = fill_event_times(frame, route.manifest, known_at)
        identities = RowIdentities(
            known_at.cast(TIMESTAMP),
            [self.clock.mint() for _ in range(frame.height)],
            read_keys(frame, route.manifest.key) if keys is None else keys.to_list(),
            read_event_times(frame, route.manifest.time, known_at) if keys is None else known_at.cast(TIMESTAMP),
            read_regimes(frame, route.route.key),
        )
        failures: list[ArmFailure] = []
        try:
            dispatch = predict_rows(route, frame, identities, self.metrics, failures)
        finally:
            self._record_failures(model, failures, identities)
        replied = dispatch.replied
        reply_rows = [to_journal_rows(scored, identities, with_times=self._with_times) for scored in replied]
        appended = [self._predictions.append(f"predictions/{model}", arm_rows) for arm_rows in reply_rows]
        recorded = tuple({future for future in appended if future is not None})
        require_one_answer_each(frame.height, sum(part.height for part in reply_rows), f"model {model!r}")
        self.metrics.count("tidemill_rows_total", frame.height, model=model)
        shadows = partial(self._ask_shadows, model, dispatch.shadows, frame, identities) if dispatch.shadows else None
        if len(reply_rows) == 1:
            return PredictResult(reply_rows[0], route, warnings, shadows, recorded)
        order = pl.concat([pl.Series(scored.indices) for scored in replied]).arg_sort()
        return PredictResult(stack_frames(reply_rows)[order], route, warnings, shadows, recorded)

    def _ask_shadows(self, model: str, tasks: list[ShadowTask], frame: pl.DataFrame, identities: RowIdentities) -> None:
        """Predict the rows of a request by its shadows, and write their predictions to the journal."""
        for task in tasks:
            failures: list[ArmFailure] = []
            scored = predict_shadow(task, frame, self.metrics, failures)
            self._record_failures(model, failures, identities)
            if scored is not None:
                rows = to_journal_rows(scored, identities, with_times=self._with_times)
                self._predictions.append(f"predictions/{model}", rows)

    def _record_failures(self, model: str, failures: list[ArmFailure], identities: RowIdentities) -> None:
        for failure in failures:
            self._predictions.append(failures_kind(model), to_failure_rows(failure, identities))

    def add_labels(self, model: str, frame: pl.DataFrame) -> int:
        """Write labels to the journal, from columns `value`, `id` or `key` and `time`, and `known_at`; return how many.

        Raises
        ------
        NotFound
            if no route names the model.
        DataError
            if a label has no value, is no class (or no number) of the model, or names no prediction and no row.
        """
        route = self.find_route(model)
        rows = to_label_rows(frame, route.manifest.signature.task, route.classes, self.clock.now(), route.spellings)
        self._journal.append(f"labels/{model}", rows)
        self.metrics.count("tidemill_labels_total", rows.height, model=model)
        return rows.height

    def find_route(self, model: str) -> LoadedRoute:
        """Return a model's route in force; raise `NotFound`, or `Transient` if its releases are not loaded."""
        route = self._routes.get(model)
        if route is not None and route.arms:
            return route
        if model in self._loading:
            raise Transient(f"the releases of {model!r} are being loaded", "send the request again")
        if model in self._damaged:
            raise Transient(f"the route of {model!r} is damaged on the board", "see /ready, and `tidemill doctor`")
        if model in self._failures:
            raise Transient(f"no release of {model!r} could be loaded yet", "see /ready for the reason")
        if route is not None:
            raise Transient(f"{model!r} is withdrawn: its route names no release", "route a release to it")
        if not self._routes:
            raise Transient("no model is loaded: no model has a route yet", "promote a release, then try again")
        raise NotFound(f"there is no model {model!r}", f"the models are: {', '.join(sorted(self._routes))}")

    def _check_request(
        self, route: LoadedRoute, rows: Sequence[dict[str, Any]] | None, frame: pl.DataFrame
    ) -> tuple[RequestWarning, ...]:
        """Return and count the warnings of a request; raise `DataError` for a strict model with warnings."""
        if route.checker is None:
            return ()
        model, warnings = route.route.model, route.checker.check(rows, frame)
        for warning in warnings:
            self.metrics.count("tidemill_warnings_total", warning.rows, model=model, kind=warning.kind)
        if model in self._strict:
            raise_strict(warnings, model)
        return tuple(warnings)

    def _load_route(self, route: Route) -> None:
        previous = self._routes.get(route.model)
        reusable = [*self._routes.values(), *self._previous.values()]
        cache = {arm.loaded.digest: arm.loaded for loaded in reusable for arm in loaded.arms}
        try:
            loaded_route = load_route(route, self._packages, cache, self._signer, self._loader)
        except Exception as error:
            earlier = self._failures.get(route.model)
            pause = min(2 * earlier.pause, _LONGEST_PAUSE) if earlier and earlier.route == route else 0.5
            problem = str(error) or type(error).__name__
            failure = RouteFailure(route, problem, self.clock.monotonic() + pause, pause)
            with self._updating:
                self._failures = {**self._failures, route.model: failure}
            self.metrics.set("tidemill_route_failed", 1, model=route.model)
            log.exception("version %d of the route of %s could not be loaded", route.version, route.model)
            return
        with self._updating:
            if previous is not None:
                self._previous = {**self._previous, route.model: previous}
            self._routes = {**self._routes, route.model: loaded_route}
        self._forget_failure(route.model)
        self.metrics.set("tidemill_route_version", route.version, model=route.model)
        releases = ", ".join(arm.label for arm in loaded_route.arms)
        log.info("route of %s: version %d, %s", route.model, route.version, releases)

    def _forget_failure(self, model: str) -> None:
        if model in self._failures:
            with self._updating:
                self._failures = {name: failure for name, failure in self._failures.items() if name != model}
            self.metrics.set("tidemill_route_failed", 0, model=model)
