"""Checkouts: the commit that a CI run builds, with its files, and whether it must be built at all."""

import hashlib
import platform
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from msgspec import Struct
from msgspec.structs import replace

from tidemill.core.build import Build
from tidemill.core.ci import BuildHost, Ci
from tidemill.core.event import PushPayload
from tidemill.core.policy import Policy
from tidemill.core.resources import BookReader
from tidemill.errors import InputError, NotFound, TidemillError
from tidemill.host.git_remote import (
    fetch_commit,
    find_default_branch,
    find_repository,
    list_branches,
    require_branch,
    require_remote,
)
from tidemill.host.libraries import list_system_libraries
from tidemill.project.configuration import FILE, digest_policy, read_policy

_TEXTS = (".md", ".rst")
_UV_LOCK = "uv.lock"


class Checkout(Struct, frozen=True, kw_only=True):
    """A commit to build.

    Attributes
    ----------
    base
        The commit of the last passed build of the branch; `authors` are counted from it.
    code
        The digest of its files, without texts, the lock and the policy.
    policy
        The digest of the policy.
    lock
        The digest of the lock.
    pins_python
        Whether a file of the commit names the version of Python.
    skipped
        Links and submodules, which are not part of the build.
    problem
        Why it cannot be judged; the build is then an error.
    fault
        Why it is refused: its policy is wrong.
    unchanged
        Why it need not be built; then there is no build.
    """

    remote: str
    branch: str
    commit: str
    project: str
    date: datetime = datetime(1980, 1, 1, tzinfo=UTC)
    folder: str = ""
    base: str = ""
    authors: tuple[str, ...] = ()
    pusher: str = ""
    code: str = ""
    policy: str = ""
    lock: str = ""
    pins_python: bool = False
    skipped: tuple[str, ...] = ()
    problem: str = ""
    fault: str = ""
    unchanged: str = ""

    @property
    def is_buildable(self) -> bool:
        """Return whether the next steps have something to do."""
        return not (self.problem or self.fault or self.unchanged)


class Source(Struct, frozen=True, kw_only=True):
    """A checkout with its files."""

    checkout: Checkout
    files: dict[str, bytes]
    executable: frozenset[str] = frozenset()


def choose_remote(ci: Ci, host: BuildHost, remote: str = "") -> tuple[str, str]:
    """Return the repository, and the project's folder in it: those of the policy, or of the present folder.

    Raises
    ------
    InputError
        if no repository is named, and the project is in none.
    """
    if remote or ci.remote:
        return require_remote(remote or ci.remote), ci.folder.strip("/")
    found = find_repository(host.project)
    if found is None:
        raise InputError(
            "no repository is set, and the project's folder is in none", "set [ci] remote, or use --remote PATH"
        )
    repository, folder = found
    return str(repository), ci.folder.strip("/") or folder


def choose_branch(remote: str, branch: str = "") -> str:
    """Return a branch, or the branch of the remote's HEAD."""
    chosen = branch or find_default_branch(remote)
    if not chosen:
        raise InputError(f"the HEAD of {remote} points to no branch", "name one: --branch main")
    return require_branch(chosen)


def is_watched(branch: str, ci: Ci) -> bool:
    """Return whether pushes to a branch are built.

    >>> is_watched("release/2", Ci(branches=("main", "release/*"))), is_watched("draft", Ci(branches=("main",)))
    (True, False)
    """
    return any(fnmatchcase(branch, pattern) for pattern in ci.branches)


def find_tip(remote: str, branch: str) -> str:
    """Return the commit of a branch; raise `NotFound` if there is no such branch."""
    branches = list_branches(remote)
    if branch not in branches:
        listed = ", ".join(sorted(branches)[:10]) or "none"
        raise NotFound(f"{remote} has no branch {branch!r}", f"use one of its branches: {listed}")
    return branches[branch]


