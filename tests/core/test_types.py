"""Types of the domain: JSON round trips, ids, and properties."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tidemill.clock import VirtualClock, read_id_time, uuid7
from tidemill.core.check import Verdict
from tidemill.core.event import DaemonPayload, Event, list_conditions
from tidemill.core.feature import Aggregate, Entity, FeatureSet, FeatureView
from tidemill.core.model import Manifest, Signature, TrainedOn
from tidemill.core.route import Arm, Route
from tidemill.core.run import Cause, Run

NOW = datetime(2013, 3, 1, 12, tzinfo=UTC)
times = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1)).map(
    lambda t: t.replace(tzinfo=UTC)
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(moment=times, payload=st.dictionaries(st.text(), plain), text=st.text())
def test_event_json_round_trip(moment: datetime, payload: dict[str, object], text: str) -> None:
    event = Event(
        id=uuid7(moment, 1),
        kind="data",
        environment="test",
        subject=text,
        time=moment,
        known_at=moment,
        dedupe_key=text,
        payload=payload,
    )
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event


@given(moment=times, params=st.dictionaries(st.text(), plain))
def test_run_json_round_trip(moment: datetime, params: dict[str, object]) -> None:
    run = Run(id="r", pipeline="p", environment="e", state="done", started=moment, params=params)
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run


@given(moment=times, entropy=st.integers(0, 2**74 - 1))
def test_id_contains_its_creation_time(moment: datetime, entropy: int) -> None:
    identifier = uuid7(moment, entropy)
    assert abs((read_id_time(identifier) - moment).total_seconds()) <= 0.001
    assert identifier[14] == "7"


@given(first=times, second=times, first_entropy=st.integers(0, 2**74 - 1), second_entropy=st.integers(0, 2**74 - 1))
def test_later_ids_sort_later(first: datetime, second: datetime, first_entropy: int, second_entropy: int) -> None:
    early, late = sorted((first, second))
    if (late - early).total_seconds() > 0.001:
        assert uuid7(early, first_entropy) < uuid7(late, second_entropy)


def test_virtual_clocks_with_the_same_seed_create_the_same_ids() -> None:
    clocks = [VirtualClock(datetime(2013, 3, 1, tzinfo=UTC), seed=3) for _ in range(2)]
    assert [clocks[0].mint() for _ in range(3)] == [clocks[1].mint() for _ in range(3)]
    clocks[0].advance(datetime(2012, 1, 1, tzinfo=UTC))
    assert clocks[0].now() == datetime(2013, 3, 1, tzinfo=UTC)


def test_feature_names_of_a_view_and_of_a_feature_set() -> None:
    view = FeatureView(
        name="weather",
        entity=Entity("airport", ("origin",)),
        source="weather",
        columns=("wind",),
        aggregates=(Aggregate(name="wind_6h", column="wind", statistic="mean", window="6h"),),
    )
    assert view.features == ("weather_wind", "weather_wind_6h")
    assert FeatureSet(request=("hour",), views=(view,)).names == ("hour", "weather_wind", "weather_wind_6h")


def test_only_the_action_stop_stops_a_run() -> None:
    verdict = Verdict(check="gate", subject="late", outcome="fail", action="stop", reason="worse")
    assert verdict.stops
    assert not msgspec.structs.replace(verdict, action="retrain").stops


def test_route_returns_the_first_arm_with_a_role() -> None:
    arms = tuple(Arm(release=f"late/{v}", version=v, package="p", role="challenger", share=0.1) for v in (2, 3))
    route = Route(
        id="r",
        environment="e",
        model="late",
        version=1,
        arms=arms,
        since=datetime(2013, 3, 1, tzinfo=UTC),
        reason="canary",
    )
    assert route.arm("challenger") == arms[0]
    assert route.arm("champion") is None


def test_run_reads_its_cause_in_all_stored_forms() -> None:
    run = Run(id="r", pipeline="p", environment="test", state="done", started=NOW)
    assert replace(run, cause={"trigger": "new rows", "event": "e", "unknown": 3}).started_by == Cause(
        trigger="new rows", event="e"
    )
    resumed = replace(run, cause={"by": "hand", "step": "fit", "from": "q", "resumed": {"user": "zoë"}})
    assert (resumed.started_by.step, resumed.started_by.origin) == ("fit", "q")
    assert resumed.resumed_by == Cause(user="zoë")
    assert replace(run, cause={"resumed": "zoë"}).resumed_by == Cause(by="zoë"), "the form of an early version"
    assert run.resumed_by is None


def test_event_reads_its_payload_as_a_type() -> None:
    facts: dict[str, Any] = {"environment": "test", "subject": "s", "time": NOW, "known_at": NOW, "dedupe_key": "k"}
    beat = Event(id="e", kind="daemon", payload={"state": "watching", "looked": NOW.isoformat()}, **facts)
    assert beat.read(DaemonPayload).looked == NOW
    own = Event(id="e", kind="a kind of the project", payload={"model": 3, "rows": [1]}, **facts)
    assert (own.announcement.model, own.announcement.reason) == ("3", "")
    assert list_conditions("data") == ("subject", "batch", "path")
    assert list_conditions("a kind of the project") == ()


def test_manifest_reads_trained_on_from_its_data() -> None:
    signature = Signature(inputs=(), task="regression")
    data = {"table": "rows", "version": 7, "trained_until": "2013-03-01T12:00:00+00:00", "label": "late"}
    trained = Manifest(name="late", flavor="lightgbm", signature=signature, data=data).trained_on
    assert (trained.table, trained.version, trained.iterations) == ("rows", 7, None)
    assert trained.trained_until is not None
    assert trained.trained_until.isoformat() == data["trained_until"]
    adopted = Manifest(name="late", flavor="lightgbm", signature=signature, data={"adopted": {"path": "x"}})
    assert adopted.trained_on == TrainedOn()
