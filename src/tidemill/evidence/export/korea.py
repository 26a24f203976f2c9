"""What Korea's AI Basic Act asks of operators of high-impact AI (in force since 22 January 2026)."""

from tidemill.evidence.export.cards import describe_limits, describe_monitoring, describe_training, list_metric_tables
from tidemill.evidence.export.documents import Document, Fact, Question, Section, fact
from tidemill.evidence.export.facts import ReleaseFacts
from tidemill.evidence.formatting import format_time

_ABOUT = (
    "The headings follow the Framework Act on the Development of Artificial Intelligence and Establishment of Trust: "
    "Articles 31 to 36. Facts come from the records of the ledger. An empty field is a question that only the operator "
    "can answer. Whether the system is high-impact AI is for the operator to determine; this is no legal advice."
)


def build_korean_duties(facts: ReleaseFacts) -> Document:
    """Return the duties of an operator of high-impact AI, with the facts that support each."""
    data = facts.release.trained_on
    decisions = [f"{format_time(e.time)} {e.actor} {e.action} {e.subject}" for e in facts.audit]
    return Document(
        id="korea",
        title="Korea: AI Basic Act, duties for high-impact AI",
        about=_ABOUT,
        sections=(
            _section(
                "33",
                "Article 33: confirmation of high-impact AI",
                *fact("decision that uses the predictions", facts.decision),
                ask=("Is the system high-impact AI (Article 2(4)), and who reviewed this, when?",),
            ),
            _section(
                "31",
                "Article 31: transparency",
                ask=("How are users notified in advance that the service is operated based on high-impact AI?",),
            ),
            _section(
                "32",
                "Article 32: safety over the lifecycle",
                *fact("checks of batches before training", len(facts.batches) or None, "records/batches.json"),
                ask=("How are risks identified, assessed and mitigated, and who responds to safety incidents?",),
            ),
            _section(
                "34.1",
                "Article 34(1)1: risk management plan",
                *describe_limits(facts),
                ask=("Where is the risk management plan, and who is responsible for it?",),
            ),
            Section(
                id="korea.34.2",
                heading="Article 34(1)2: explanation of results, of their main criteria, and of the training data",
                facts=(
                    *describe_training(facts),
                    *fact("rows that the model learned", data.rows or None, "data-sheet.json"),
                    *fact("from", data.trained_from),
                    *fact("until", data.trained_until),
                    *fact("inputs", len(facts.model.manifest.signature.inputs) if facts.model else None),
                ),
                tables=list_metric_tables(facts),
                questions=(
                    Question(
                        id="korea.34.2.1",
                        question="How are results, and the main criteria for them, explained to those affected?",
                    ),
                ),
            ),
            _section(
                "34.3",
                "Article 34(1)3: protection of users",
                *describe_monitoring(facts),
                ask=("Which plan protects users, and how can they complain or get redress?",),
            ),
            _section(
                "34.4",
                "Article 34(1)4: human management and supervision",
                *fact("decisions of people and of the policy", decisions, "records/audit.json"),
                *fact("audit log", facts.audit_state, "records/audit_log.json"),
                *fact("an approval is required", facts.policy.rollout.approval if facts.policy else None),
                ask=("Who supervises the system, and how can this person stop it?",),
            ),
            _section(
                "34.5",
                "Article 34(1)5: documents on safety and reliability",
                *fact(
                    "verdicts of its training", len(facts.run.verdicts) if facts.run else None, "records/verdicts.json"
                ),
                *fact("verdicts in production", len(facts.live) or None, "records/live.json"),
                *fact("provenance", facts.release.package, "provenance.json"),
                ask=("Where, and for how long, are the documents kept?",),
            ),
            _section(
                "35",
                "Article 35: impact assessment",
                ask=("Was the impact on fundamental rights assessed, by whom, and with which result?",),
            ),
            _section(
                "36",
                "Article 36: domestic agent",
                ask=("If the operator has no address in Korea: who is its domestic agent?",),
            ),
        ),
    )


def _section(number: str, heading: str, *facts: Fact, ask: tuple[str, ...]) -> Section:
    questions = (
        Question(id=f"korea.{number}.{position}", question=question) for position, question in enumerate(ask, 1)
    )
    return Section(id=f"korea.{number}", heading=heading, facts=facts, questions=tuple(questions))
