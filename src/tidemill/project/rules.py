"""What the types of a policy cannot say: names that exist, lengths of time, crons that fire; with file and line."""

import re
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

from tidemill.clock import parse_duration
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.trigger import Trigger
from tidemill.errors import ConfigurationError
from tidemill.project.lines import line_of
from tidemill.project.meanings import faults, nearest
from tidemill.project.names import Names, names_in

_NAME = re.compile(r"[A-Za-z][\w-]*")
_KINDS = (
    *("data", "rows", "verdict", "run", "code", "packages", "job", "alert"),
    *("approval.needed", "watch.missing", "champion.missing", "model.frozen", "release.retired"),
)


class Rules:
    """The rules for the policy that a file states; `code` is its project's pipeline.py, read but not run."""

    def __init__(self, policy: Policy, file: Path, text: str, *, short: bool, code: Path) -> None:
        self._policy = policy
        self._file = file.name
        self._text = text
        self._short = short
        self._code = code

    def hold(self) -> None:
        """Hold the policy against them.

        Raises
        ------
        ConfigurationError
            with the line and the cure.
        """
        policy = self._policy
        if not _NAME.fullmatch(policy.name):
            cure = 'write one in [project]: name = "flights" (letters, digits, - and _)'
            raise self._wrong(f"the project's name {policy.name!r} is not a name", cure, "project", "name")
        for name, source in policy.sources.items():
            self._length(source.delay, "sources", name, "delay")
        for model in policy.models.values():
            self._model(model)
        self._retention()
        defined = names_in(self._code)
        names: set[str] = set()
        for place, trigger in enumerate(policy.triggers):
            if trigger.name in names:
                cure = "give each a name of its own: its cooldown and what it fired are kept by it"
                raise self._wrong(f"two triggers have the name {trigger.name!r}", cure, *_of(place, "name"))
            names.add(trigger.name)
            self._trigger(trigger, place, defined)
        for problem, cure, steps in faults(policy, defined):
            in_model = steps[0] == "models"
            place_of = self._of_model(policy.models[steps[1]], *steps[2:]) if in_model else steps
            raise self._wrong(problem, cure, *place_of)

    def _wrong(self, problem: str, cure: str, *steps: str) -> ConfigurationError:
        line = line_of(self._text, [list(steps)]) if steps else None
        where = f"{self._file}, line {line}" if line else self._file
        return ConfigurationError(f"{where}: {problem}", cure)

    def _of_model(self, model: ModelPolicy, *steps: str) -> tuple[str, ...]:
        """Where something is said of a model: a project of one says it in top-level tables."""
        return steps if self._short and model.name == self._policy.name else ("models", model.name, *steps)

    def _length(self, text: str, *steps: str) -> timedelta:
        try:
            return parse_duration(text)
        except ConfigurationError as wrong:
            raise self._wrong(wrong.problem, wrong.cure, *steps) from None

    def _model(self, model: ModelPolicy) -> None:
        if not _NAME.fullmatch(model.name):
            cure = "use letters, digits, - and _, such as late_flights"
            raise self._wrong(f"the model's name {model.name!r} is not a name", cure, "models", model.name)
        if model.problem.source not in self._policy.sources:
            raise self._wrong(
                f"model {model.name!r} reads the source {model.problem.source!r}, which is not defined",
                f"add [sources.{model.problem.source}] with its path"
                + nearest(model.problem.source, self._policy.sources),
                *self._of_model(model, "problem", "source"),
            )
        self._split(model)
        self._length(model.training.test, *self._of_model(model, "training", "test"))
        self._length(model.rollout.maximum, *self._of_model(model, "rollout", "maximum"))
        self._length(model.watch.quiet, *self._of_model(model, "watch", "quiet"))
        for place, value in enumerate(model.watch.values):
            self._length(value.window, *self._of_model(model, "watch", "values", f"[{place}]", "window"))

    def _split(self, model: ModelPolicy) -> None:
        """A way to split has what it needs, and the rest of the policy fits it; whether columns exist the rows tell."""
        options, problem, key = model.training, model.problem, "split"
        wrong = cure = ""
        if options.group and options.split != "group":
            wrong = f"group = {options.group!r} says nothing while the split is not by group"
            cure, key = 'add split = "group", or remove it', "group"
        elif options.split == "group" and not options.group:
            wrong = 'split = "group" does not say which column names the group'
            cure = 'name it: group = "patient"'
        elif options.split == "group" and options.feedback and options.group not in model.inputs.request:
            wrong = f"feedback = true learns from served rows, which do not tell their group {options.group!r}"
            cure, key = f"add {options.group!r} to [inputs] request, or remove `feedback`", "feedback"
        elif options.split == "stratified" and problem.task == "regression":
            wrong = 'split = "stratified" keeps a mixture of classes, and a regression has none'
            cure = 'use "time", "random" or "group"'
        elif options.split == "time" and not self._policy.sources[problem.source].time:
            wrong = f'split = "time", but the source {problem.source!r} has no event time'
            cure = f"name its column: [sources.{problem.source}] time, or split otherwise"
        if wrong:
            raise self._wrong(f"[training] {wrong}", cure, *self._of_model(model, "training", key))

    def _retention(self) -> None:
        """A journal is not cut shorter than what is still looked back on."""
        kept = self._policy.retention
        self._length(kept.runs, "retention", "runs"), self._length(kept.orphans, "retention", "orphans")
        if kept.journal is None:
            return
        journal = self._length(kept.journal, "retention", "journal")
        for model in self._policy.models.values():
            learns = model.training.feedback
            if learns and not model.training.window:
                raise self._wrong(
                    f"[retention] journal = {kept.journal!r}, but model {model.name!r} learns from all of it "
                    "(feedback = true)",
                    "give its [training] a window, or keep the journal: leave `journal` out",
                    *("retention", "journal"),
                )
            looks = [*(value.window for value in model.watch.values), model.rollout.maximum]
            looks += [model.training.window] if learns and model.training.window else []
            longest = max(looks, key=parse_duration)
            if journal < parse_duration(longest) + LABEL_LEAD:
                raise self._wrong(
                    f"[retention] journal = {kept.journal!r} is shorter than model {model.name!r} looks back "
                    f"({longest}, and a day for labels)",
                    "keep it longer, or shorten that window",
                    *("retention", "journal"),
                )

    def _trigger(self, trigger: Trigger, place: int, defined: Names | None) -> None:
        if trigger.name in ("", "hand"):
            cure = 'such as "worse or old"; "hand" stands for what people start'
            raise self._wrong(f"{trigger.name!r} cannot be the name of a trigger", cure, *_of(place, "name"))
        about = f"trigger {trigger.name!r}"
        if bool(trigger.on) == bool(trigger.cron):
            cure = "give it one"
            raise self._wrong(f"{about} must have either `on` (a kind of event) or `cron`", cure, *_of(place, "name"))
        self._length(trigger.cooldown, *_of(place, "cooldown"))
        if not trigger.pipeline:
            raise self._wrong(f"{about} names no pipeline", 'such as "training"', *_of(place, "pipeline"))
        if defined is not None and (trigger.pipeline not in defined.all or trigger.pipeline in defined.others):
            public = sorted(n for n in defined.all if not n.startswith("_") and n not in defined.others)
            noun = defined.others.get(trigger.pipeline)
            raise self._wrong(
                f"{about} starts the pipeline {trigger.pipeline!r}, which "
                + (f"is a {noun} in pipeline.py" if noun else "pipeline.py does not define"),
                f"it defines: {', '.join(public) or 'none'}" + nearest(trigger.pipeline, public),
                *_of(place, "pipeline"),
            )
        if trigger.model and trigger.model not in self._policy.models:
            raise self._wrong(
                f"{about} is for a model {trigger.model!r} that is not defined",
                f"defined: {', '.join(self._policy.models)}" + nearest(trigger.model, self._policy.models),
                *_of(place, "model"),
            )
        if trigger.cron:
            self._cron(trigger, place, about)
        else:
            self._event(trigger, place, about)

    def _event(self, trigger: Trigger, place: int, about: str) -> None:
        if trigger.on not in _KINDS and (near := get_close_matches(trigger.on, _KINDS, 1, 0.75)):
            cure = f"did you mean {near[0]!r}?"
            raise self._wrong(f"{about} waits for {trigger.on!r}, which nothing tells", cure, *_of(place, "on"))
        subject = trigger.where.get("subject", "")
        if trigger.on == "data" and subject and subject not in self._policy.sources:
            raise self._wrong(
                f"{about} waits for data of {subject!r}, which is no source",
                f"defined: {', '.join(self._policy.sources)}" + nearest(subject, self._policy.sources),
                *_of(place, "where"),
            )
        if trigger.on == "rows" and not subject:
            cure = 'name it: where = { subject = "flights" }'
            raise self._wrong(f"{about} waits for rows, but of no table", cure, *_of(place, "on"))

    def _cron(self, trigger: Trigger, place: int, about: str) -> None:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        from croniter import CroniterBadDateError, croniter

        cron = trigger.cron
        if not croniter.is_valid(cron):
            raise self._wrong(f"the cron of {about} is not one: {cron!r}", 'such as "0 6 * * *"', *_of(place, "cron"))
        try:
            zone = ZoneInfo(trigger.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            cure = 'such as "Europe/Zurich"'
            raise self._wrong(f"{about}: there is no time zone {trigger.zone!r}", cure, *_of(place, "zone")) from None
        try:
            croniter(cron, datetime.now(UTC).astimezone(zone)).get_next()
        except CroniterBadDateError:
            cure = "name a day that exists, and is still to come"
            raise self._wrong(f"the cron of {about} never fires: {cron!r}", cure, *_of(place, "cron")) from None


def _of(place: int, key: str) -> tuple[str, str, str]:
    return "triggers", f"[{place}]", key
