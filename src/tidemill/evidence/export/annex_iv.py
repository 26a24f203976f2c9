"""The technical documentation of the EU AI Act: the nine points of Annex IV (Regulation (EU) 2024/1689)."""

from tidemill.evidence.export.cards import (
    describe_limits,
    describe_monitoring,
    describe_training,
    list_live_verdicts,
    list_metric_tables,
)
from tidemill.evidence.export.documents import Document, Fact, Question, Section, Table, fact
from tidemill.evidence.export.facts import ReleaseFacts
from tidemill.evidence.formatting import format_time

_PROVENANCE = "provenance.json"
_ABOUT = (
    "The headings are those of Annex IV (technical documentation, Article 11(1)). Facts come from the records of the "
    "ledger. An empty field is a question that only the provider can answer. Whether the system is high-risk, and "
    "whether this documentation is sufficient, is for the provider to determine; this is no legal advice."
)


def build_annex_iv(facts: ReleaseFacts) -> Document:
    """Return the technical documentation by the points of Annex IV."""
    return Document(
        id="annex-iv",
        title="EU AI Act: technical documentation (Annex IV)",
        about=_ABOUT,
        sections=(
            _describe_system(facts),
            _describe_development(facts),
            _describe_control(facts),
            _describe_metrics(facts),
            Section(
                id="annex-iv.5",
                heading="5. Risk management system (Article 9)",
                questions=(
                    _ask("5.risks", "Which known and foreseeable risks were identified, and how were they estimated?"),
                    _ask("5.measures", "Which measures were adopted, and which residual risk is acceptable?"),
                ),
            ),
            _describe_changes(facts),
            Section(
                id="annex-iv.7",
                heading="7. Harmonised standards and other specifications",
                questions=(
                    _ask("7.standards", "Which harmonised standards were applied, in full or in part?"),
                    _ask("7.solutions", "Without them: which solutions meet Chapter III, Section 2?"),
                ),
            ),
            Section(
                id="annex-iv.8",
                heading="8. EU declaration of conformity (Article 47)",
                questions=(_ask("8.declaration", "Where is the copy of the EU declaration of conformity?"),),
            ),
            Section(
                id="annex-iv.9",
                heading="9. Post-market monitoring (Article 72)",
                facts=describe_monitoring(facts),
                tables=(list_live_verdicts(facts),) if facts.live else (),
                questions=(
                    _ask("9.plan", "Where is the post-market monitoring plan (Article 72(3))?"),
                    _ask("9.incidents", "How are serious incidents noticed and reported (Article 73)?"),
                ),
            ),
        ),
    )


def _ask(name: str, question: str) -> Question:
    return Question(id=f"annex-iv.{name}", question=question)


def _describe_system(facts: ReleaseFacts) -> Section:
    release = facts.release
    software = facts.run.run.software if facts.run else {}
    found = (
        *fact("(a) decision that uses the predictions", facts.decision),
        *fact("(a) version", release.label),
        *fact("(a) earlier versions", [f"{r.label} ({format_time(r.created)})" for r in facts.previous]),
        *fact("(c) software", software, "environment/requirements.txt"),
        *fact("(d) forms in which it is put into service", _list_forms(facts)),
    )
    return Section(
        id="annex-iv.1",
        heading="1. General description of the AI system",
        facts=found,
        questions=(
            _ask("1.a.purpose", "(a) What is the intended purpose of the system, and who is its provider?"),
            _ask("1.b", "(b) Which other hardware, software or AI systems does it interact with?"),
            _ask("1.c", "(c) Which requirements apply to updates of software or firmware?"),
            _ask("1.e", "(e) On which hardware is it intended to run?"),
            _ask("1.f", "(f) If it is a component of a product: what do its exterior and its marking look like?"),
            _ask("1.g", "(g) Which user interface does the deployer get?"),
            _ask("1.h", "(h) Where are the instructions for use for the deployer?"),
        ),
    )


def _list_forms(facts: ReleaseFacts) -> list[str]:
    forms = [f"HTTP service in {name}" for name in sorted({route.environment for route in facts.routes})]
    for build in facts.builds:
        forms += [f"{kind} of build {build.label}" for kind in ("wheel", "executable") if kind in build.artifacts]
        forms += [f"image {build.image}"] if build.image else []
    return forms


