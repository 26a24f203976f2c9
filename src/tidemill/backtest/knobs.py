"""The search space of `backtest --tune`: the settings that it may change, their values, and how a policy gets them."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from tidemill.clock import parse_duration
from tidemill.core.policy import ModelPolicy, Policy, WatchValue
from tidemill.core.trigger import Trigger
from tidemill.core.watch import OTHER_VALUES

KnobName = Literal["window", "calendar", "canary", "drift", "cooldown", "limit"]
Settings = Mapping[KnobName, str]
"""The chosen value of each knob; a knob that is absent stays as the policy has it."""

CALENDAR = "calendar"
"""The name of the trigger that the search adds."""
ALL_HISTORY = "all"
_NO_CALENDAR = "none"
_WINDOWS = (28, 56, 84, 182, 365)
_MINIMUM_OF_HISTORY = 0.8
_COOLDOWNS = ("3d", "7d", "14d", "28d")
_FACTORS = ("0.25", "0.5", "2")
_CANARIES = ("2d", "5d")
_CRONS = {
    "daily": (1, "0 6 * * *"),
    "weekly": (7, "0 6 * * 1"),
    "twice a month": (15, "0 6 1,15 * *"),
    "monthly": (30, "0 6 1 * *"),
    "quarterly": (91, "0 6 1 1,4,7,10 *"),
}


class Knob(Struct, frozen=True, kw_only=True):
    """A setting that the search may change, with the values that it tries, in their order."""

    name: KnobName
    values: tuple[str, ...]


class Space:
    """The knobs of one model of a policy on a history of some length.

    Parameters
    ----------
    policy
        The policy as it is written.
    model
        The name of the model.
    history
        The length of the history before the first prediction, which bounds the windows.
    period
        The length of the period in which policies are compared, which bounds the calendars.
    delivery
        The time between two deliveries: a calendar that trains more often would find no new rows.
    """

    def __init__(
        self, policy: Policy, model: str, *, history: timedelta, period: timedelta, delivery: timedelta
    ) -> None:
        self.policy = policy
        self.model = model
        self._history, self._period, self._delivery = history, period, delivery

    @property
    def _written(self) -> ModelPolicy:
        return self.policy.models[self.model]

    @property
    def windows(self) -> tuple[str, ...]:
        """The windows of training rows: all history, and those that are clearly shorter than it."""
        longest = (self._history + self._period / 2) * _MINIMUM_OF_HISTORY
        least = parse_duration(self._written.training.test) * 2 if self.has_time_split else timedelta(0)
        days = [days for days in _WINDOWS if least <= timedelta(days=days) < longest]
        return (ALL_HISTORY, *(f"{number}d" for number in reversed(days)))

    @property
    def has_time_split(self) -> bool:
        """Whether the newest rows are the test rows."""
        return self._written.training.split in ("", "time")

    @property
    def calendars(self) -> tuple[str, ...]:
        """The calendars, the rarest first: at least two trainings in the period, and none between two deliveries."""
        return tuple(
            name
            for name, (days, _) in reversed(_CRONS.items())
            if self._delivery <= timedelta(days=days) <= self._period / 2
        )

    @property
    def retraining_triggers(self) -> tuple[int, ...]:
        """The indices of the triggers that train because of a verdict."""
        return tuple(
            index
            for index, trigger in enumerate(self.policy.triggers)
            if trigger.on == "verdict"
            and trigger.where.get("action") == "retrain"
            and trigger.model in ("", self.model)
        )

    @property
    def calendar_trigger(self) -> int | None:
        """The index of the trigger that trains by the clock, or None."""
        trains = self.pipeline
        return next(
            (
                index
                for index, trigger in enumerate(self.policy.triggers)
                if trigger.cron and trigger.pipeline == trains and trigger.model in ("", self.model)
            ),
            None,
        )

    @property
    def pipeline(self) -> str:
        """The pipeline that trains: that of the triggers on verdicts, or on an absent champion, else `training`."""
        triggers = self.policy.triggers
        by_verdict = [triggers[index].pipeline for index in self.retraining_triggers]
        absent = [trigger.pipeline for trigger in triggers if trigger.on == "champion.missing"]
        return next(iter((*by_verdict, *absent)), "training")

    def describe(self, name: KnobName) -> str:
        """Return the value of a knob in the policy as it is written."""
        if name == "window":
            return self._written.training.window or ALL_HISTORY
        if name == "calendar":
            index = self.calendar_trigger
            return _NO_CALENDAR if index is None else self.policy.triggers[index].cron
        if name == "cooldown":
            return ", ".join(self.policy.triggers[index].cooldown for index in self.retraining_triggers)
        if name == "canary":
            return self._written.rollout.maximum
        values = self._written.watch.values
        if name == "drift":
            return ", ".join(value.action for value in values if value.value == "drift")
        return ", ".join(f"{value.limit:g}" for value in values if _is_metric(value))

    def list_knobs(self) -> list[Knob]:
        """Return the knobs that this policy has, the most important first, without the values that are written."""
        values, rollout = self._written.watch.values, self._written.rollout
        known: dict[KnobName, tuple[str, ...]] = {
            "window": self.windows,
            "calendar": (_NO_CALENDAR, *self.calendars),
            "canary": _CANARIES if rollout.canary and not rollout.approval else (),
            "drift": ("report",) if any(v.value == "drift" and v.action == "retrain" for v in values) else (),
            "cooldown": _COOLDOWNS if self.retraining_triggers else (),
            "limit": _FACTORS if self.retraining_triggers and any(map(_is_metric, values)) else (),
        }
        knobs = [
            Knob(name=name, values=tuple(value for value in choices if value != self.describe(name)))
            for name, choices in known.items()
        ]
        return [knob for knob in knobs if knob.values]

    def apply(self, settings: Settings) -> Policy:
        """Return the policy with these settings."""
        policy = self.policy
        for name, value in settings.items():
            policy = _SETTERS[name](self, policy, value)
        return policy

    def change_model(self, policy: Policy, change: Callable[[ModelPolicy], ModelPolicy]) -> Policy:
        """Return the policy with a changed model."""
        return replace(policy, models={**policy.models, self.model: change(policy.models[self.model])})

    def change_values(self, policy: Policy, change: Callable[[WatchValue], WatchValue]) -> Policy:
        """Return the policy with changed values of the watch."""
        return self.change_model(
            policy,
            lambda model: replace(
                model, watch=replace(model.watch, values=tuple(change(value) for value in model.watch.values))
            ),
        )


def _is_metric(value: WatchValue) -> bool:
    return value.value not in OTHER_VALUES and value.action == "retrain"


def _set_window(space: Space, policy: Policy, value: str) -> Policy:
    window = None if value == ALL_HISTORY else value
    return space.change_model(policy, lambda model: replace(model, training=replace(model.training, window=window)))


def _set_calendar(space: Space, policy: Policy, value: str) -> Policy:
    index, triggers = space.calendar_trigger, list(policy.triggers)
    if value == _NO_CALENDAR:
        if index is not None:
            del triggers[index]
    elif index is None:
        name = CALENDAR
        while name in {trigger.name for trigger in triggers}:
            name += " 2"
        triggers.append(Trigger(name=name, pipeline=space.pipeline, cron=_CRONS[value][1], model=_name(space)))
    else:
        triggers[index] = replace(triggers[index], cron=_CRONS[value][1])
    return replace(policy, triggers=tuple(triggers))


def _name(space: Space) -> str:
    """Return the model of a new trigger; empty if there is only one."""
    return space.model if len(space.policy.models) > 1 else ""


def _set_canary(space: Space, policy: Policy, value: str) -> Policy:
    """Set a short canary that promotes a challenger unless it is proven to do harm."""

    def change(model: ModelPolicy) -> ModelPolicy:
        shortest = min(model.rollout.shortest, value, key=parse_duration)
        rollout = replace(model.rollout, maximum=value, extension="0s", undecided="challenger", shortest=shortest)
        return replace(model, rollout=rollout)

    return space.change_model(policy, change)


def _set_drift(space: Space, policy: Policy, value: str) -> Policy:
    del value  # the only value is `report`
    return space.change_values(
        policy, lambda watched: replace(watched, action="experiment") if watched.value == "drift" else watched
    )


def _set_cooldown(space: Space, policy: Policy, value: str) -> Policy:
    names = {space.policy.triggers[index].name for index in space.retraining_triggers}
    triggers = tuple(
        replace(trigger, cooldown=value) if trigger.name in names else trigger for trigger in policy.triggers
    )
    return replace(policy, triggers=triggers)


def _set_limit(space: Space, policy: Policy, value: str) -> Policy:
    written = space.policy.models[space.model].watch.values
    limits = {
        (watched.value, watched.window): float(f"{watched.limit * float(value):.3g}")
        for watched in written
        if _is_metric(watched)
    }
    return space.change_values(
        policy,
        lambda watched: replace(watched, limit=limits.get((watched.value, watched.window), watched.limit)),
    )


_SETTERS: dict[KnobName, Callable[[Space, Policy, str], Policy]] = {
    "window": _set_window,
    "calendar": _set_calendar,
    "canary": _set_canary,
    "drift": _set_drift,
    "cooldown": _set_cooldown,
    "limit": _set_limit,
}


def find_interval(calendar: str) -> timedelta:
    """Return the time between two trainings of a calendar."""
    return timedelta(days=_CRONS[calendar][0])


def describe_settings(settings: Settings) -> str:
    """Return settings as a text for a table; `as written` if nothing differs."""
    texts = {
        "window": "rows of {}",
        "calendar": "training {}",
        "canary": "canary of {}",
        "drift": "drift is only reported",
        "cooldown": "cooldown {}",
        "limit": "limits × {}",
    }
    parts = [texts[name].format(value) for name, value in settings.items()]
    text = ", ".join(parts).replace("rows of all", "all rows").replace("training none", "no calendar")
    return text or "as written"
