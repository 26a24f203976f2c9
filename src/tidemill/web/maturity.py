"""The page of the maturity: the MLOps level of the project, each characteristic with its evidence or its cure."""

from tidemill.evidence.maturity import (
    Characteristic,
    MaturityLevel,
    ModelMaturity,
    describe_evidence,
    describe_level,
)
from tidemill.evidence.maturity_records import EvidenceRecord
from tidemill.web import view
from tidemill.web.reading import Query, Site
from tidemill.web.view import Cell, Facts, Page, PageTable

_COLUMNS = ("met", "characteristic", "evidence, or what adds it", "newest", "record")
_LISTS = {"run": "runs", "verdict": "verdicts", "event": "events"}


def maturity(site: Site, _: Query) -> Page:
    """Show the level of the project, and for each model the characteristics of all levels."""
    if site.read_maturity is None:
        text = "These pages run without the policy of the project. The command `tidemill maturity` shows it."
        return Page(title="Maturity", lead=text, data={"maturity": None})
    found = site.read_maturity()
    return Page(
        title="Maturity",
        lead=f"The project is at {describe_level(found.level)}. The levels are those of Google's "
        "“MLOps: Continuous delivery and automation pipelines in machine learning”; the ledger is the evidence.",
        data={"maturity": found},
        parts=[part for model in found.models for part in _describe_model(model)],
    )


def _describe_model(model: ModelMaturity) -> list[PageTable | Facts]:
    following = model.next_level
    pairs: list[tuple[str, object]] = [("reached", view.text(describe_level(model.level)))]
    if following is not None and following.missing:
        pairs.append((f"next for level {following.level}", view.text(following.missing[0].cure)))
    return [Facts(model.model, list(pairs)), *(_describe_level(level) for level in model.levels)]


def _describe_level(level: MaturityLevel) -> PageTable:
    required = [part for part in level.characteristics if not part.optional]
    met = sum(part.met for part in required)
    title = f"Level {level.level}, {level.title}: {met} of {len(required)}"
    return PageTable(title, _COLUMNS, [_describe_row(part) for part in level.characteristics])


def _describe_row(part: Characteristic) -> list[Cell]:
    name = f"{part.name} (optional)" if part.optional else part.name
    text = describe_evidence(part) if part.met else f"{part.text} → {part.cure}"
    state = Cell("yes", "good") if part.met else Cell("no", "plain" if part.optional else "warn")
    newest = _link(part.evidence[0]) if part.evidence else Cell("")
    return [state, Cell(name, "", "", part.about), view.text(text), view.time(part.newest), newest]


def _link(record: EvidenceRecord) -> Cell:
    if record.kind == "release":
        return view.link_release(record.id)
    if record.kind in _LISTS:
        return view.link(_LISTS[record.kind], record.id)
    return Cell(record.id[:18], "mono", "", record.text)
