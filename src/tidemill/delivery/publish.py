"""Puts the result of CI on the commit: a git note, and the state of the commit at GitHub, GitLab or Gitea."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec

from tidemill.core.build import Build
from tidemill.core.ci import Ci
from tidemill.errors import TidemillError
from tidemill.host.git_remote import write_note

_SECONDS = 15
_LONGEST = 140
_CONTEXT = "tidemill"
# The words of each server for the states of a build.
_STATES = {
    "github": {"passed": "success", "refused": "failure", "error": "error"},
    "gitea": {"passed": "success", "refused": "failure", "error": "error"},
    "gitlab": {"passed": "success", "refused": "failed", "error": "failed"},
}


def publish_result(ci: Ci, remote: str, build: Build) -> Iterator[str]:
    """Write the result of a build to its commit; yield what could not be written, which does not change the result."""
    if ci.notes:
        try:
            write_note(remote, build.commit, describe_build(build))
        except TidemillError as failure:
            yield f"the note is not written: {failure.problem}"
    if ci.status:
        try:
            send_status(ci, build)
        except TidemillError as failure:
            yield f"the state of the commit is not sent: {failure.problem}"


def describe_build(build: Build) -> str:
    """Return the note of a build, as lines of names and values."""
    lines = [f"tidemill: {build.label}", f"state: {build.state}", f"branch: {build.branch}", f"run: {build.run}"]
    lines += [f"reason: {' '.join(build.reason.split())}"] if build.reason else []
    lines += [f"{name}: sha256:{digest}" for name, digest in sorted(build.artifacts.items())]
    lines += [f"image: {build.image}"] if build.image else []
    return "\n".join(lines) + "\n"


def send_status(ci: Ci, build: Build) -> None:
    """Send the state of a commit to the API of its server.

    Raises
    ------
    TidemillError
        if the token is missing, or the server refuses it or cannot be reached.
    """
    token = os.environ.get(ci.status_token, "") if ci.status_token else ""
    if not token or not ci.status_url:
        missing = f"the environment variable {ci.status_token!r} is not set" if ci.status_url else "it has no address"
        raise TidemillError(missing, "set [ci] status_url, and status_token with the name of a variable that is set")
    state = _STATES[ci.status][build.state]
    text = f"build {build.number} {build.state}" + (f": {build.reason}" if build.reason else "")
    description = " ".join(text.split())[:_LONGEST]
    body: dict[str, Any] = {"state": state, "description": description, "context": _CONTEXT}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", "User-Agent": "tidemill"}
    if ci.status == "gitlab":
        body = {"state": state, "description": description, "name": _CONTEXT}
        headers = {"Content-Type": "application/json", "PRIVATE-TOKEN": token}
    request = urllib.request.Request(
        f"{ci.status_url.rstrip('/')}/statuses/{build.commit}", msgspec.json.encode(body), headers, method="POST"
    )
    if request.type not in ("https", "http"):
        raise TidemillError(f"{ci.status_url} is no address of a web server", "correct [ci] status_url")
    try:
        with urllib.request.build_opener(_NoRedirect()).open(request, timeout=_SECONDS):
            return
    except urllib.error.HTTPError as refused:
        raise TidemillError(
            f"{ci.status_url} answered {refused.code} {refused.reason}", "check the token and [ci] status_url"
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise TidemillError(f"{ci.status_url} cannot be reached: {reason}", "check the network") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would send the token to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None
