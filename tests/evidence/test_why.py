"""Why: from a prediction, a release, an artifact or a run back to code and cause."""

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
from tidemill.evidence.identify import identify
from tidemill.evidence.lineage import lineage
from tidemill.evidence.why import Link, why


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def asked(mill: Mill, identifier: str) -> list[Link]:
    return why(mill.books, mill.workspace.journal, ["late"], "test", identifier)


def released(mill: Mill) -> Run:
    """A run that was started by a verdict's event, and made the release late/1, which answered twice."""
    run = mill.run(kit.telling)
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
        put(mill, version, role, day, package)  # type: ignore[arg-type]
    return run


def put(mill: Mill, version: int, role: Role, day: int, package: str) -> None:
    arm = Arm(release="late/1", version=1, package=package, role=role, share=1.0)
    since = NOON + timedelta(days=day)
    mill.books.routes.add(
        Route(
            id=f"r{version}", environment="test", model="late", version=version, arms=(arm,), since=since, reason="so"
        )
    )


def answered(mill: Mill, days: float, role: str) -> str:
    """One answer, some days after noon."""
    mill.session.clock.advance(NOON + timedelta(days=days))  # type: ignore[attr-defined]
    identifier = mill.session.clock.mint()
    now = mill.session.clock.now()
    row = {"id": identifier, "release": "late/1", "role": role, "key": "k1", "time": now, "known_at": now, "value": "1"}
    frame = pl.DataFrame([row | {"probability": [0.25, 0.75], "features": {"a": 1, "b": "é"}}]).cast(
        {"time": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")}
    )
    mill.workspace.journal.append("predictions/late", frame)
    return identifier


def test_a_prediction_leads_back_to_the_verdict_that_called_for_its_training(mill: Mill) -> None:
    run = released(mill)
    prediction = answered(mill, 1, "shadow")
    chain = asked(mill, prediction)
    kinds = [link.kind for link in chain]
    assert kinds == ["prediction", "features", "release", "route", "run", "verdict", "code", "cause", "verdict"]
    assert "late said 1 (0.750) for k1" in chain[0].text
    assert chain[3].id == "r1", "the route that was in force then"
    assert chain[4].id == run.id
    assert chain[-1].text == "age of late/0: fail → retrain: too old"


@pytest.mark.parametrize("by", ["id", "row"])
def test_the_truth_is_told_once_it_is_known(mill: Mill, by: str) -> None:
    released(mill)
    prediction = answered(mill, 1, "champion")
    now = mill.session.clock.now()
    names = {"id": prediction, "key": ""} if by == "id" else {"id": "", "key": "k1"}
    labels = [{"known_at": now + timedelta(hours=hour), "time": now, "value": f"{hour}"} | names for hour in (1, 2)]
    labels.append({"known_at": now + timedelta(hours=3), "time": now, "value": "9", "id": "", "key": "k2"})
    frame = pl.DataFrame(labels).cast({"time": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")})
    mill.workspace.journal.append("labels/late", frame)
    (told,) = [link.text for link in asked(mill, prediction) if link.kind == "label"]
    assert told.startswith("2 is the truth, known ")


def test_a_release_tells_all_routes_and_a_digest_its_step(mill: Mill) -> None:
    run = released(mill)
    assert [link.id for link in asked(mill, "late/1") if link.kind == "route"] == ["r1", "r2"]
    first = asked(mill, mill.steps(run)["measure"].outputs["output"][:10])[0]
    assert first.kind == "artifact"
    assert "first given by step measure" in first.text


def test_a_release_without_its_run_still_tells_what_is_known(mill: Mill) -> None:
    released(mill)
    release = mill.books.releases.find(name="late")[0]
    mill.books.releases.change(release.id, lambda release: replace(release, run="gone"))
    assert asked(mill, "late/1")[-1].text == "its run is not in this ledger"


def test_predictions_are_counted_and_lead_up_to_their_release(mill: Mill) -> None:
    released(mill)
    answered(mill, 1, "shadow")
    last = [answered(mill, 3, "champion") for _ in range(3)][-1]
    journal = mill.workspace.journal
    down = lineage(mill.books, identify(mill.books, "late/1"), "down", journal=journal, environment="test")
    assert "4 predictions in test  3 as champion, 1 as shadow" in [node.text for node in down.nodes.values()]
    named = identify(mill.books, last, journal, ["late"], "test")
    up = lineage(mill.books, named, journal=journal)
    assert [node.kind for node in up.nodes.values()][:3] == ["prediction", "release", "artifact"]


def test_what_has_no_such_id_is_told(mill: Mill) -> None:
    with pytest.raises(NotFound, match="looked for in test: --env"):
        asked(mill, "0" * 36)
