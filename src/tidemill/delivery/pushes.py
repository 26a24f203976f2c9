"""Pushes: events for new commits, written by a hook of a repository or by a webhook; and the hook itself."""

import os
import pwd
import shlex
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct, to_builtins

from tidemill.clock import Clock
from tidemill.core.ci import Ci
from tidemill.core.event import PushPayload
from tidemill.core.resources import Books
from tidemill.delivery.checkout import is_watched
from tidemill.errors import Conflict, InputError
from tidemill.host.git_remote import is_commit
from tidemill.ledger.events import record_event

PushState = Literal["new", "known", "deleted", "not watched"]
# The authenticated user, as GitLab, Gitea and Forgejo, Gitolite, and servers over HTTP set it for hooks.
_USER_VARIABLES = ("GL_USERNAME", "GITEA_PUSHER_NAME", "GL_USER", "REMOTE_USER")
_HEADS = "refs/heads/"
_MARK = "Written by `tidemill ci install-hook`"
_HOOK = """\
#!/bin/sh
# Records each push for the CI of the project {name}. {mark}; it never refuses a push.
unset GIT_DIR GIT_WORK_TREE GIT_QUARANTINE_PATH
cd {folder} 2>/dev/null || {{ echo "tidemill: the push is not recorded: there is no folder" {folder} >&2; exit 0; }}
pushes=$(grep " refs/heads/") || exit 0
echo "$pushes" | {workspace}{python} -m tidemill ci receive --remote {remote} --env {environment} ||
    echo "tidemill: the push is not recorded: build it with tidemill ci run" >&2
exit 0
"""


class Push(Struct, frozen=True, kw_only=True):
    """What became of a push to a branch."""

    branch: str
    commit: str
    state: PushState


def record_push(ci: Ci, books: Books, clock: Clock, environment: str, push: PushPayload) -> Push:
    """Write the event of a push; the same commit of a branch is written once."""
    if not is_watched(push.branch, ci):
        return Push(branch=push.branch, commit=push.commit, state="not watched")
    try:
        with books.transaction(durable=True):
            record_event(
                books,
                clock,
                "push",
                push.branch,
                environment=environment,
                key=f"push/{push.branch}/{push.commit}",
                payload=to_builtins(push),
            )
    except Conflict:
        return Push(branch=push.branch, commit=push.commit, state="known")
    return Push(branch=push.branch, commit=push.commit, state="new")


def receive_pushes(
    lines: Iterable[str], remote: str, pusher: str, ci: Ci, books: Books, clock: Clock, environment: str
) -> Iterator[Push]:
    """Record the pushes in the input of a hook `post-receive`: lines with the old commit, the new one, and the ref.

    A deleted branch is an event of the kind `branch.deleted`, which builds nothing.
    """
    for line in lines:
        fields = line.split()
        if len(fields) != 3 or not fields[2].startswith(_HEADS) or not is_commit(fields[1]):
            continue  # a tag
        old, commit, reference = fields
        push = PushPayload(commit=commit, branch=reference.removeprefix(_HEADS), remote=remote, pusher=pusher)
        if set(commit) == {"0"}:
            payload = to_builtins(push) | {"commit": old}
            with books.transaction(durable=True):
                record_event(books, clock, "branch.deleted", push.branch, environment=environment, payload=payload)
            yield Push(branch=push.branch, commit=old, state="deleted")
        else:
            yield record_push(ci, books, clock, environment, push)


def find_pusher(repository: str, variables: Mapping[str, str] = os.environ) -> str:
    """Return who pushes: the user of this process, or the user that a git server has authenticated.

    Variables count only if this process runs as the owner of the repository, as the account of a git server does:
    another account could set them to any name.
    """
    user = os.getuid()
    folder = Path(repository)
    if folder.is_dir() and folder.stat().st_uid == user:
        for name in _USER_VARIABLES:
            if variables.get(name):
                return variables[name]
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def install_hook(repository: Path, project: str, folder: Path, environment: str, workspace: str = "") -> Path:
    """Write the hook `post-receive` of a bare repository, and return its path.

    Raises
    ------
    InputError
        if the folder is not a bare repository, or has a hook of another origin.
    """
    if not (repository / "HEAD").is_file() or not (repository / "refs").is_dir():
        raise InputError(f"{repository} is not a bare repository", "create one: git init --bare FOLDER")
    hook = repository.resolve() / "hooks" / "post-receive"
    text = _HOOK.format(
        name=project,
        mark=_MARK,
        folder=shlex.quote(str(folder.resolve())),
        workspace=f"TIDEMILL_WORKSPACE={shlex.quote(workspace)} " if workspace else "",
        python=shlex.quote(sys.executable),
        remote=shlex.quote(str(repository.resolve())),
        environment=shlex.quote(environment),
    )
    if hook.exists() and _MARK not in hook.read_text(errors="replace"):
        raise InputError(f"{hook} exists and is of another origin", f"add these lines to it:\n{text}")
    try:
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(text)
        hook.chmod(stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    except OSError as error:
        raise InputError(
            f"{hook} cannot be written: {error.strerror}", "run it as the owner of the repository"
        ) from None
    return hook
