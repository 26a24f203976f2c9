"""Checks the rules of a policy that types cannot express: names, durations, crons. Errors name the file and line."""

import re
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path

from tidemill.clock import parse_duration
from tidemill.core.policy import ModelPolicy, Policy
from tidemill.core.prediction import LABEL_LEAD
from tidemill.core.trigger import Trigger
from tidemill.errors import ConfigurationError
from tidemill.project.lines import find_line
from tidemill.project.meanings import find_faults, suggest_name
from tidemill.project.names import BUILT_IN, DefinedNames, read_names

_NAME = re.compile(r"[A-Za-z][\w-]*")
# Names of sources and environments become folders, and parts of ids, which have the separator /.
_FOLDER_NAME = re.compile(r"\w[\w.-]{0,99}")
_KINDS = (
    *("data", "rows", "predictions", "labels", "verdict", "run", "code", "packages", "job", "alert", "push", "build"),
    *("approval.needed", "watch.missing", "champion.missing", "model.frozen", "release.retired"),
    *("release.waiting", "build.waiting", "deployed", "canary.replaced", "batch.withdrawn", "batch.restored"),
)


class PolicyRules:
    """The rules for the policy in a file; `code` is the pipeline.py of its project, which is read but not run."""

    def __init__(self, policy: Policy, file: Path, text: str, *, short: bool, code: Path) -> None:
        self._policy = policy
        self._file = file.name
        self._text = text
        self._short = short
        self._code = code

    def check(self) -> None:
        """Check the policy.

        Raises
        ------
        ConfigurationError
            if a rule is broken, with the line and the cure.
        """
        policy = self._policy
        if not _NAME.fullmatch(policy.name):
            cure = 'set it in [project]: name = "flights" (letters, digits, - and _)'
            raise self._create_error(f"the name of the project is invalid: {policy.name!r}", cure, "project", "name")
        self._check_names()
        for name, source in policy.sources.items():
            self._check_duration(source.delay, "sources", name, "delay")
        for model in policy.models.values():
            self._check_model(model)
        self._check_retention()
        defined = read_names(self._code)
        names: set[str] = set()
        for index, trigger in enumerate(policy.triggers):
            if trigger.name in names:
                cure = "rename one: cooldowns and jobs are stored by this name"
                raise self._create_error(
                    f"two triggers have the name {trigger.name!r}", cure, *_trigger_path(index, "name")
                )
            names.add(trigger.name)
            self._check_trigger(trigger, index, defined)
        for problem, cure, steps in find_faults(policy, defined):
            is_model = steps[0] == "models"
            path = self._find_path(policy.models[steps[1]], *steps[2:]) if is_model else steps
            raise self._create_error(problem, cure, *path)

    def _create_error(self, problem: str, cure: str, *steps: str) -> ConfigurationError:
        line = find_line(self._text, [list(steps)]) if steps else None
        position = f"{self._file}, line {line}" if line else self._file
        return ConfigurationError(f"{position}: {problem}", cure)

    def _find_path(self, model: ModelPolicy, *steps: str) -> tuple[str, ...]:
        """Return the path of a value of a model; the only model has top-level tables."""
        return steps if self._short and model.name == self._policy.name else ("models", model.name, *steps)

    def _check_duration(self, text: str, *steps: str) -> timedelta:
        try:
            return parse_duration(text)
        except ConfigurationError as error:
            raise self._create_error(error.problem, error.cure, *steps) from None

    def _check_names(self) -> None:
        """Check the names of sources and environments, and that each trigger's name is one line."""
        for table, kind, names in (
            ("sources", "a source", self._policy.sources),
            ("environments", "an environment", self._policy.environments),
        ):
            for name in names:
                if not _FOLDER_NAME.fullmatch(name):
                    cure = "use up to 100 letters, digits, -, _ and ., such as flights_2013"
                    raise self._create_error(f"the name of {kind} is invalid: {name!r}", cure, table, name)
        for index, trigger in enumerate(self._policy.triggers):
            if not trigger.name.isprintable():
                problem = f"the name of a trigger has a control character: {trigger.name!r}"
                raise self._create_error(problem, "write it in one line", *_trigger_path(index, "name"))

    def _check_model(self, model: ModelPolicy) -> None:
        if not _NAME.fullmatch(model.name):
            cure = "use letters, digits, - and _, such as late_flights"
            raise self._create_error(f"the name of a model is invalid: {model.name!r}", cure, "models", model.name)
        if model.problem.source not in self._policy.sources:
            raise self._create_error(
                f"model {model.name!r} reads the source {model.problem.source!r}, which does not exist",
                f"add [sources.{model.problem.source}] with its path"
                + suggest_name(model.problem.source, self._policy.sources),
                *self._find_path(model, "problem", "source"),
            )
        self._check_split(model)
        self._check_duration(model.training.test, *self._find_path(model, "training", "test"))
        for name in ("block", "shortest", "maximum", "extension"):
            self._check_duration(getattr(model.rollout, name), *self._find_path(model, "rollout", name))
        self._check_duration(model.watch.quiet, *self._find_path(model, "watch", "quiet"))
        self._check_duration(model.regimes.reach, *self._find_path(model, "regimes", "reach"))
        for index, value in enumerate(model.watch.values):
            self._check_duration(value.window, *self._find_path(model, "watch", "values", f"[{index}]", "window"))

    def _check_split(self, model: ModelPolicy) -> None:
        """Check the options of the split; whether its columns exist is checked with the rows."""
        options, problem, key = model.training, model.problem, "split"
        fault = cure = ""
        if options.group and options.split != "group":
            fault = f"group = {options.group!r} has no effect: the split is not by group"
            cure, key = 'add split = "group", or remove it', "group"
        elif options.split == "group" and not options.group:
            fault = 'split = "group" needs the column of the group'
            cure = 'add it, such as group = "patient"'
        elif options.split == "group" and options.feedback and options.group not in model.inputs.request:
            fault = f"feedback = true trains on served rows, which have no column {options.group!r} for their group"
            cure, key = f"add {options.group!r} to [inputs] request, or remove `feedback`", "feedback"
        elif options.split == "stratified" and problem.task == "regression":
            fault = 'split = "stratified" needs classes, and a regression has none'
            cure = 'use "time", "random" or "group"'
        elif options.split == "time" and not self._policy.sources[problem.source].time:
            fault = f'split = "time", but the source {problem.source!r} has no event time'
            cure = f"set its column: [sources.{problem.source}] time, or use another split"
        if fault:
            raise self._create_error(f"[training] {fault}", cure, *self._find_path(model, "training", key))

    def _check_retention(self) -> None:
        """Check that the journal keeps all rows that a window still needs."""
        retention = self._policy.retention
        (
            self._check_duration(retention.runs, "retention", "runs"),
            self._check_duration(retention.orphans, "retention", "orphans"),
        )
        if retention.journal is None:
            return
        journal = self._check_duration(retention.journal, "retention", "journal")
        for model in self._policy.models.values():
            uses_feedback = model.training.feedback
            if uses_feedback and not model.training.window:
                raise self._create_error(
                    f"[retention] journal = {retention.journal!r}, but model {model.name!r} is trained on all of it "
                    "(feedback = true)",
                    "set a window in its [training], or remove `journal`",
                    *("retention", "journal"),
                )
            windows = [(parse_duration(value.window), value.window) for value in model.watch.values]
            windows.append((parse_duration(model.rollout.maximum), model.rollout.maximum))
            if uses_feedback and model.training.window:
                windows.append((parse_duration(model.training.window), model.training.window))
            windows += [
                (value.reach, f"{value.reach.days}d for the {value.reference} reference of drift")
                for value in model.watch.values
                if value.reference != "release"
            ]
            length, longest = max(windows)
            if journal < length + LABEL_LEAD:
                raise self._create_error(
                    f"[retention] journal = {retention.journal!r} is shorter than a window of model {model.name!r} "
                    f"({longest}, and a day for labels)",
                    "raise it, or shorten the window",
                    *("retention", "journal"),
                )

    def _check_trigger(self, trigger: Trigger, index: int, defined: DefinedNames | None) -> None:
        if trigger.name in ("", "hand"):
            cure = 'use a name such as "worse or old"; "hand" is reserved for jobs of people'
            raise self._create_error(
                f"{trigger.name!r} is not a valid name of a trigger", cure, *_trigger_path(index, "name")
            )
        about = f"trigger {trigger.name!r}"
        if bool(trigger.on) == bool(trigger.cron):
            cure = "set one of them"
            raise self._create_error(
                f"{about} must have either `on` (a kind of event) or `cron`", cure, *_trigger_path(index, "name")
            )
        self._check_duration(trigger.cooldown, *_trigger_path(index, "cooldown"))
        if not trigger.pipeline:
            raise self._create_error(
                f"{about} has no pipeline", 'write a value such as "training"', *_trigger_path(index, "pipeline")
            )
        is_built_in = trigger.pipeline in BUILT_IN and defined is not None and trigger.pipeline not in defined.all
        is_unknown = defined is not None and trigger.pipeline not in defined.all and not is_built_in
        if defined is not None and (is_unknown or trigger.pipeline in defined.not_pipelines):
            public = sorted(n for n in defined.all if not n.startswith("_") and n not in defined.not_pipelines)
            kind = defined.not_pipelines.get(trigger.pipeline)
            raise self._create_error(
                f"{about} starts the pipeline {trigger.pipeline!r}, which "
                + (f"is a {kind} in pipeline.py" if kind else "pipeline.py does not define"),
                f"it defines: {', '.join(public) or 'none'}" + suggest_name(trigger.pipeline, public),
                *_trigger_path(index, "pipeline"),
            )
        if trigger.model and trigger.model not in self._policy.models:
            raise self._create_error(
                f"{about} has the model {trigger.model!r}, which is not defined",
                f"the models are: {', '.join(self._policy.models)}" + suggest_name(trigger.model, self._policy.models),
                *_trigger_path(index, "model"),
            )
        if trigger.cron:
            if trigger.rows is not None:
                raise self._create_error(
                    f"{about} has a cron and a number of rows", "remove one of them", *_trigger_path(index, "rows")
                )
            self._check_cron(trigger, index, about)
        else:
            self._check_event(trigger, index, about)

    def _check_event(self, trigger: Trigger, index: int, about: str) -> None:
        if trigger.on == "proposal":
            cure = "remove it: a person accepts a proposal, see `tidemill proposals list`"
            raise self._create_error(f"{about} waits for a proposal", cure, *_trigger_path(index, "on"))
        if trigger.on not in _KINDS and (near := get_close_matches(trigger.on, _KINDS, 1, 0.75)):
            cure = f"did you mean {near[0]!r}?"
            raise self._create_error(
                f"{about} waits for {trigger.on!r}, which no event has as its kind", cure, *_trigger_path(index, "on")
            )
        subject = trigger.where.get("subject", "")
        if trigger.on == "data" and subject and subject not in self._policy.sources:
            raise self._create_error(
                f"{about} waits for data of {subject!r}, which is not a source",
                f"the sources are: {', '.join(self._policy.sources)}" + suggest_name(subject, self._policy.sources),
                *_trigger_path(index, "where"),
            )
        counts_rows = trigger.on in ("predictions", "labels")
        if counts_rows != (trigger.rows is not None):
            problem = (
                "waits for rows of the journal, but has no number of rows" if counts_rows else "has a number of rows"
            )
            cure = "add rows = 100" if counts_rows else 'remove `rows`: it needs on = "predictions" or on = "labels"'
            raise self._create_error(f"{about} {problem}", cure, *_trigger_path(index, "on"))
        if trigger.on == "rows" and not subject:
            cure = 'add the table: where = { subject = "flights" }'
            raise self._create_error(f"{about} waits for rows, but has no table", cure, *_trigger_path(index, "on"))

    def _check_cron(self, trigger: Trigger, index: int, about: str) -> None:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        from croniter import CroniterBadDateError, croniter

        cron = trigger.cron
        if not croniter.is_valid(cron) or _RANDOM_FIELD.search(cron):  # R would be another time in each look
            raise self._create_error(
                f"the cron of {about} is invalid: {cron!r}",
                'write a value such as "0 6 * * *"',
                *_trigger_path(index, "cron"),
            )
        try:
            zone = ZoneInfo(trigger.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            cure = 'write a value such as "Europe/Zurich"'
            raise self._create_error(
                f"{about}: there is no time zone {trigger.zone!r}", cure, *_trigger_path(index, "zone")
            ) from None
        try:
            croniter(cron, datetime.now(UTC).astimezone(zone)).get_next()
        except CroniterBadDateError:
            cure = "use a date that exists and is in the future"
            raise self._create_error(
                f"the cron of {about} never fires: {cron!r}", cure, *_trigger_path(index, "cron")
            ) from None


_RANDOM_FIELD = re.compile(r"(^|\s)R", re.IGNORECASE)


def _trigger_path(index: int, key: str) -> tuple[str, str, str]:
    return "triggers", f"[{index}]", key
