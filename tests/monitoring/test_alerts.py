"""Alerts: one message per evaluation, no repetition, one message per recovery; a failing address affects no other."""

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
from tidemill.monitoring.alerts import alert, alert_all, check_addresses

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Receiver:
    """A web hook that stores the messages it receives."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"json://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


class Desk:
    """A policy, a ledger and a clock; `send` is one evaluation of the watch."""

    def __init__(self, *addresses: str) -> None:
        values = tuple(WatchValue(value=name, limit=0.1, action="retrain") for name in ("drift", "log_loss"))
        watch = Watch(values=values, notify=addresses)
        self.policy = ModelPolicy(name="späte", problem=Problem(decision="d", source="s", label="l"), watch=watch)
        self.books, self.clock = Ledger("sqlite://"), VirtualClock(NOON)

    def send(self, *verdicts: Verdict) -> list[str]:
        self.clock.sleep(3600)
        for verdict in verdicts:
            facts = {"id": self.clock.mint(), "time": self.clock.now(), "model": "späte"}
            self.books.verdicts.add(replace(verdict, **facts))
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
    assert desk.send(drift(0.05), loss(0.45)) == []
    assert len(desk.send(drift(0.5), loss(0.7))) == 1
    (message,) = receiver.received
    assert message["title"] == "späte (production): needs attention"
    assert message["message"].splitlines() == [
        "drift → retrain: 0.5 of the columns moved (späte/1)",
        "log_loss → retrain: log_loss 0.7 (späte/1)",
        "http://127.0.0.1:8001/runs/run-1",
    ]
    pictures = [ElementTree.fromstring(base64.b64decode(attachment["base64"])) for attachment in message["attachments"]]
    assert [len(picture.findall(".//{http://www.w3.org/2000/svg}circle")) for picture in pictures] == [2, 2]
    assert "limit 0.5" in ElementTree.tostring(pictures[1], "unicode")


def test_a_message_is_repeated_after_quiet_and_a_recovery_is_reported_once(receiver: Receiver) -> None:
    desk = Desk(receiver.address)
    for share in [0.5] * 30 + [0.05] * 3 + [0.6]:
        desk.send(drift(share))
    titles = [message["title"].rpartition(": ")[2] for message in receiver.received]
    assert titles == ["needs attention", "needs attention", "recovered", "needs attention"]
    assert receiver.received[2]["message"] == "drift recovered: 0.05 of the columns moved"


def test_a_failing_address_affects_no_other_and_is_tried_again(receiver: Receiver) -> None:
    stopped = Receiver()
    stopped.server.server_close()
    stopped.server.shutdown()
    desk = Desk(stopped.address, "no-such-service://", receiver.address, "log")
    assert len(desk.send(drift(0.5))) == 2
    assert desk.send(drift(0.5)) == []
    assert len(receiver.received) == 1
    (event,) = desk.books.events.find(kind="alert")
    assert "127.0.0.1" not in json.dumps(event.payload), "an address may contain a password"


def test_without_apprise_log_alerts_are_sent_and_the_cure_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    desk = Desk("json://127.0.0.1:9", "log")
    assert len(desk.send(drift(0.5))) == 1
    assert "pip install 'tidemill[alerts]'" in caplog.text


def test_an_unsupported_address_is_reported_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*addresses: str) -> list[str]:
        return check_addresses(Policy(name="p", sources={}, models={"späte": Desk(*addresses).policy}))

    assert check() == check("log", "json://127.0.0.1:9") == []
    (line,) = check("log", "mailt://ada:secret@example.org")
    assert line.startswith("Apprise does not support mailt://…")
    assert "secret" not in line
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert "pip install 'tidemill[alerts]'" in check("json://127.0.0.1:9")[0]
    assert check("log") == []


def test_an_address_may_be_an_environment_variable(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk("${RECEIVER}")
    assert len(desk.send(drift(0.5))) == 0, "the variable is not set"
    monkeypatch.setenv("RECEIVER", receiver.address)
    assert len(desk.send(drift(0.5))) == 1
    assert len(receiver.received) == 1


def test_a_value_may_have_its_own_addresses(receiver: Receiver) -> None:
    desk = Desk("log")
    values = tuple(
        replace(value, notify=(receiver.address,) if value.value == "log_loss" else ())
        for value in desk.policy.watch.values
    )
    desk.policy = replace(desk.policy, watch=replace(desk.policy.watch, values=values))
    assert len(desk.send(drift(0.5), loss(0.7))) == 2
    assert [message["message"] for message in receiver.received] == ["log_loss → retrain: log_loss 0.7 (späte/1)"]


def test_a_verdict_without_an_action_is_not_sent(receiver: Receiver) -> None:
    desk = Desk(receiver.address)
    assert (
        desk.send(replace(drift(0.5), action="ignore"), replace(drift(0.5), outcome="undecided", action="hold")) == []
    )
    assert receiver.received == []


def test_a_message_without_a_verdict_goes_to_all_addresses(receiver: Receiver) -> None:
    desk = Desk(receiver.address)
    policy = Policy(name="p", sources={}, models={"späte": desk.policy})
    for state in ("well", "bad", "bad", "well", "well"):
        alert_all(policy, desk.books, desk.clock, "production", "", "daemon", state, state)
    assert [message["message"] for message in receiver.received] == ["daemon: bad", "daemon: well"]
