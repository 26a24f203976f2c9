"""What CI writes elsewhere: the note and the state of a commit, and the files for hosted CI; and its locks."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.repositories import Repository
from tests.projects import make_project, tidemill
from tidemill.delivery.changes import list_changes
from tidemill.delivery.locking import lock_project
from tidemill.errors import InputError
from tidemill.host.git_remote import read_note


class StatusServer(ThreadingHTTPServer):
    """A server that keeps the requests that it gets, and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 201

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: StatusServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.send_response(self.server.status)
        if self.server.status == 302:
            self.send_header("location", f"{self.server.address}/stolen")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def set_ci(repository: Repository, lines: str) -> None:
    policy = repository.host / "tidemill.toml"
    policy.write_text(policy.read_text().replace("notes = false\n", lines))


@pytest.mark.parametrize(
    ("kind", "header", "state"),
    [("github", "authorization", "error"), ("gitea", "authorization", "error"), ("gitlab", "private-token", "failed")],
)
def test_the_result_is_on_the_commit(
    repository: Repository, server: StatusServer, kind: str, header: str, state: str
) -> None:
    settings = f'status = "{kind}"\nstatus_url = "{server.address}/repos/team/kit"\nstatus_token = "PLANTED"\n'
    set_ci(repository, settings)
    commit = repository.push({"requirements.lock": None})
    printed = repository.run(code=3, PLANTED="planted-7")
    ((path, headers, body),) = server.requests
    assert path == f"/repos/team/kit/statuses/{commit}"
    assert headers[header].endswith("planted-7")
    assert body["state"] == state
    assert "requirements.lock" in body["description"]
    note = read_note(repository.bare, commit)
    assert "state: error" in note
    assert "tidemill: kit@1" in note
    ledger = repository.session.workspace.ledger
    stored = repr([ledger.verdicts.find(), ledger.steps.find(), ledger.builds.find(), ledger.events.find()])
    assert "planted-7" not in stored + printed.stdout + printed.stderr + note


def test_a_state_that_cannot_be_sent_changes_no_result(repository: Repository, server: StatusServer) -> None:
    settings = f'notes = false\nstatus = "github"\nstatus_url = "{server.address}/x"\nstatus_token = "PLANTED"\n'
    set_ci(repository, settings)
    repository.push({"requirements.lock": None})
    repository.run(code=3)
    assert server.requests == []
    server.status = 302  # a redirect would send the token to another address
    repository.run(code=3, PLANTED="planted-7")
    assert len(server.requests) == 1
    first, second = repository.builds
    problems = [repository.verdicts(build)["ci"].evidence["unpublished"] for build in (first, second)]
    assert "the environment variable 'PLANTED' is not set" in problems[0][0]
    assert "302" in problems[1][0]
    assert first.reason == second.reason


@pytest.mark.parametrize(
    ("service", "path", "schema"),
    [
        ("github", ".github/workflows/tidemill.yml", ["vendor.github-workflows"]),
        ("gitlab", ".gitlab-ci.yml", ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
)
def test_the_files_of_hosted_ci_are_valid(tmp_path: Path, service: str, path: str, schema: list[str]) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    folder = tmp_path / "pipelines" / "shop"
    folder.mkdir(parents=True)
    make_project(folder)
    tidemill(folder, "ci", "generate", service)
    checking = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", *schema, str(tmp_path / path))
    checked = subprocess.run(checking, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    text = (tmp_path / path).read_text()
    assert "pipelines/shop" in text
    assert "tidemill ci run" in text
    assert not [line for line in text.splitlines() if "tidemill ci run" in line and "${{" in line]
    refused = tidemill(folder, "ci", "generate", service, code=2)
    assert "exists" in refused.stderr
    assert "use github or gitlab" in tidemill(folder, "ci", "generate", "jenkins", code=2).stderr


def test_the_lock_has_what_the_code_and_tidemill_need() -> None:
    sources = {
        "pipeline.py": "import polars\nfrom features import x\nimport json\n",
        "features.py": "import joblib\n",
        "tests/test_x.py": "import hypothesis\nimport pipeline\n",
    }
    lock = lock_project(sources)
    names = {line.partition("==")[0] for line in lock.runtime}
    assert {"polars", "joblib", "scikit-learn", "msgspec"} <= names
    assert "tidemill" not in names
    tests = {line.partition("==")[0] for line in lock.tests}
    assert {"pytest", "hypothesis"} <= tests
    assert not names & tests
    assert f"polars=={version('polars')}" in lock.runtime
    with pytest.raises(InputError, match="imports 'nothing_like_this'"):
        lock_project({"pipeline.py": "import nothing_like_this"})


def test_why_names_libraries_and_python(repository: Repository) -> None:
    from msgspec.structs import replace

    from tidemill.core.build import Build
    from tidemill.core.ci import BuildHost, Ci
    from tidemill.core.event import PushPayload
    from tidemill.delivery.checkout import fetch_source
    from tidemill.host.libraries import list_system_libraries

    session = repository.session
    books, host = session.workspace.ledger, session.resource(BuildHost)
    request = PushPayload(commit="", branch="main", remote=str(repository.bare))
    source = fetch_source(Ci(), host, books.builds, request)
    checkout = source.checkout
    system = list_system_libraries()
    last = Build(
        id="b",
        project="kit",
        number=1,
        commit=checkout.commit,
        state="passed",
        created=session.clock.now(),
        environment="ci",
        code=checkout.code,
        lock=checkout.lock,
        policy=checkout.policy,
        python="3.10.1",
        packages={"tidemill": version("tidemill")},
        system=system | {"openssl": "1.0.2"},
    )
    changes = list_changes(Ci(), checkout, source.files, last, source.files)
    assert [(change.kind, change.name, change.before) for change in changes] == [
        ("python", "python", "3.10.1"),
        ("system", "openssl", "1.0.2"),
    ]
    assert list_changes(Ci(), replace(checkout, pins_python=True), source.files, last, source.files)[0].kind == "system"
