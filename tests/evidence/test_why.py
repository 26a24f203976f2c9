"""Why: the chain from a prediction, a release, an artifact or a run back to code and cause."""

from datetime import timedelta

import polars as pl
import pytest
from msgspec.structs import replace

from tests.evidence import kit
from tests.flow.kit import NOON, Mill
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Arm, Role, Route
from tidemill.core.run import Run
from tidemill.errors import NotFound
from tidemill.evidence.delivery_links import EvidenceLink
from tidemill.evidence.identify import identify
from tidemill.evidence.lineage import trace_lineage
from tidemill.evidence.why import trace_evidence
from tidemill.ledger.decisions import Decision, record_decision


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def trace(mill: Mill, identifier: str) -> list[EvidenceLink]:
    return trace_evidence(mill.books, mill.workspace.journal, ["late"], "test", identifier)


def create_release(mill: Mill) -> Run:
    """Add a run that the event of a verdict started, and its release late/1 with two routes."""
    run = mill.run(kit.sizing)
    mill.books.verdicts.add(
        Verdict(id="v" * 8, check="age", subject="late/0", outcome="fail", action="retrain", reason="too old")
    )
    mill.books.events.add(
        Event(
            id="e" * 8,
            kind="verdict",
            environment="test",
            subject="late/0",
            time=NOON,
            known_at=NOON,
            dedupe_key="x",
            cause="v" * 8,
            payload={"reason": "its newest row is old"},
        )
    )
    mill.books.runs.change(run.id, lambda run: replace(run, cause={"trigger": "age", "event": "e" * 8}))
    package = mill.steps(run)["read"].outputs["output"]
    mill.books.releases.add(
        Release(
            id=mill.session.clock.mint(),
            name="late",
            version=1,
            package=package,
            flavor="none",
            environment="test",
            created=NOON,
            run=run.id,
            metrics={"test_loss": 0.5},
        )
    )
    for version, (role, day) in enumerate([("shadow", 0), ("champion", 2)], 1):
        add_route(mill, version, role, day, package)  # type: ignore[arg-type]
    return run


def add_route(mill: Mill, version: int, role: Role, day: int, package: str) -> None:
    arm = Arm(release="late/1", version=1, package=package, role=role, share=1.0)
    since = NOON + timedelta(days=day)
    mill.books.routes.add(
        Route(
            id=f"r{version}", environment="test", model="late", version=version, arms=(arm,), since=since, reason="so"
        )
    )


def add_prediction(mill: Mill, days: float, role: str) -> str:
    """Add a prediction some days after noon and return its id."""
    mill.session.clock.advance(NOON + timedelta(days=days))  # type: ignore[attr-defined]
    identifier = mill.session.clock.mint()
    now = mill.session.clock.now()
    row = {"id": identifier, "release": "late/1", "role": role, "key": "k1", "time": now, "known_at": now, "value": "1"}
    frame = pl.DataFrame([row | {"probability": [0.25, 0.75], "features": {"a": 1, "b": "é"}}]).cast(
        {"time": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")}
    )
    mill.workspace.journal.append("predictions/late", frame)
    return identifier


def test_a_prediction_leads_back_to_the_verdict_that_triggered_its_training(mill: Mill) -> None:
    run = create_release(mill)
    prediction = add_prediction(mill, 1, "shadow")
    chain = trace(mill, prediction)
    kinds = [link.kind for link in chain]
    assert kinds == ["prediction", "features", "release", "route", "run", "verdict", "code", "cause", "verdict"]
    assert "late predicted 1 (0.750) for k1" in chain[0].text
    assert chain[3].id == "r1", "the route at the time of the prediction"
    assert chain[4].id == run.id
    assert chain[-1].text == "age of late/0: fail → retrain: too old"


def test_a_prediction_has_the_decisions_before_it_and_its_release_has_all(mill: Mill) -> None:
    create_release(mill)
    clock = mill.session.clock

    def decide(actor: str, action: str) -> None:
        decision = Decision(action=action, subject="late/1", reason="numbers")
        record_decision(mill.books, clock, decision, actor=actor, environment="test")

    decide("policy", "promoted")
    prediction = add_prediction(mill, 1, "champion")
    clock.advance(NOON + timedelta(days=2))  # type: ignore[attr-defined]
    decide("ada", "rolled back to")
    texts = {
        name: [link.text for link in trace(mill, name) if link.kind == "decision"] for name in (prediction, "late/1")
    }
    before = "policy promoted late/1: numbers"
    assert texts == {prediction: [before], "late/1": [before, "ada rolled back to late/1: numbers"]}


@pytest.mark.parametrize("by", ["id", "row"])
def test_the_label_is_in_the_chain_once_it_is_known(mill: Mill, by: str) -> None:
    create_release(mill)
    prediction = add_prediction(mill, 1, "champion")
    now = mill.session.clock.now()
    names = {"id": prediction, "key": ""} if by == "id" else {"id": "", "key": "k1"}
    labels = [{"known_at": now + timedelta(hours=hour), "time": now, "value": f"{hour}"} | names for hour in (1, 2)]
    labels.append({"known_at": now + timedelta(hours=3), "time": now, "value": "9", "id": "", "key": "k2"})
    frame = pl.DataFrame(labels).cast({"time": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")})
    mill.workspace.journal.append("labels/late", frame)
    (text,) = [link.text for link in trace(mill, prediction) if link.kind == "label"]
    assert text.startswith("2 is the label, known ")


def test_a_release_has_all_its_routes_and_an_artifact_its_step(mill: Mill) -> None:
    run = create_release(mill)
    assert [link.id for link in trace(mill, "late/1") if link.kind == "route"] == ["r1", "r2"]
    first = trace(mill, mill.steps(run)["measure"].outputs["output"][:10])[0]
    assert first.kind == "artifact"
    assert "first output of step measure" in first.text


def test_a_release_whose_run_is_missing_still_has_a_chain(mill: Mill) -> None:
    create_release(mill)
    release = mill.books.releases.find(name="late")[0]
    mill.books.releases.change(release.id, lambda release: replace(release, run="missing"))
    assert trace(mill, "late/1")[-1].text == "its run is not in the ledger"


def test_predictions_are_counted_and_have_their_release_upstream(mill: Mill) -> None:
    create_release(mill)
    add_prediction(mill, 1, "shadow")
    last = [add_prediction(mill, 3, "champion") for _ in range(3)][-1]
    journal = mill.workspace.journal
    down = trace_lineage(mill.books, identify(mill.books, "late/1"), "down", journal=journal, environment="test")
    assert "4 predictions in test  3 as champion, 1 as shadow" in [node.text for node in down.nodes.values()]
    reference = identify(mill.books, last, journal, ["late"], "test")
    up = trace_lineage(mill.books, reference, journal=journal)
    assert [node.kind for node in up.nodes.values()][:3] == ["prediction", "release", "artifact"]


def test_an_unknown_id_names_the_searched_environment(mill: Mill) -> None:
    with pytest.raises(NotFound, match="searched in test; --env"):
        trace(mill, "0" * 36)