def _describe_development(facts: ReleaseFacts) -> Section:
    steps = " → ".join(dict.fromkeys(step.step for step in facts.run.steps)) if facts.run else ""
    policy = facts.policy
    found = (
        *(Fact(name=f"(a) {part.name}", text=part.text, file=part.file) for part in describe_training(facts)),
        *fact("(b) optimized for", policy.problem.metric if policy else ""),
        *fact("(c) steps, in their order", steps, "lineage/openlineage.jsonl"),
        *fact("(d) data sheet", "see the data sheet" if facts.batches or facts.profile else "", "data-sheet.json"),
        *fact("(f) changes that the policy makes by itself", _describe_automatic_changes(facts)),
        *fact("(g) split of training and test rows", policy.training.split or "by time" if policy else ""),
        *fact("(h) digests of the files of the package", len(facts.model.files) if facts.model else None, _PROVENANCE),
        *fact("(h) package is signed (OpenSSF model-signing)", bool(facts.signature)),
    )
    tests = tuple(
        (v.check, v.subject, v.outcome, v.reason, format_time(v.time))
        for v in (*(facts.run.verdicts if facts.run else ()), *facts.ci_verdicts)
        if v.check != "schema"
    )
    columns = ("check", "subject", "outcome", "reason", "time")
    return Section(
        id="annex-iv.2",
        heading="2. Elements of the AI system and process of its development",
        facts=found,
        tables=(Table(title="(g) Tests and verdicts", columns=columns, rows=tests),) if tests else (),
        questions=(
            _ask("2.a", "(a) Which pre-trained systems or tools of third parties were used, and how?"),
            _ask("2.b.choices", "(b) Which design choices and assumptions were made, also about groups of persons?"),
            _ask("2.b.trade_offs", "(b) Which trade-offs were decided?"),
            _ask("2.c", "(c) Which computing resources were used to develop, train, test and validate it?"),
            _ask("2.d", "(d) How were the data obtained, selected, labelled and cleaned?"),
            _ask("2.e", "(e) Which measures of human oversight are needed (Article 14)?"),
            _ask("2.g", "(g) Who is responsible for the tests, and signed and dated the reports?"),
            _ask("2.g.discrimination", "(g) Which potentially discriminatory impacts were tested?"),
            _ask("2.h", "(h) Which cybersecurity measures are in place?"),
        ),
    )


def _describe_automatic_changes(facts: ReleaseFacts) -> str:
    if facts.policy is None:
        return ""
    approval = "after an approval" if facts.policy.rollout.approval else "without an approval"
    canary = "with a canary" if facts.policy.rollout.canary else "without a canary"
    triggers = f"; triggers: {', '.join(facts.triggers)}" if facts.triggers else ""
    return f"a release that passes its gate is deployed {approval}, {canary}{triggers}"


def _describe_control(facts: ReleaseFacts) -> Section:
    return Section(
        id="annex-iv.3",
        heading="3. Monitoring, functioning and control of the AI system",
        facts=(*describe_limits(facts), *describe_monitoring(facts)),
        tables=list_metric_tables(facts),
        questions=(
            _ask("3.groups", "What is its accuracy for the persons or groups on whom it is intended to be used?"),
            _ask("3.outcomes", "Which unintended outcomes and risks to health, safety and rights are foreseeable?"),
            _ask("3.oversight", "Which measures of human oversight help deployers to interpret its outputs?"),
        ),
    )


def _describe_metrics(facts: ReleaseFacts) -> Section:
    problem = facts.policy.problem if facts.policy else None
    return Section(
        id="annex-iv.4",
        heading="4. Appropriateness of the performance metrics",
        facts=(
            *fact("main metric", problem.metric if problem else ""),
            *fact("cost of an error", problem.cost_of_error or None if problem else None),
        ),
        questions=(_ask("4.why", "Why are these metrics appropriate for this system?"),),
    )


def _describe_changes(facts: ReleaseFacts) -> Section:
    routes = tuple(
        (format_time(route.since), route.environment, route.change, route.by, route.reason) for route in facts.routes
    )
    decisions = tuple(
        (format_time(entry.time), entry.actor, entry.action, entry.subject, entry.reason) for entry in facts.audit
    )
    tables = []
    if routes:
        columns = ("time", "environment", "change", "by", "reason")
        tables.append(Table(title="Changes of the route", columns=columns, rows=routes))
    if decisions:
        columns = ("time", "by", "decision", "subject", "reason")
        tables.append(Table(title="Decisions", columns=columns, rows=decisions))
    return Section(
        id="annex-iv.6",
        heading="6. Changes through the lifecycle",
        facts=(
            *fact("earlier releases", [f"{r.label} ({format_time(r.created)})" for r in facts.previous]),
            *fact("audit log", facts.audit_state, "records/audit_log.json"),
        ),
        tables=tuple(tables),
        questions=(_ask("6.changes", "Which other relevant changes did the provider make to the system?"),),
    )