def fetch_source(
    ci: Ci, host: BuildHost, builds: BookReader[Build], request: PushPayload, *, force: bool = False
) -> Source:
    """Fetch a commit; its `problem` says why it cannot be built, `unchanged` why it need not be, without `force`.

    Raises
    ------
    InputError
        if there is no such repository or branch, and no commit is named.
    Transient
        if the remote cannot be reached.
    """
    address, folder = choose_remote(ci, host, request.remote)
    chosen = choose_branch(address, request.branch)
    commit = request.commit
    last = find_last_passed(builds, host.name, chosen)
    empty = Checkout(
        remote=address, branch=chosen, commit=commit, project=host.name, folder=folder, pusher=request.pusher
    )
    try:
        fetched = fetch_commit(address, chosen, commit, last.commit if last else "", folder)
    except NotFound as missing:
        if not commit:
            raise
        return Source(checkout=replace(empty, problem=missing.problem), files={})
    checkout = replace(
        empty,
        commit=fetched.commit,
        date=fetched.date,
        base=fetched.base,
        authors=fetched.authors,
        pins_python=".python-version" in fetched.files,
        skipped=fetched.skipped,
        code=digest_code(fetched.files, ci),
        lock=digest_lock(fetched.files, ci),
    )
    try:
        policy = read_project_policy(fetched.files, host.folder)
        checkout = replace(checkout, policy=digest_policy(policy))
        if policy.name != host.name:
            reason = f"the commit is of the project {policy.name!r}, and this is the CI of {host.name!r}"
            checkout = replace(checkout, fault=reason)
    except TidemillError as wrong:
        checkout = replace(checkout, fault=wrong.problem)
    if last is not None and checkout.is_buildable and not force and not list_changed_parts(checkout, last):
        reason = f"nothing changed since build {last.label}, which passed: to build it again, use --force"
        checkout = replace(checkout, unchanged=reason)
    return Source(checkout=checkout, files=fetched.files, executable=fetched.executable)


def list_changed_parts(checkout: Checkout, last: Build) -> dict[str, tuple[str, str]]:
    """Return what decides that a commit must be built, before and after: code, lock, policy, Python, system libraries.

    A file `.python-version` is a part of the code.
    """
    now = {"code": checkout.code, "lock": checkout.lock, "policy": checkout.policy}
    before = {"code": last.code, "lock": last.lock, "policy": last.policy}
    if not checkout.pins_python:
        now["python"], before["python"] = platform.python_version(), last.python
    now |= {f"system {name}": text for name, text in list_system_libraries().items()}
    before |= {f"system {name}": text for name, text in last.system.items()}
    now["tidemill"], before["tidemill"] = version("tidemill"), last.packages.get("tidemill", "")
    names = sorted(now.keys() | before.keys())
    return {
        name: (before.get(name, ""), now.get(name, "")) for name in names if before.get(name, "") != now.get(name, "")
    }


def read_project_policy(files: Mapping[str, bytes], scratch: Path) -> Policy:
    """Return the policy of a commit; its code is read, but not run.

    Raises
    ------
    ConfigurationError
        if it has none, or it is wrong.
    """
    if FILE not in files:
        raise NotFound(f"the commit has no {FILE}", "commit it, or set the project's folder: [ci] folder")
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="policy-") as folder:
        for name in (FILE, "pipeline.py"):
            if name in files:
                (Path(folder) / name).write_bytes(files[name])
        return read_policy(Path(folder) / FILE)


def find_last_passed(builds: BookReader[Build], project: str, branch: str) -> Build | None:
    """Return the last passed build of a branch."""
    found = builds.find(project=project, branch=branch, state="passed")
    return max(found, key=lambda build: build.number, default=None)


def list_code(files: Iterable[str], ci: Ci) -> list[str]:
    """Return the files that decide whether a commit must be built, besides the lock and the policy."""
    others = {FILE, _UV_LOCK, ci.lock, ci.test_lock}
    return sorted(name for name in files if name not in others and not name.endswith(_TEXTS) and not _is_hidden(name))


def digest_code(files: Mapping[str, bytes], ci: Ci) -> str:
    """Return the digest of the code of a commit."""
    return _digest({name: files[name] for name in list_code(files, ci)})


def digest_lock(files: Mapping[str, bytes], ci: Ci) -> str:
    """Return the digest of the lock of a commit; empty if it has none."""
    locks = {name: files[name] for name in (_UV_LOCK, ci.lock, ci.test_lock) if name in files}
    return _digest(locks) if locks else ""


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != ".python-version" for part in PurePosixPath(name).parts)


def _digest(files: Mapping[str, bytes]) -> str:
    content = hashlib.sha256()
    for name, text in sorted(files.items()):
        content.update(f"{name}\0{len(text)}\0".encode())
        content.update(text)
    return content.hexdigest()
