"""HTTP at its edges: other protocols, sizes, slow clients, too many connections, and the end of a service."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from tests.serving.kit import MODEL, ROW, ServingKit, package, running, until
from tidemill.clock import SystemClock
from tidemill.serving import connections, http, listener
from tidemill.serving.server import HttpServer

BODY = json.dumps({"rows": [ROW]}).encode()
PREDICT = b"POST /predict/%b HTTP/1.1\r\nHost: localhost\r\n" % MODEL.encode()
WITH_LENGTH = PREDICT + b"Content-Length: %d\r\n" % len(BODY)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    kit = ServingKit(tmp_path_factory.mktemp("connections"))
    kit.route(kit.arm(1, package()))
    with running(kit) as (server, _):
        yield _find_address(server)


def _find_address(server: HttpServer) -> tuple[str, int]:
    parts = urlsplit(server.address)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=60)


def read_reply(line: socket.socket) -> tuple[int, bytes, bytes]:
    """Return the status, the head and the body of one reply; the status is 0 if the connection was closed before."""
    content = b""
    while True:
        head, separator, body = content.partition(b"\r\n\r\n")
        if separator:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            if len(body) >= length:
                return int(head.split()[1]), head.lower(), body[:length]
        part = line.recv(65_536)
        if not part:
            return 0, b"", content
        content += part


def ask(address: tuple[str, int], *parts: bytes) -> tuple[int, bytes, bytes]:
    with closing(connect(address)) as line:
        for part in parts:
            line.sendall(part)
        return read_reply(line)


def is_closed(line: socket.socket) -> bool:
    with suppress(ConnectionResetError):
        return line.recv(1) == b""
    return False


@pytest.mark.parametrize("parts", [1, 2, 50])
def test_a_request_for_another_protocol_is_answered_as_http_1_1(address: tuple[str, int], parts: int) -> None:
    """Java's HttpClient asks for HTTP/2 in each first request, with the body."""
    request = WITH_LENGTH + H2C + b"\r\n" + BODY
    step = -(-len(request) // parts)
    with closing(connect(address)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(3):  # the connection stays
            for start in range(0, len(request), step):
                line.sendall(request[start : start + step])
            status, _, body = read_reply(line)
            assert status == 200
            assert len(json.loads(body)["predictions"]) == 1


def test_a_request_for_another_protocol_can_be_chunked_or_without_a_body(address: tuple[str, int]) -> None:
    chunked = PREDICT + H2C + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert ask(address, chunked)[0] == 200
    assert ask(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + H2C + b"\r\n")[0] == 200
    websocket = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
    assert ask(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + websocket)[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (WITH_LENGTH + b"".join(b"X-%d: 1\r\n" % number for number in range(200)) + b"\r\n" + BODY, 431),
        (WITH_LENGTH + b"X-Long: " + b"a" * 40_000 + b"\r\n\r\n" + BODY, 431),
        (b"GET /health HTTP/1.1\r\nX-Endless: " + b"a" * 100_000, 431),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /health HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: [::\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (PREDICT + b"Content-Length: -1\r\n\r\n", 400),
        (PREDICT + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (PREDICT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nHost: 10.1.2.3:80\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\r\nHost: tidemill\r\n\r\n", 200),
    ],
)
def test_each_request_has_a_defined_status(address: tuple[str, int], request_bytes: bytes, status: int) -> None:
    replied, head, body = ask(address, request_bytes)
    assert replied == status
    assert b"content-type: application/json" in head
    if status != 200:
        assert set(json.loads(body)) == {"error", "cure"}
        assert json.loads(body)["cure"]


def test_a_malformed_request_comes_after_the_reply_to_the_one_before(address: tuple[str, int]) -> None:
    with closing(connect(address)) as line:
        line.sendall(WITH_LENGTH + b"\r\n" + BODY + b"nonsense\r\n\r\n")
        assert read_reply(line)[0] == 200


def test_host_names_of_the_environment_are_accepted(kit: ServingKit) -> None:
    server = HttpServer(kit.workspace, SystemClock(), port=0, hosts=("Models.Example.ORG",))
    server.start()
    try:
        request = b"GET /health HTTP/1.1\r\nHost: %b\r\n\r\n"
        assert ask(_find_address(server), request % b"models.example.org:443")[0] == 200
        assert ask(_find_address(server), request % b"other.example.org")[0] == 400
    finally:
        server.stop()


@pytest.mark.parametrize("length", [True, False])
def test_413_arrives_without_a_reset(address: tuple[str, int], length: bool) -> None:
    size = 40_000_000
    with closing(connect(address)) as line:
        if length:
            line.sendall(PREDICT + b"Content-Length: %d\r\n\r\n" % size)
            for _ in range(size // 1_000_000):
                line.sendall(b" " * 1_000_000)
        else:
            line.sendall(PREDICT + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(size // 1_000_000):
                line.sendall(b"%x\r\n%b\r\n" % (1_000_000, b" " * 1_000_000))
            line.sendall(b"0\r\n\r\n")
        status, head, _ = read_reply(line)
        assert status == 413
        assert b"connection: close" in head
        assert is_closed(line)


def test_a_half_closed_connection_gets_its_reply(address: tuple[str, int]) -> None:
    with closing(connect(address)) as line:
        line.sendall(WITH_LENGTH + b"\r\n" + BODY)
        line.shutdown(socket.SHUT_WR)
        assert read_reply(line)[0] == 200
        assert is_closed(line)


def test_half_sent_requests_time_out(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(http, "_BODY_SECONDS", 0.5)
    with closing(connect(address)) as head, closing(connect(address)) as body, closing(connect(address)) as silent:
        head.sendall(b"POST /predict/x HTTP/1.1\r\nHost")
        body.sendall(WITH_LENGTH + b"\r\n{")
        for line in (head, body):
            status, _, content = read_reply(line)
            assert status == 408
            assert json.loads(content)["cure"] == "send it without a pause"
            assert is_closed(line)
        assert is_closed(silent)


@pytest.mark.parametrize("begin", [b"", b"POST /pre", WITH_LENGTH + b"\r\n{"])
def test_slow_clients_make_room_for_others(kit: ServingKit, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    monkeypatch.setattr(listener, "find_most_connections", lambda: 30)
    kit.route(kit.arm(1, package()))
    with running(kit) as (server, client):
        assert client.post(f"/predict/{MODEL}", content=BODY).status_code == 200  # this client keeps its connection
        slow = [connect(_find_address(server)) for _ in range(100)]
        try:
            for line in slow:
                with suppress(OSError):
                    line.sendall(begin)
            for _ in range(5):
                assert client.post(f"/predict/{MODEL}", content=BODY).status_code == 200
                assert ask(_find_address(server), WITH_LENGTH + b"\r\n" + BODY)[0] == 200
        finally:
            for line in slow:
                line.close()


def test_a_client_that_does_not_read_is_closed(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_STALLED_SECONDS", 0.5)
    rows = json.dumps({"rows": [ROW] * 9000}).encode()
    with closing(socket.socket()) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.settimeout(60)
        line.connect(address)
        line.setblocking(False)
        content = (PREDICT + b"Content-Length: %d\r\n\r\n" % len(rows) + rows) * 8

        def send_more() -> bool:
            nonlocal content
            with suppress(BlockingIOError):
                content = content[line.send(content) :]
            return False

        until(lambda: _is_reset(line) or send_more())


def _is_reset(line: socket.socket) -> bool:
    return line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


def test_requests_that_arrived_before_the_stop_are_answered(kit: ServingKit) -> None:
    kit.route(kit.arm(1, package()))
    server = HttpServer(kit.workspace, SystemClock(), port=0)
    server.start()
    address = _find_address(server)
    request = WITH_LENGTH + b"\r\n" + BODY
    kept = [connect(address) for _ in range(20)]
    for line in kept:  # connections that were used before
        line.sendall(request)
        assert read_reply(line)[0] == 200
    new = [connect(address) for _ in range(100)]
    for line in (*kept, *new):
        line.sendall(request)
    idle = connect(address)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    for line in (*kept, *new):
        assert read_reply(line)[0] == 200
        assert is_closed(line)
    assert is_closed(idle)
    stopping.join()
    assert kit.predictions().height == 140


def test_the_openapi_document_has_every_status(address: tuple[str, int]) -> None:
    status, _, body = ask(address, b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    document = json.loads(body)
    assert (status, document["openapi"]) == (200, "3.1.0")
    assert set(document["paths"]["/predict/{model}"]["post"]["responses"]) >= {"200", "422", "503", "504", "507"}


def test_ready_and_health_need_no_lane(address: tuple[str, int]) -> None:
    with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=60) as client:
        assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_a_full_disk_is_507(kit: ServingKit) -> None:
    """The journal's folder is on a disk of its own, which is full."""
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        disk = kit.workspace.state_folder / "journal"
        disk.mkdir(parents=True, exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "none", disk], check=False).returncode:
            pytest.skip("only root can mount a disk")
        try:
            labels = [{"id": str(UUID(int=number)), "value": True} for number in range(2000)]
            response = client.post(f"/labels/{MODEL}", json={"labels": labels})
            assert (response.status_code, response.json()["cure"]) == (507, "free some space")
            assert client.post(f"/predict/{MODEL}", content=BODY).status_code == 200
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
