"""The running service: its address, changes of route under traffic, and an end that loses nothing."""

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

from tests.serving.kit import MODEL, ROW, Mill, package, running, until
from tidemill.clock import SystemClock
from tidemill.errors import InputError
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
    """Asks without pause over one connection, and keeps what it was told."""

    def __init__(self, address: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._host, self._stop_asked = urlsplit(address).netloc, stop
        self.told: list[dict[str, Any]] = []
        self.failed: list[str] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        body, headers = json.dumps({"rows": [ROW]}), {"Content-Type": "application/json"}
        while not self._stop_asked.is_set():
            try:
                connection.request("POST", f"/predict/{MODEL}", body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as wrong:
                self.failed.append(repr(wrong))
                return
            if response.status == 200:
                self.told.append(json.loads(content))
            else:
                self.failed.append(content.decode())


def test_a_port_in_use_is_named_with_another(mill: Mill) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 is in use") as refused:
            serve(mill.workspace, SystemClock(), port=port)
    assert f"--port {port + 1}" in refused.value.cure


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_only_loopback_is_served(mill: Mill, host: str) -> None:
    with pytest.raises(InputError, match=r"no tokens and no TLS"):
        HttpServer(mill.workspace, SystemClock(), host, 0)


def test_a_server_can_be_started_again_on_its_port(mill: Mill) -> None:
    mill.route(mill.arm(1, package()))
    first = HttpServer(mill.workspace, SystemClock(), port=0)
    first.start()
    first.stop()
    port = urlsplit(first.address).port
    assert port
    again = HttpServer(mill.workspace, SystemClock(), port=port)
    again.start()
    again.stop()


def test_no_request_fails_while_routes_change(mill: Mill) -> None:
    models = [package(seed) for seed in range(1, 4)]
    row = pl.DataFrame([ROW]).select("carrier", "distance", "delay")
    own = {f"flights/{number}": load(model).predict(row).probabilities for number, model in enumerate(models, 1)}
    mill.route(mill.arm(1, models[0]))
    stop = threading.Event()
    with running(mill) as (server, _):
        senders = [Sender(server.address, stop) for _ in range(3)]
        for sender in senders:
            sender.start()
        for turn in range(1, 13):
            number = turn % 3 + 1
            route = mill.route(mill.arm(number, models[number - 1]))
            until(lambda version=route.version: server.service.live[MODEL].route.version == version)  # type: ignore[misc]
            seen = len(senders[0].told)
            until(lambda enough=seen + 3: len(senders[0].told) > enough or senders[0].failed)  # type: ignore[misc]
        stop.set()
        for sender in senders:
            sender.join()
    assert [sender.failed for sender in senders] == [[], [], []]
    answers = [body for sender in senders for body in sender.told]
    assert {body["release"] for body in answers} == set(own)
    for body in answers:
        table = own[body["release"]]
        assert table is not None
        assert list(body["predictions"][0]["probabilities"].values()) == table[0].tolist()
    told = {(body["predictions"][0]["id"], body["release"]) for body in answers}
    assert told == set(mill.predictions().select("id", "release").rows())


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_every_answer_is_kept(mill: Mill, asked: signal.Signals) -> None:
    mill.route(mill.arm(1, package()))
    command = [sys.executable, "-c", _SERVE, str(mill.workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        stop = threading.Event()
        senders = [Sender(address, stop) for _ in range(2)]
        for sender in senders:
            sender.start()
        until(lambda: all(len(sender.told) > 5 for sender in senders))
        process.send_signal(asked)
        _, errors = process.communicate(timeout=30)
        stop.set()
    for sender in senders:
        sender.join()
    assert (process.returncode, errors) == (0, "")
    told = {body["predictions"][0]["id"] for sender in senders for body in sender.told}
    assert told <= set(mill.predictions()["id"])


def test_the_ledger_is_never_touched(mill: Mill, tmp_path: Path) -> None:
    mill.route(mill.arm(1, package()))
    with running(mill) as (_, client):
        assert client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 200
    assert not (mill.workspace.root / "ledger.db").exists()
