"""Alerts: one message for a turn, the same not again, all well once; what fails keeps nobody else from being told."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from tidemill.clock import VirtualClock
from tidemill.core.check import Verdict
from tidemill.core.policy import ModelPolicy, Policy, Problem, Watch, WatchValue
from tidemill.ledger.ledger import Ledger
from tidemill.monitoring.alerts import alert, alert_all, unheard

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Receiver:
    """A web hook that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Desk:
    """A policy, a ledger and a clock; `tell` is one turn of the watch."""

    def __init__(self, *addresses: str) -> None:
        values = tuple(WatchValue(value=name, limit=0.1, action="retrain") for name in ("drift", "log_loss"))
        watch = Watch(values=values, notify=addresses)
        self.policy = ModelPolicy(name="späte", problem=Problem(decision="d", source="s", label="l"), watch=watch)
        self.books, self.clock = Ledger("sqlite://"), VirtualClock(NOON)

    def tell(self, *verdicts: Verdict) -> list[str]:
        self.clock.sleep(3600)
        for one in verdicts:
            facts = {"id": self.clock.mint(), "time": self.clock.now(), "model": "späte"}
            self.books.verdicts.add(replace(one, **facts))
        return alert(self.policy, list(verdicts), self.books, self.clock, "production", "run-1")


def drift(share: float) -> Verdict:
    bad = share > 0.1
    return Verdict(
        check="drift",
        subject="späte/1",
        outcome="fail" if bad else "pass",
        action="retrain" if bad else "proceed",
        reason=f"{share} of the columns moved",
        evidence={"share": share, "limit": 0.1},
    )


def loss(value: float) -> Verdict:
    evidence = {"metric": "log_loss", "value": value, "reference": 0.4, "limit": 0.1}
    return replace(drift(value - 0.4), check="performance", reason=f"log_loss {value}", evidence=evidence)


def test_several_verdicts_are_one_message_with_a_link_and_a_picture(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_PAGES", "http://127.0.0.1:8001/")
    desk = Desk(receiver.address)
    assert desk.tell(drift(0.05), loss(0.45)) == []
    assert len(desk.tell(drift(0.5), loss(0.7))) == 1
    (message,) = receiver.received
    assert message["title"] == "späte (production): needs a look"
    assert message["message"].splitlines() == [
        "drift → retrain: 0.5 of the columns moved (späte/1)",
        "log_loss → retrain: log_loss 0.7 (späte/1)",
        "http://127.0.0.1:8001/runs/run-1",
    ]
    pictures = [ElementTree.fromstring(base64.b64decode(one["base64"])) for one in message["attachments"]]
    assert [len(one.findall(".//{http://www.w3.org/2000/svg}circle")) for one in pictures] == [2, 2]
    assert "limit 0.5" in ElementTree.tostring(pictures[1], "unicode")


def test_the_same_is_told_again_only_after_a_while_and_that_all_is_well_once(receiver: Receiver) -> None:
    desk = Desk(receiver.address)
    for share in [0.5] * 30 + [0.05] * 3 + [0.6]:
        desk.tell(drift(share))
    titles = [one["title"].rpartition(": ")[2] for one in receiver.received]
    assert titles == ["needs a look", "needs a look", "all well again", "needs a look"]
    assert receiver.received[2]["message"] == "drift is well again: 0.05 of the columns moved"


def test_an_address_that_fails_keeps_nobody_from_being_told_and_is_tried_again(receiver: Receiver) -> None:
    gone = Receiver()
    gone.server.server_close()
    gone.server.shutdown()
    desk = Desk(gone.address, "no-such-service://", receiver.address, "log")
    assert len(desk.tell(drift(0.5))) == 2
    assert desk.tell(drift(0.5)) == []
    assert len(receiver.received) == 1
    (event,) = desk.books.events.find(kind="alert")
    assert "127.0.0.1" not in json.dumps(event.payload), "an address may hold a password"


def test_without_apprise_the_turn_goes_on_and_the_cure_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    desk = Desk("json://127.0.0.1:9", "log")
    assert len(desk.tell(drift(0.5))) == 1
    assert "pip install 'tidemill[alerts]'" in caplog.text


def test_an_address_that_nobody_has_is_found_before_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*addresses: str) -> list[str]:
        return unheard(Policy(name="p", sources={}, models={"späte": Desk(*addresses).policy}))

    assert said() == said("log", "json://127.0.0.1:9") == []
    (line,) = said("log", "mailt://ada:secret@example.org")
    assert line.startswith("Apprise knows no mailt://…")
    assert "secret" not in line
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "pip install 'tidemill[alerts]'" in said("json://127.0.0.1:9")[0]
    assert said("log") == []


def test_an_address_may_be_kept_out_of_the_policy(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk("${WHOM}")
    assert len(desk.tell(drift(0.5))) == 0, "nobody says who that is"
    monkeypatch.setenv("WHOM", receiver.address)
    assert len(desk.tell(drift(0.5))) == 1
    assert len(receiver.received) == 1


def test_a_value_may_name_its_own_addresses(receiver: Receiver) -> None:
    desk = Desk("log")
    values = tuple(
        replace(one, notify=(receiver.address,) if one.value == "log_loss" else ()) for one in desk.policy.watch.values
    )
    desk.policy = replace(desk.policy, watch=replace(desk.policy.watch, values=values))
    assert len(desk.tell(drift(0.5), loss(0.7))) == 2
    assert [one["message"] for one in receiver.received] == ["log_loss → retrain: log_loss 0.7 (späte/1)"]


def test_what_is_only_noted_is_told_to_nobody(receiver: Receiver) -> None:
    desk = Desk(receiver.address)
    assert (
        desk.tell(replace(drift(0.5), action="ignore"), replace(drift(0.5), outcome="undecided", action="hold")) == []
    )
    assert receiver.received == []


def test_what_no_verdict_says_goes_to_all_who_watch(receiver: Receiver) -> None:
    desk = Desk(receiver.address)
    policy = Policy(name="p", sources={}, models={"späte": desk.policy})
    for state in ("well", "bad", "bad", "well", "well"):
        alert_all(policy, desk.books, desk.clock, "production", "", "daemon", state, state)
    assert [one["message"] for one in receiver.received] == ["daemon: bad", "daemon: well"]
