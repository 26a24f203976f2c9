"""The MLOps level of a project, from the records in its ledger.

The levels are those of Google's "MLOps: Continuous delivery and automation pipelines in machine learning".
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from tidemill.core.policy import Policy
from tidemill.core.resources import BooksReader
from tidemill.errors import NotFound
from tidemill.evidence.maturity_delivery import LEVEL_2
from tidemill.evidence.maturity_pipeline import LEVEL_0, LEVEL_1
from tidemill.evidence.maturity_records import EvidenceRecord, Finding, Rule, TrainingRecords

TITLES = ("manual process", "pipeline automation", "CI/CD pipeline automation")
_RULES: tuple[tuple[Rule, ...], ...] = (LEVEL_0, LEVEL_1, LEVEL_2)


class Characteristic(Struct, frozen=True, kw_only=True):
    """A characteristic of a level: whether the ledger has evidence of it, otherwise what adds it.

    `evidence` are the newest records, `count` is the number of all records (with `more`, at least), and `newest` the
    time of the newest one. An optional characteristic is not required for the level.
    """

    name: str
    about: str
    met: bool
    optional: bool = False
    text: str = ""
    evidence: tuple[EvidenceRecord, ...] = ()
    count: int = 0
    more: bool = False
    newest: datetime | None = None
    cure: str = ""


class MaturityLevel(Struct, frozen=True, kw_only=True):
    """A level with its characteristics; it is `reached` if all required ones of it and of the levels below are met."""

    level: int
    title: str
    reached: bool
    characteristics: tuple[Characteristic, ...]

    @property
    def missing(self) -> tuple[Characteristic, ...]:
        """Return the required characteristics without evidence."""
        return tuple(part for part in self.characteristics if not part.met and not part.optional)


class ModelMaturity(Struct, frozen=True, kw_only=True):
    """The highest level that one model has reached in an environment; None if not even level 0."""

    model: str
    environment: str
    level: int | None
    levels: tuple[MaturityLevel, ...]

    @property
    def next_level(self) -> MaturityLevel | None:
        """Return the first level that is not reached; None if all are."""
        return next((level for level in self.levels if not level.reached), None)


class Maturity(Struct, frozen=True, kw_only=True):
    """The level of a project: the lowest level of its models that have a release.

    A model without a release does not count, unless no model has one.
    """

    project: str
    environment: str
    level: int | None
    models: tuple[ModelMaturity, ...]


def assess(books: BooksReader, policy: Policy, environment: str, model: str = "") -> Maturity:
    """Return the level of a project in an environment; with `model`, only of that model.

    Raises
    ------
    NotFound
        if there is no such model.
    """
    released = books.releases.values("name")
    known = sorted({*policy.models, *released})
    if model and model not in known:
        raise NotFound(f"there is no model {model!r}", f"the models are: {', '.join(known) or 'none'}")
    names = [model] if model else known
    models = tuple(_assess_model(books, policy, environment, name) for name in names)
    counted = [found for found in models if found.model in released]
    levels = [found.level for found in counted or models]
    lowest = None if not levels or None in levels else min(level for level in levels if level is not None)
    return Maturity(project=policy.name, environment=environment, level=lowest, models=models)


def describe_level(level: int | None) -> str:
    """Return a level as text.

    >>> describe_level(1), describe_level(None)
    ('level 1 (pipeline automation)', 'below level 0: no release is in production')
    """
    return "below level 0: no release is in production" if level is None else f"level {level} ({TITLES[level]})"


def describe_evidence(part: Characteristic) -> str:
    """Return what supports a characteristic as text: its number of records, and the newest one."""
    if not part.met:
        return part.text
    count = f"{part.count:,}{'+' if part.more else ''}"
    return f"{count}: {part.text}" if part.count > 1 else part.text


def _assess_model(books: BooksReader, policy: Policy, environment: str, name: str) -> ModelMaturity:
    records = TrainingRecords(books, policy, environment, name)
    levels: list[MaturityLevel] = []
    reached = True
    for number, rules in enumerate(_RULES):
        parts = tuple(_judge(rule, rule.find(records)) for rule in rules)
        reached = reached and all(part.met or part.optional for part in parts)
        levels.append(MaturityLevel(level=number, title=TITLES[number], reached=reached, characteristics=parts))
    return ModelMaturity(model=name, environment=environment, level=_highest(levels), levels=tuple(levels))


def _highest(levels: Sequence[MaturityLevel]) -> int | None:
    return max((level.level for level in levels if level.reached), default=None)


def _judge(rule: Rule, finding: Finding) -> Characteristic:
    return Characteristic(
        name=rule.name,
        about=rule.about,
        optional=rule.optional,
        met=not finding.cure,
        text=finding.text,
        evidence=finding.records,
        count=finding.count,
        more=finding.more,
        newest=finding.newest,
        cure=finding.cure,
    )
