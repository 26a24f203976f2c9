"""Kills a service that predicts and accepts labels, and looks for everything that it had answered."""

import http.client
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.reliability.child import Child
from benchmarks.reliability.shop import Shop, Yard
from benchmarks.reliability.state import read_state
from benchmarks.reliability.tally import Tally

ROW = {"ordered": "2026-02-03T10:00:00Z", "distance_km": 300.5, "items": 2, "carrier": "swift"}
BOUNDS = {"batch": 1.0, "group": 0.0}
"""The seconds of answered predictions that a kill may lose, by `[journal] durability`."""
_LONGEST = 3.0
_PATIENCE = 180.0


class Service:
    """A running `serve` or `up`, with a client."""

    def __init__(self, shop: Shop, verb: str = "serve") -> None:
        self.child: Child = shop.start(verb, "--port", "0")
        self._headers = {"Authorization": f"Bearer {shop.token}"} if shop.token else {}
        self._connection: http.client.HTTPConnection | None = None
        self.address = self._wait_for_address()

    def _wait_for_address(self) -> tuple[str, int]:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.child.is_running():
            if found := re.search(r"serving at http://([\d.]+):(\d+)", self.child.err):
                return found[1], int(found[2])
            time.sleep(0.01)
        raise RuntimeError(f"the service did not start: {self.child.err[-1000:]}")

    def request(self, path: str, body: Any = None, timeout: float = 30) -> tuple[int, Any]:
        """Send a request and return the status and the reply; status 0 if there was no reply."""
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection(*self.address, timeout=timeout)
            text = None if body is None else json.dumps(body)
            self._connection.request("GET" if body is None else "POST", path, text, self._headers)
            reply = self._connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection = None
            return 0, {"error": repr(error)}
        try:
            return reply.status, json.loads(content)
        except ValueError:
            return reply.status, {"error": content.decode(errors="replace")[:500]}

    def predict(self, key: str) -> tuple[int, Any]:
        """Ask for a prediction of the usual row with a key."""
        return self.request("/predict/shop", {"rows": [ROW | {"order_id": key}]})

    def label(self, prediction: str) -> tuple[int, Any]:
        """Send the label of a prediction."""
        return self.request("/labels/shop", {"labels": [{"id": prediction, "value": "true"}]})

    def predict_and_label(self, answered: "Answered", key: str) -> str:
        """Request a prediction and send its label; return the problem, or an empty text."""
        status, reply = self.predict(key)
        if status != 200:
            return f"prediction {status}: {reply.get('error', reply)}"
        prediction = reply["predictions"][0]["id"]
        answered.predictions[prediction] = time.monotonic()
        status, reply = self.label(prediction)
        if status != 200:
            return f"label {status}: {reply.get('error', reply)}"
        answered.labels.append(prediction)
        return ""

    def stop(self) -> str:
        """Stop it with SIGTERM; return the problem, or an empty text."""
        ended = self.child.stop()
        return "" if ended.code == 0 else f"SIGTERM: {ended.summary}"


class Answered:
    """The ids that a service has answered: predictions with the time of their reply, and labels."""

    def __init__(self) -> None:
        self.predictions: dict[str, float] = {}
        self.labels: list[str] = []

    def find_lost(self, state: dict[str, Any], ended: float, bound: float) -> tuple[list[str], int]:
        """Return what must be there and is not, and the number of predictions that are missing within the bound."""
        stored = {kind: set(ids) for kind, ids in state["journal"].items()}
        missing = [key for key in self.predictions if key not in stored.get("predictions/shop", ())]
        late = [key for key in missing if self.predictions[key] < ended - bound]
        lost = [f"prediction {key}, {ended - self.predictions[key]:.2f} s before the kill" for key in late]
        lost += [f"label of {key}" for key in self.labels if key not in stored.get("labels/shop", ())]
        return lost, len(missing) - len(late)


def try_service_kills(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Kill services at random times while a client sends predictions and labels, with each durability in turn."""
    tallies = [Tally(f'kill -9 of a service, durability "{durability}"') for durability in BOUNDS]
    within = 0
    for number in range(tries):
        index = number % len(tallies)
        with yards[number // 2 % len(yards)].copy() as shop:
            within += _try_kill(shop, list(BOUNDS)[index], tallies[index], generator)
    tallies[0].note = f"{within} predictions of the last {BOUNDS['batch']:g} s missing, as stated"
    return tallies


def _try_kill(shop: Shop, durability: str, tally: Tally, generator: random.Random) -> int:
    answered = Answered()
    shop.append_policy(f'\n[journal]\ndurability = "{durability}"\n')
    service = Service(shop)
    killing = threading.Timer(generator.uniform(0.05, _LONGEST), os.kill, (service.child.process, signal.SIGKILL))
    killing.start()
    number = 0
    while service.child.is_running():
        service.predict_and_label(answered, f"k{number}")
        number += 1
    ended = time.monotonic()
    killing.join()
    broken = []
    try:
        service = Service(shop)
        broken += [text for text in (service.predict_and_label(answered, "again"), service.stop()) if text]
    except RuntimeError as error:
        broken.append(str(error))
    state = read_state(shop)
    lost, within = answered.find_lost(state, ended, BOUNDS[durability])
    count = len(answered.predictions) - within + len(answered.labels)
    tally.add(f"after {number} predictions", acknowledged=count, lost=lost, broken=[*broken, *state["problems"]])
    return within


def try_daemon_kills(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Kill daemons at random times while a job waits or runs; the next one must finish it, once."""
    tally = Tally("kill -9 of a daemon with a job")
    for number in range(tries):
        with yards[number % len(yards)].copy() as shop:
            _try_daemon(shop, tally, generator)
    return [tally]


def _try_daemon(shop: Shop, tally: Tally, generator: random.Random) -> None:
    shop.add_rows(7)
    shop.require("triggers", "fire", "ingestion")
    service = Service(shop, "up")
    seconds = generator.uniform(0.0, _LONGEST * 2)
    time.sleep(seconds)
    service.child.kill(group=generator.random() < 0.5)
    broken = []
    try:
        again = Service(shop, "up")
        if not _wait_for_job(shop):
            broken.append(f"the job was not done within {_PATIENCE:.0f} s")
        broken += [text for text in (again.stop(),) if text]
    except RuntimeError as error:
        broken.append(str(error))
    state = read_state(shop)
    done = sum(key.startswith("n7x") for key in state["keys"]) == 20
    lost = [] if done else ["the job that `triggers fire` acknowledged"]
    tally.add(f"after {seconds:.1f} s", acknowledged=1, lost=lost, broken=[*broken, *state["problems"]])


def _wait_for_job(shop: Shop) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if "n7x" in json.dumps(read_state(shop)["keys"]):
            return True
        time.sleep(1)
    return False
