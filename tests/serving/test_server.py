"""The running service: its address, changes of route under traffic, and a stop that loses no prediction."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest

from tests.serving.kit import MODEL, ROW, ServingKit, package, running, until
from tidemill.access.exposure import Exposure
from tidemill.clock import SystemClock
from tidemill.delivery.http_client import predict
from tidemill.errors import InputError, TidemillError
from tidemill.models.load import load
from tidemill.serving.server import HttpServer, serve

_SERVE = """
import sys
from pathlib import Path
from tidemill.clock import SystemClock
from tidemill.serving.server import serve
from tidemill.compose.backends import open_workspace
serve(open_workspace(Path(sys.argv[1])), SystemClock(), port=0, ready=lambda address: print(address, flush=True))
"""


class Sender(threading.Thread):
    """Sends requests without pause over one connection, and keeps the replies."""

    def __init__(self, address: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._host, self._stop_event = urlsplit(address).netloc, stop
        self.replies: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        body, headers = json.dumps({"rows": [ROW]}), {"Content-Type": "application/json"}
        while not self._stop_event.is_set():
            try:
                connection.request("POST", f"/predict/{MODEL}", body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                return
            if response.status == 200:
                self.replies.append(json.loads(content))
            else:
                self.failed.append(content.decode())


def test_the_error_names_a_port_in_use_and_another_port(kit: ServingKit) -> None:
    with socket.socket() as other_socket:
        other_socket.bind(("127.0.0.1", 0))
        other_socket.listen()
        port = other_socket.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is in use") as refused:
            serve(kit.workspace, SystemClock(), port=port)
    assert f"--port {port + 1}" in refused.value.cure


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_addresses_than_loopback_need_protection(kit: ServingKit, host: str) -> None:
    with pytest.raises(InputError, match=r"without TLS|is not an IP address"):
        HttpServer(kit.workspace, SystemClock(), Exposure(host=host), 0)


def test_a_deployment_learns_which_release_its_service_cannot_load(kit: ServingKit) -> None:
    """The champion is intact, and its challenger is not; without an earlier route, the service has none."""
    kit.route(kit.arm(1, package()), kit.arm(2, package(2, samples=[{"distance": "far"}]), "challenger", 0.5))
    server = HttpServer(kit.workspace, SystemClock(), port=0)
    server.start()
    try:
        with pytest.raises(TidemillError) as refused:
            predict(server.address, MODEL, [ROW])
    finally:
        server.stop()
    assert "the service answers 503" in refused.value.problem
    assert "release flights/2 cannot be loaded: " in refused.value.problem
    assert "distance" in refused.value.problem, "and why"


def test_a_server_can_be_restarted_on_its_port(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    first = HttpServer(kit.workspace, SystemClock(), port=0)
    first.start()
    first.stop()
    port = urlsplit(first.address).port
    assert port
    again = HttpServer(kit.workspace, SystemClock(), port=port)
    again.start()
    again.stop()


def test_no_request_fails_while_routes_change(kit: ServingKit) -> None:
    models = [package(seed) for seed in range(1, 4)]
    row = pl.DataFrame([ROW]).select("carrier", "distance", "delay")
    expected = {f"flights/{number}": load(model).predict(row).probabilities for number, model in enumerate(models, 1)}
    kit.route(kit.arm(1, models[0]))
    stop = threading.Event()
    with running(kit) as (server, _):
        senders = [Sender(server.address, stop) for _ in range(3)]
        for sender in senders:
            sender.start()
        for turn in range(1, 13):
            number = turn % 3 + 1
            route = kit.route(kit.arm(number, models[number - 1]))
            until(lambda version=route.version: server.service.routes[MODEL].route.version == version)  # type: ignore[misc]
            seen = len(senders[0].replies)
            until(lambda enough=seen + 3: len(senders[0].replies) > enough or senders[0].failed)  # type: ignore[misc]
        stop.set()
        for sender in senders:
            sender.join()
    assert [sender.failed for sender in senders] == [[], [], []]
    all_replies = [body for sender in senders for body in sender.replies]
    assert {body["release"] for body in all_replies} == set(expected)
    for body in all_replies:
        table = expected[body["release"]]
        assert table is not None
        assert list(body["predictions"][0]["probabilities"].values()) == table[0].tolist()
    pairs = {(body["predictions"][0]["id"], body["release"]) for body in all_replies}
    assert pairs == set(kit.predictions().select("id", "release").rows())


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_every_prediction_is_in_the_journal(
    kit: ServingKit, signal_number: signal.Signals
) -> None:
    kit.route(kit.arm(1, package()))
    command = [sys.executable, "-c", _SERVE, str(kit.workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        stop = threading.Event()
        senders = [Sender(address, stop) for _ in range(2)]
        for sender in senders:
            sender.start()
        until(lambda: all(len(sender.replies) > 5 for sender in senders))
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=300)
        stop.set()
    for sender in senders:
        sender.join()
    assert (process.returncode, errors) == (0, "")
    replied = {body["predictions"][0]["id"] for sender in senders for body in sender.replies}
    assert replied <= set(kit.predictions()["id"])


def test_the_service_creates_no_ledger(kit: ServingKit, tmp_path: Path) -> None:
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        assert client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 200
    assert not (kit.workspace.root / "ledger.db").exists()
