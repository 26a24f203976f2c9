"""The search of `backtest --tune`: a coarse scan of cheap calendars, then a local refinement of the whole policy.

A replay takes seconds to minutes, so a search has twenty to forty of them, and five ordered knobs. A sampler such as
TPE spends about ten of them at random before it models anything. A scan and a coordinate descent use each replay for
one question that the output can name, and always take the same way.
"""

import time
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tidemill.backtest.comparison import Period, PolicyResult, compute_mean_loss
from tidemill.backtest.costs import Cost, CostRates, compute_cost
from tidemill.backtest.evaluations import Evaluations, TuneProgress
from tidemill.backtest.knobs import Knob, KnobName, Settings, Space, describe_settings, find_interval
from tidemill.backtest.policies import build_interval_policy
from tidemill.core.policy import Policy
from tidemill.errors import TidemillError

_NEIGHBOURS = 1
_SHARE_TO_SCAN = 0.45  # the part of the time after which the scan stops, so that whole policies follow
_SAME_COST = 0.002  # a policy with fewer changes is chosen within this share of the lowest cost


class Evaluation(Struct, frozen=True, kw_only=True):
    """A policy of the search on the rows that it is chosen on.

    `is_scan` marks a calendar without gate and canary: it finds windows and rhythms cheaply and is never proposed.
    """

    settings: dict[KnobName, str]
    is_scan: bool
    loss: float
    trainings: int
    cost: Cost
    result: PolicyResult

    @property
    def name(self) -> str:
        """The settings as a text."""
        return describe_settings(self.settings)


