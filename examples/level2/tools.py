"""Small tools of the example: commands, waiting, and what is printed."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_SECONDS = 600.0


class Failed(SystemExit):
    """The example did not go as described."""


def announce(number: int, text: str) -> None:
    """Print the title of an act."""
    print(f"\n{number:2}. {text}", flush=True)


def show(text: str) -> None:
    """Print what happened."""
    print("    " + text.strip().replace("\n", "\n    "), flush=True)


def run(folder: Path, *command: str, code: int = 0, variables: Mapping[str, str] | None = None) -> str:
    """Run a command; return what it printed, and require its exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEMILL_", "GIT_"))}
    process = subprocess.run(
        command, cwd=folder, env=environment | dict(variables or {}), capture_output=True, text=True, check=False
    )
    if process.returncode != code:
        raise Failed(f"{' '.join(command)} ended with {process.returncode}:\n{process.stdout}\n{process.stderr}")
    return process.stdout + process.stderr


def tidemill(folder: Path, *words: str, code: int = 0, token: str = "") -> str:
    """Run a command of Tidemill, as the owner of a token."""
    variables = {"TIDEMILL_TOKEN": token} if token else {}
    return run(folder, sys.executable, "-m", "tidemill", *words, code=code, variables=variables)


def listed(folder: Path, *words: str, token: str = "") -> Any:
    """Return what a command of Tidemill prints with --json."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEMILL_", "GIT_"))}
    command = [sys.executable, "-m", "tidemill", *words, "--json"]
    process = subprocess.run(
        command,
        cwd=folder,
        env=environment | ({"TIDEMILL_TOKEN": token} if token else {}),
        capture_output=True,
        check=False,
    )
    return json.loads(process.stdout or b"[]")


def git(folder: Path, *words: str, person: str = "ada") -> str:
    """Run git as a person."""
    names = {f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in _identity(person)}
    return run(folder, "git", *words, variables={**names, "GL_USERNAME": person})


def _identity(person: str) -> tuple[tuple[str, str], ...]:
    return ("NAME", person.title()), ("EMAIL", f"{person}@example.org")


def wait_for(what: str, find: Callable[[], T | None], problem: Callable[[], str] = str) -> T:
    """Wait until `find` returns something; stop with `problem` if it takes too long."""
    deadline = time.monotonic() + _SECONDS
    while not (found := find()):
        if reason := problem():
            raise Failed(f"waiting for {what}: {reason}")
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not happen within {_SECONDS:.0f} s")
        time.sleep(0.3)
    return found


def is_ready(address: str) -> bool:
    """Return whether a service can predict."""
    try:
        with urllib.request.urlopen(f"{address}/ready", timeout=60) as reply:
            return bool(reply.status == 200)
    except urllib.error.URLError:
        return False


def post(address: str, path: str, body: Mapping[str, Any], token: str = "") -> Any:
    """Post JSON to a service, and return its reply."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as refused:
        raise Failed(f"{path} answered {refused.code}: {refused.read().decode()}") from None
