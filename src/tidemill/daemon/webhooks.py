"""Webhooks of GitHub, GitLab and Gitea: `POST /hooks/github`, `/hooks/gitlab` or `/hooks/gitea`.

The signature or the token is compared in constant time. The payload is only a hint: the commit of the branch is read
from the configured repository, so a repeated or invented payload builds nothing that is not there. Pushes from forks
are recorded and not built.
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct, to_builtins
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tidemill.clock import Clock
from tidemill.core.ci import Ci
from tidemill.core.event import PushPayload
from tidemill.core.resources import Books
from tidemill.delivery.checkout import find_tip, is_watched
from tidemill.delivery.pushes import record_push
from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.flow.session import Session
from tidemill.host.git_remote import require_branch
from tidemill.ledger.events import record_event
from tidemill.telemetry import get_logger

log = get_logger("webhooks")

PREFIX = "/hooks/"
_MAX_BYTES = 25 << 20  # GitHub sends no larger payload; a push of many commits has some megabytes
_SMALL_BYTES = 1 << 20
_MOST_LARGE = 4  # larger payloads at a time: they are in memory before their signature is verified
_FORM = "application/x-www-form-urlencoded"
_LONGEST_NAME = 200
_HEADS = "refs/heads/"
_MERGE_EVENTS = ("pull_request", "Merge Request Hook")
_PUSH_EVENTS = ("push", "Push Hook")


class Hint(Struct, frozen=True, kw_only=True):
    """What a payload says: a push to a branch, its deletion, a merge into it, or a push from a fork."""

    branch: str
    commit: str = ""
    pusher: str = ""
    fork: str = ""
    is_deletion: bool = False


def create_webhooks(session: Session) -> Starlette:
    """Create the application that receives webhooks and records pushes."""

    large = 0

    async def receive(request: Request) -> Response:
        nonlocal large
        size = request.headers.get("content-length", "")
        if size.isdigit() and int(size) > _MAX_BYTES:
            return _refuse(413, f"the payload is larger than {_MAX_BYTES} bytes")
        is_large = not size.isdigit() or int(size) > _SMALL_BYTES
        if is_large and large >= _MOST_LARGE:
            return _refuse(503, "too many large payloads arrive at once: send it again later")
        large += is_large
        try:
            body = await _read_body(request)
            if body is None:
                return _refuse(413, f"the payload is larger than {_MAX_BYTES} bytes")
            return await run_in_threadpool(_receive, session, request.path_params["server"], request.headers, body)
        finally:
            large -= is_large

    return Starlette(routes=[Route(PREFIX + "{server:str}", receive, methods=["POST"])])


def add_webhooks(session: Session, pages: ASGIApp) -> ASGIApp:
    """Return an application that receives webhooks, and passes all other requests to the pages."""
    webhooks = create_webhooks(session)

    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        is_webhook = scope["type"] == "http" and scope["path"].startswith(PREFIX)
        await (webhooks if is_webhook else pages)(scope, receive, send)

    return dispatch


async def _read_body(request: Request) -> bytes | None:
    """Return the body, or None if it is too large; a larger one is not read to its end."""
    chunks, length = [], 0
    async for chunk in request.stream():
        length += len(chunk)
        if length > _MAX_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _receive(session: Session, server: str, headers: Mapping[str, str], body: bytes) -> Response:
    """Check a request and record what it announces."""
    settings = session.project.policy.ci
    if server not in _SERVERS:
        return _refuse(404, f"there is no webhook for {server!r}: use {', '.join(sorted(_SERVERS))}")
    secret = os.environ.get(settings.webhook_secret, "") if settings.webhook_secret else ""
    if not secret:
        return _refuse(403, "webhooks are refused: [ci] webhook_secret names no environment variable that is set")
    kind = _SERVERS[server]
    text, signed = body, body
    if headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
        text = _read_form(body)
        signed = text if kind.signs_form_value else body
    if not kind.is_authentic(secret, headers, signed):
        log.warning("a webhook with a wrong signature was refused")
        return _refuse(403, "the signature is wrong")
    event = headers.get(kind.event_header, "")
    if event not in (*_PUSH_EVENTS, *_MERGE_EVENTS):
        return JSONResponse({"state": "ignored", "reason": f"events of the kind {event!r} are not used"})
    try:
        payload = msgspec.json.decode(text)
        hint = kind.read_merge(payload) if event in _MERGE_EVENTS else kind.read_push(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return _refuse(400, f"the payload is no event {event!r} in JSON: {error!r}")
    if hint is None:
        return JSONResponse({"state": "ignored", "reason": "it is about no branch, such as about a tag"})
    try:
        return _record(settings, session.workspace.ledger, session.clock, session.workspace.environment, hint)
    except TidemillError as failure:
        log.warning("a webhook could not be recorded: %s", failure)
        return _refuse(400 if failure.exit_code == 2 else 503, failure.problem)


def _record(settings: Ci, books: Books, clock: Clock, environment: str, hint: Hint) -> Response:
    """Record a push by the commit that the branch has now, or a push from a fork."""
    branch = require_branch(hint.branch)
    if hint.fork:
        payload = to_builtins(PushPayload(commit=hint.commit, branch=branch, remote=hint.fork, pusher=hint.pusher))
        key = f"push.fork/{hint.fork}/{branch}/{hint.commit}"
        with suppress(Conflict), books.transaction(durable=True):
            record_event(books, clock, "push.fork", branch, environment=environment, key=key, payload=payload)
        reason = "forks are not built: push the commit to a branch of the repository after a review"
        return JSONResponse({"state": "fork", "reason": reason}, 202)
    if not settings.remote:
        return _refuse(503, "webhooks need the address of the repository: [ci] remote")
    if not is_watched(branch, settings):
        return JSONResponse({"state": "not watched", "branch": branch})
    try:
        tip = find_tip(settings.remote, branch)
    except NotFound:
        return _record_deletion(books, clock, environment, hint)
    if hint.is_deletion:
        return JSONResponse({"state": "ignored", "branch": branch, "reason": "the repository has the branch"})
    pusher = hint.pusher if tip == hint.commit else ""
    push = record_push(settings, books, clock, environment, PushPayload(commit=tip, branch=branch, pusher=pusher))
    return JSONResponse({"state": push.state, "branch": branch, "commit": tip}, 202 if push.state == "new" else 200)


def _record_deletion(books: Books, clock: Clock, environment: str, hint: Hint) -> Response:
    """Record that a branch was deleted, if the payload says so: nothing is built."""
    if hint.is_deletion:
        payload = to_builtins(PushPayload(commit=hint.commit, branch=hint.branch, pusher=hint.pusher))
        key = f"branch.deleted/{hint.branch}/{hint.commit}"
        with suppress(Conflict), books.transaction(durable=True):
            record_event(books, clock, "branch.deleted", hint.branch, environment=environment, key=key, payload=payload)
    return JSONResponse({"state": "deleted", "branch": hint.branch, "reason": "the repository has no such branch"})


def _read_form(body: bytes) -> bytes:
    """Return the field `payload` of a form; empty if there is none."""
    with suppress(ValueError):  # it is no form
        return parse_qs(body.decode("ascii"), max_num_fields=10).get("payload", [""])[0].encode()
    return b""


class _Server(Struct, frozen=True, kw_only=True):
    """How a kind of server signs webhooks and writes their payloads; one signs the field of a form, not the form."""

    event_header: str
    is_authentic: Callable[[str, Mapping[str, str], bytes], bool]
    read_push: Callable[[dict[str, Any]], Hint | None]
    read_merge: Callable[[dict[str, Any]], Hint | None]
    signs_form_value: bool = False


def _has_signature(header: str, prefix: str = "") -> Callable[[str, Mapping[str, str], bytes], bool]:
    """Return a check of the HMAC-SHA256 of the body in a header."""

    def check(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
        expected = prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), headers.get(header, "").encode())

    return check


def _has_token(secret: str, headers: Mapping[str, str], _: bytes) -> bool:
    return hmac.compare_digest(secret.encode(), headers.get("x-gitlab-token", "").encode())


def _read_push(payload: dict[str, Any]) -> Hint | None:
    """Read a push of GitHub or Gitea, which use the same keys."""
    pusher = payload.get("pusher") or {}
    return _to_hint(payload, pusher.get("name") or pusher.get("login"))


def _to_hint(payload: dict[str, Any], pusher: Any) -> Hint | None:
    """Return the hint of a push; None if its reference is no branch, such as a tag."""
    branch, commit = _to_branch(payload["ref"]), str(payload["after"])
    if branch is None:
        return None
    name = _to_name(pusher)
    if not commit.strip("0"):
        return Hint(branch=branch, commit=str(payload.get("before") or ""), pusher=name, is_deletion=True)
    return Hint(branch=branch, commit=commit, pusher=name)


def _to_name(text: Any) -> str:
    """Return the name of a person as one short line: it is shown on terminals and pages."""
    return "".join(character for character in str(text or "") if character.isprintable())[:_LONGEST_NAME]


def _read_merge(payload: dict[str, Any]) -> Hint | None:
    """Read a pull request of GitHub or Gitea: merged ones change their base, and those of forks are recorded."""
    request = payload["pull_request"]
    base, head = request["base"], request["head"]
    source, target = head.get("repo") or {}, base.get("repo") or {}
    if request.get("merged"):
        return Hint(branch=str(base["ref"]), commit=str(request.get("merge_commit_sha") or ""))
    if source.get("full_name") == target.get("full_name"):
        return None  # the push to the branch of the request has an event of its own
    fork = _to_name(source.get("full_name")) or "an unknown repository"
    pusher = _to_name((payload.get("sender") or {}).get("login"))
    return Hint(branch=str(head["ref"]), commit=str(head.get("sha", "")), fork=fork, pusher=pusher)


def _read_gitlab_push(payload: dict[str, Any]) -> Hint | None:
    return _to_hint(payload, payload.get("user_username"))


def _read_gitlab_merge(payload: dict[str, Any]) -> Hint | None:
    request = payload["object_attributes"]
    is_fork = request["source_project_id"] != request["target_project_id"]
    if request.get("state") == "merged":
        return Hint(branch=str(request["target_branch"]), commit=str(request.get("merge_commit_sha") or ""))
    if not is_fork:
        return None
    commit = str((request.get("last_commit") or {}).get("id", ""))
    fork = _to_name((request.get("source") or {}).get("path_with_namespace")) or "an unknown repository"
    pusher = _to_name((payload.get("user") or {}).get("username"))
    return Hint(branch=str(request["source_branch"]), commit=commit, fork=fork, pusher=pusher)


def _to_branch(reference: str) -> str | None:
    return reference.removeprefix(_HEADS) if reference.startswith(_HEADS) else None


_SERVERS = {
    "github": _Server(
        event_header="x-github-event",
        is_authentic=_has_signature("x-hub-signature-256", "sha256="),
        read_push=_read_push,
        read_merge=_read_merge,
    ),
    "gitea": _Server(
        event_header="x-gitea-event",
        is_authentic=_has_signature("x-gitea-signature"),
        read_push=_read_push,
        read_merge=_read_merge,
        signs_form_value=True,
    ),
    "gitlab": _Server(
        event_header="x-gitlab-event",
        is_authentic=_has_token,
        read_push=_read_gitlab_push,
        read_merge=_read_gitlab_merge,
    ),
}


def _refuse(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status)