class Search:
    """A search for the settings with the lowest cost on one period.

    Parameters
    ----------
    space
        The knobs.
    evaluations
        Replays the policies.
    period
        The rows to choose on.
    rates
        What loss, trainings, false alarms and degraded hours cost.
    seconds
        No replay starts after this time.
    report_progress
        Is called with a line for each policy.
    """

    def __init__(
        self,
        space: Space,
        evaluations: Evaluations,
        period: Period,
        rates: CostRates,
        seconds: float,
        report_progress: TuneProgress,
    ) -> None:
        self._space, self._evaluations, self._period, self._rates = space, evaluations, period, rates
        self._deadline = time.monotonic() + seconds
        self._scan_deadline = time.monotonic() + _SHARE_TO_SCAN * seconds
        self._report_progress = report_progress
        self.evaluated: list[Evaluation] = []
        self.failed: dict[str, str] = {}
        self.is_complete = True
        self._scanned: dict[KnobName, str] = {}

    def run(self) -> Evaluation:
        """Return the chosen evaluation; all are in `evaluated`, the policy as it is written first.

        Raises
        ------
        TidemillError
            if the policy as it is written cannot be replayed.
        """
        written = self._evaluate([{}])
        if not written:
            problem = next(iter(self.failed.values()))
            raise TidemillError(f"the policy as it is written cannot be replayed: {problem}", "fix this error first")
        self._scanned = self._scan()
        starts = self._combine(self._scanned)
        self._evaluate(starts)
        self._refine()
        return self._choose()

    @property
    def candidates(self) -> list[Evaluation]:
        """The evaluations of whole policies, without the scan."""
        return [evaluation for evaluation in self.evaluated if not evaluation.is_scan]

    def _scan(self) -> dict[KnobName, str]:
        """Return the best window and calendar of trainings at even distances, each scanned at the other's best."""
        windows, calendars = self._space.windows, self._space.calendars
        if not calendars:
            return {}
        middle = calendars[len(calendars) // 2]
        by_window = self._evaluate([{"window": window, "calendar": middle} for window in windows], is_scan=True)
        if not by_window:
            return {}
        found, best = by_window, _find_cheapest(by_window).settings
        window = best["window"]
        while True:  # a daily calendar takes long, so it is only tried if a weekly one is better than a rarer one
            near = _list_neighbours(calendars, best["calendar"])
            found = found + self._evaluate([{"window": window, "calendar": name} for name in near], is_scan=True)
            if _find_cheapest(found).settings == best:
                break
            best = _find_cheapest(found).settings
        if best["calendar"] != middle:
            near = _list_neighbours(windows, best["window"])
            found += self._evaluate([{"window": name, "calendar": best["calendar"]} for name in near], is_scan=True)
            best = _find_cheapest(found).settings
        return dict(best)

    def _combine(self, scanned: Mapping[KnobName, str]) -> list[dict[KnobName, str]]:
        """Return whole policies with what the scan found, alone and together."""
        knobs = {knob.name: knob for knob in self._space.list_knobs()}
        useful = {name: value for name, value in scanned.items() if name in knobs and value in knobs[name].values}
        starts = [{name: value} for name, value in useful.items()]
        if len(useful) > 1:
            starts.append(dict(useful))
        for name in ("canary", "drift"):
            if name in knobs:
                starts.append({**(starts[-1] if useful else {}), name: knobs[name].values[0]})
        return starts

    def _refine(self) -> None:
        """Change one knob of the best policy at a time, as long as that makes it cheaper."""
        while True:
            before = _find_cheapest(self.candidates)
            for knob in self._space.list_knobs():
                best = _find_cheapest(self.candidates)
                self._evaluate([best_with(best.settings, knob.name, value) for value in self._list_steps(knob, best)])
            if _find_cheapest(self.candidates) is before:
                return

    def _list_steps(self, knob: Knob, best: Evaluation) -> Sequence[str]:
        """Return the values of a knob to try: of windows and calendars those near the best, of others all; and none.

        An empty value leaves the knob as the policy has it. Where the policy has none of the knob's values, those near
        the best value of the scan are tried.
        """
        values: Sequence[str] = knob.values
        chosen = best.settings.get(knob.name)
        if knob.name in ("window", "calendar"):
            near = chosen or self._scanned.get(knob.name)
            values = _list_neighbours(values, near) if near else ()
        return [*values, ""] if chosen else values

    def _evaluate(self, asked: Sequence[Settings], *, is_scan: bool = False) -> list[Evaluation]:
        """Return the evaluations of settings that could be replayed within the time."""
        known = {_key(evaluation.settings, evaluation.is_scan) for evaluation in self.evaluated}
        new = {_key(settings, is_scan): dict(settings) for settings in asked}
        waiting = [settings for key, settings in new.items() if key not in known]
        while waiting:
            policies = {describe_settings(settings): self._build(settings, is_scan=is_scan) for settings in waiting[:3]}
            is_stored = all(self._evaluations.has(policy, self._period) for policy in policies.values())
            deadline = self._scan_deadline if is_scan else self._deadline
            if self.evaluated and not is_stored and time.monotonic() > deadline:
                self.is_complete = False
                break
            results = self._evaluations.replay(policies, self._period)
            for settings, result in zip(waiting[:3], results.values(), strict=True):
                self._add(settings, result, is_scan=is_scan)
            waiting = waiting[3:]
        return [found for found in self.evaluated if _key(found.settings, found.is_scan) in new]

    def _build(self, settings: Settings, *, is_scan: bool) -> Policy:
        if not is_scan:
            return self._space.apply(settings)
        policy = self._space.apply({"window": settings["window"]})
        return build_interval_policy(policy, self._period, find_interval(settings["calendar"]), self._space.pipeline)

    def _add(self, settings: Settings, result: PolicyResult | TidemillError, *, is_scan: bool) -> None:
        name = describe_settings(settings)
        failure = result.problem if isinstance(result, TidemillError) else ""
        if isinstance(result, PolicyResult):
            if not result.weeks:
                failure = "no prediction received a label"
            elif result.failures:
                failure = f"{len(result.failures)} runs failed: {result.failures[0].reason}"
        if failure or isinstance(result, TidemillError):
            self.failed[name] = failure
            self._report_progress(f"  {name}: left out, {failure}")
            return
        evaluation = Evaluation(
            settings=dict(settings),
            is_scan=is_scan,
            loss=compute_mean_loss([result]),
            trainings=result.trainings,
            cost=compute_cost(result, self._rates),
            result=replace(result, stories=[]),
        )
        self.evaluated.append(evaluation)
        kind, cost = " (scan)" if is_scan else "", evaluation.cost.total
        self._report_progress(
            f"  {name}{kind}: loss {evaluation.loss:.4f}, {result.trainings} trainings, cost {cost:.1f}"
        )

    def _choose(self) -> Evaluation:
        """Return the policy with the fewest changes among those with nearly the lowest cost."""
        lowest = _find_cheapest(self.candidates).cost.total
        near = [found for found in self.candidates if found.cost.total <= lowest + abs(lowest) * _SAME_COST]
        return min(near, key=lambda found: (len(found.settings), found.cost.total))


def best_with(settings: Settings, name: KnobName, value: str) -> dict[KnobName, str]:
    """Return settings with another value of one knob; an empty value removes it."""
    changed = {other: chosen for other, chosen in settings.items() if other != name}
    return {**changed, name: value} if value else changed


def find_front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the Pareto front: no other evaluation has both a lower loss and at most as high other costs.

    Where training, alarms and degraded hours cost nothing, the number of trainings takes the place of their cost.
    """
    front: list[Evaluation] = []
    for evaluation in sorted(evaluations, key=lambda found: (measure_effort(found), found.loss)):
        if not front or evaluation.loss < front[-1].loss:
            front.append(evaluation)
    return front


def measure_effort(evaluation: Evaluation) -> tuple[float, int]:
    """Return the costs besides the loss, and the number of trainings."""
    cost = evaluation.cost
    return cost.trainings + cost.false_alarms + cost.degraded, evaluation.trainings


def _find_cheapest(evaluations: Sequence[Evaluation]) -> Evaluation:
    return min(evaluations, key=lambda found: (found.cost.total, found.trainings, len(found.settings)))


def _list_neighbours(values: Sequence[str], chosen: str) -> list[str]:
    if chosen not in values:
        return list(values)
    index = list(values).index(chosen)
    near = range(max(0, index - _NEIGHBOURS), min(len(values), index + _NEIGHBOURS + 1))
    return [values[other] for other in near if other != index]


def _key(settings: Settings, is_scan: bool) -> tuple[bool, tuple[tuple[str, str], ...]]:
    return is_scan, tuple(sorted(settings.items()))
