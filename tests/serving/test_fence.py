"""Models that hang, leak, crash, leave the process or print, over real HTTP and in real processes."""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks._hostile_models import make_harmful_row, make_hostile_package
from benchmarks._served_models import make_package, make_rows, publish
from tests.serving.kit import until
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.core.serving import Serving
from tidemill.serving.fenced import Incident
from tidemill.serving.server import HttpServer
from tidemill.workspace.workspace import Workspace

HARMFUL = make_harmful_row()
HARMLESS = make_rows(1, 3).to_dicts()[0]
ENDINGS = {
    "sleep": (504, "timeout", "did not answer within 2 s"),
    "loop": (504, "timeout", "did not answer within 2 s"),
    "fork": (504, "timeout", "did not answer within 2 s"),
    "leak": (503, "memory", "used more memory than its limit"),
    "exit": (503, "exit", "ended itself with the exit status 1"),
    "leave": (503, "exit", "ended itself with the exit status 7"),
    "crash": (503, "signal", "SIGSEGV"),
}
SETTINGS = {
    kind: Serving(timeout="2s" if status == 504 else "60s", memory_mb=512) for kind, (status, _, _) in ENDINGS.items()
}
ROLES = ("champion", "challenger", "shadow")


class Service:
    """A running service with models that do harm, and two that do not."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.incidents: list[Incident] = []
        settings = SETTINGS | {f"{kind}-{role}": SETTINGS[kind] for kind in SETTINGS for role in ROLES}
        self.server = HttpServer(workspace, SystemClock(), port=0, settings=settings, report=self.incidents.append)
        self.server.start()
        self.host = urlsplit(self.server.address).netloc

    def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection(self.host, timeout=120)
        connection.request(method, path, body)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content)

    def predict(self, model: str, *rows: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self.send("POST", f"/predict/{model}", json.dumps({"rows": rows}).encode())

    def list_workers(self) -> list[int]:
        host = self.server._fence._process
        assert host is not None
        children = [file.read_text().split() for file in Path(f"/proc/{host.pid}/task").glob("*/children")]
        return [int(child) for some in children for child in some]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fence")
    publish(folder, "light", (make_package("lightgbm"), "champion"))
    publish(folder, "fine", (make_package("sklearn"), "champion"))
    for kind in (*ENDINGS, "print", "raise", "improbable"):
        publish(folder, kind, (make_hostile_package(kind), "champion"))
    for kind in ("sleep", "leave"):
        good, bad = make_package("lightgbm"), make_hostile_package(kind)
        publish(folder, f"{kind}-challenger", (good, "champion"), (bad, "challenger"))
        publish(folder, f"{kind}-shadow", (good, "champion"), (bad, "shadow"))
    running = Service(open_workspace(folder))
    until(lambda: running.send("GET", "/ready")[1]["ready"] and len(running.server.service.routes) == 16, 300)
    yield running
    running.server.stop()


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_model_that_does_harm_is_ended_and_goes_on_in_a_new_process(service: Service, kind: str) -> None:
    status, ending, words = ENDINGS[kind]
    before = len(service.incidents)
    replied, body = service.predict(kind, HARMFUL)
    assert (replied, set(body)) == (status, {"error", "cure"})
    assert words in body["error"]
    assert f"release {kind}/1 was ended" in body["error"]
    assert [(one.release, one.kind) for one in service.incidents[before:]] == [(f"{kind}/1", ending)]
    assert service.predict(kind, HARMLESS)[0] == 200
    metrics = service.server.service.metrics
    assert metrics.value("tidemill_models_ended_total", release=f"{kind}/1", reason=ending) == 1
    assert metrics.value("tidemill_failures_total", release=f"{kind}/1", role="champion") == 1


def test_others_answer_while_a_model_hangs(service: Service) -> None:
    hanging = threading.Thread(target=service.predict, args=("sleep", HARMFUL))
    before = len(service.incidents)
    hanging.start()
    answered = 0
    while hanging.is_alive():
        assert service.send("GET", "/health")[0] == service.send("GET", "/ready")[0] == 200
        for model in ("light", "fine", "sleep"):
            assert service.predict(model, HARMLESS)[0] == 200
        answered += 1
    assert answered
    assert len(service.incidents) == before + 1


def test_what_a_model_starts_ends_with_it(service: Service) -> None:
    assert service.predict("fork", HARMFUL)[0] == 504
    until(lambda: service.predict("fork", HARMLESS)[0] == 200)
    # Its child left the session of the worker, so that it is an orphan of the process that starts the workers.
    until(lambda: set(service.list_workers()) <= _list_busy(service))


def _list_busy(service: Service) -> set[int]:
    return {worker.process for predictor in service.server._fence._predictors for worker in predictor._all}


def _find_state(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_what_a_model_prints_does_not_fill_the_log(service: Service) -> None:
    assert service.predict("print", HARMFUL)[0] == 200


def test_an_error_of_a_model_names_its_kind_only(service: Service) -> None:
    status, body = service.predict("raise", HARMFUL)
    assert (status, body["error"]) == (500, "release raise/1 failed: ZeroDivisionError")
    assert service.predict("raise", HARMLESS)[0] == 200


def test_probabilities_outside_0_and_1_are_refused(service: Service) -> None:
    status, body = service.predict("improbable", HARMFUL)
    assert status == 500
    assert "probabilities outside 0 … 1 or with a sum other than 1 for 1 of 1 rows" in body["error"]


@pytest.mark.parametrize("kind", ["sleep", "leave"])
def test_the_champion_predicts_for_a_challenger_that_was_ended(service: Service, kind: str) -> None:
    rows = [HARMFUL | {"n1": float(number)} for number in range(20)]
    status, body = service.predict(f"{kind}-challenger", *rows)
    assert (status, len(body["predictions"])) == (200, 20)
    assert body["release"] == f"{kind}-challenger/1"
    assert all("release" not in prediction for prediction in body["predictions"])
    metrics = service.server.service.metrics
    assert metrics.value("tidemill_failures_total", release=f"{kind}-challenger/2", role="challenger") > 0


@pytest.mark.parametrize("kind", ["sleep", "leave"])
def test_a_shadow_is_asked_after_the_reply(service: Service, kind: str) -> None:
    model, metrics = f"{kind}-shadow", service.server.service.metrics
    before = len(service.incidents)
    assert service.predict(model, HARMFUL)[0] == 200
    if kind == "sleep":
        assert len(service.incidents) == before  # it still sleeps: the reply did not wait for it
    until(lambda: metrics.value("tidemill_failures_total", release=f"{model}/2", role="shadow") == 1)
    assert service.predict(model, HARMLESS)[0] == 200
    until(lambda: metrics.value("tidemill_predictions_total", release=f"{model}/2", role="shadow") == 1)


def test_a_model_that_always_hangs_is_not_asked_for_a_while(service: Service) -> None:
    statuses = [service.predict("loop", HARMFUL) for _ in range(4)]
    assert {status for status, _ in statuses} <= {503, 504}
    status, body = statuses[-1]
    assert status == 503
    assert "gets no requests for" in body["error"]
    until(lambda: service.predict("loop", HARMLESS)[0] == 200)


def test_a_model_that_cannot_be_loaded_delays_no_other_one(service: Service) -> None:
    package = make_hostile_package("sleep")
    code = "import time\ntime.sleep(1e6)\n"
    files = package.files | {"code/hostile_estimator.py": code.encode()}
    publish(service.workspace.root, "stuck", (type(package)(manifest=package.manifest, files=files), "champion"))
    until(lambda: "are being loaded" in str(service.predict("stuck", HARMLESS)[1]))
    publish(service.workspace.root, "later", (make_package("lightgbm"), "champion"))
    until(lambda: service.predict("later", HARMLESS)[0] == 200)
    assert service.predict("stuck", HARMLESS)[0] == 503


def test_models_see_no_secrets_of_the_service(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "a secret")
    from tidemill.serving.fence import _select_environment

    assert "DATABASE_PASSWORD" not in _select_environment()


_SERVE = """
import sys
from pathlib import Path
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.serving.server import serve
serve(open_workspace(Path(sys.argv[1])), SystemClock(), port=0, ready=lambda address: print(address, flush=True))
"""


def test_sigterm_ends_a_service_with_a_model_that_hangs(tmp_path: Path) -> None:
    publish(tmp_path, "sleep", (make_hostile_package("sleep"), "champion"))
    publish(tmp_path, "light", (make_package("lightgbm"), "champion"), (make_hostile_package("loop"), "shadow"))
    command = [sys.executable, "-c", _SERVE, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        host = urlsplit(process.stdout.readline().strip()).netloc
        replies: list[int] = []

        def ask(model: str) -> None:
            connection = http.client.HTTPConnection(host, timeout=120)
            connection.request("POST", f"/predict/{model}", json.dumps({"rows": [HARMFUL]}).encode())
            replies.append(connection.getresponse().status)

        def is_ready() -> bool:
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200

        until(is_ready)
        threads = [threading.Thread(target=ask, args=(model,)) for model in ("sleep", "sleep", "sleep", "light")]
        for thread in threads:
            thread.start()
        until(lambda: 200 in replies)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        began = time.monotonic()
        process.terminate()
        assert process.wait(300) == 0
        assert time.monotonic() - began < 30
    for thread in threads:
        thread.join()
    assert len(replies) == 4
    assert {200, 504} <= set(replies) <= {200, 503, 504}  # 503: no process was free before the end
    until(lambda: all(_find_state(int(child)) == "Z" for child in children))
