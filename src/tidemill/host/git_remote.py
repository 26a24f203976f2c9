"""Reads commits of a git repository without running anything that the repository contains, and writes notes to it.

No working copy is made: files are read from git's objects. So hooks, filters, symbolic links and submodules of a commit
have no effect.
"""

import os
import re
import subprocess
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from msgspec import Struct

from tidemill.errors import InputError, NotFound, TidemillError, Transient

NOTES = "refs/notes/tidemill"
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_SCP = re.compile(r"[\w.-]+@[\w.-]+:[^:]+")
_SAFE = ("core.hooksPath=/dev/null", "protocol.allow=never", "core.fsmonitor=false", "submodule.recurse=false")
_MAX_FILE = 200_000_000
_MAX_FILES = 1_000_000_000
_SECONDS = 300
_LINK, _SUBMODULE = "120000", "160000"
_NOTE_TRIES = 5


class RemoteCommit(Struct, frozen=True, kw_only=True):
    """A commit with its files; `skipped` are the links and submodules, which are not read.

    `authors` are the e-mail addresses of the authors and committers since the base.
    """

    commit: str
    date: datetime
    base: str
    authors: tuple[str, ...]
    files: dict[str, bytes]
    executable: frozenset[str]
    skipped: tuple[str, ...]


def require_remote(remote: str) -> str:
    """Return a remote that may be fetched: a local folder, or a URL with https or ssh.

    Raises
    ------
    InputError
        if it is another address, or begins with `-`.
    """
    if remote.startswith("-"):
        raise InputError(f"the repository {remote!r} begins with -", "write its path or URL")
    scheme = urlparse(remote).scheme if "://" in remote else ""
    if scheme in ("https", "ssh") or _SCP.fullmatch(remote):
        return remote
    if scheme == "file" or not scheme:
        folder = Path(urlparse(remote).path if scheme else remote).expanduser()
        if folder.is_dir():
            return str(folder.resolve())
        raise NotFound(f"there is no repository {remote}", "check [ci] remote in tidemill.toml")
    raise InputError(f"repositories are not fetched by {scheme}: {remote}", "use https, ssh or a local folder")


def require_branch(branch: str) -> str:
    """Return the name of a branch; raise `InputError` if git or a shell could misunderstand it."""
    is_bad = branch.startswith(("-", "/", ".")) or branch.endswith(("/", ".", ".lock")) or ".." in branch
    if not branch or is_bad or "@{" in branch or re.search(r"[\x00-\x20~^:?*\[\\\x7f]", branch):
        raise InputError(f"{branch!r} is not the name of a branch", "use a name such as main or feature/weather")
    return branch


def is_commit(text: str) -> bool:
    """Return whether a text is the full id of a commit."""
    return bool(_COMMIT.fullmatch(text))


def find_repository(folder: Path) -> tuple[Path, str] | None:
    """Return the repository of a folder, and the folder's path in it; None outside a repository."""
    with suppress(TidemillError):
        top = _git(folder, "rev-parse", "--show-toplevel").strip()
        return Path(top), _git(folder, "rev-parse", "--show-prefix").strip().strip("/")
    return None


def list_branches(remote: str) -> dict[str, str]:
    """Return the commit of each branch of a remote.

    Raises
    ------
    Transient
        if the remote cannot be reached.
    """
    output = _git(None, "ls-remote", "--heads", "--", require_remote(remote))
    pairs = (line.split("\t", 1) for line in output.split("\n") if "\t" in line)
    return {name.removeprefix("refs/heads/"): commit for commit, name in pairs}


def find_default_branch(remote: str) -> str:
    """Return the branch to which HEAD of a remote points; empty if it points to none."""
    output = _git(None, "ls-remote", "--symref", "--", require_remote(remote), "HEAD")
    match = re.match(r"ref: refs/heads/(\S+)\tHEAD", output)
    return match[1] if match else ""


def fetch_commit(remote: str, branch: str, commit: str, base: str = "", folder: str = "") -> RemoteCommit:
    """Fetch a branch into a fresh repository, and read the files of one of its commits.

    Parameters
    ----------
    remote
        The repository.
    branch
        A branch that contains the commit.
    commit
        The full id; empty is the tip of the branch.
    base
        An earlier commit, such as that of the last build: authors are counted from it.
    folder
        The folder in the repository whose files are read.

    Raises
    ------
    NotFound
        if the branch does not exist, or does not contain the commit (any more).
    Transient
        if the remote cannot be reached.
    """
    require_branch(branch)
    if commit and not is_commit(commit):
        raise InputError(f"{commit!r} is not the full id of a commit", "write its 40 hexadecimal digits")
    with _fresh_repository() as repository:
        reference = f"refs/heads/{branch}"
        try:
            _git(repository, *_fetch(require_remote(remote)), f"+{reference}:{reference}")
        except TidemillError as error:
            if "couldn't find remote ref" in error.problem:
                raise NotFound(f"{remote} has no branch {branch!r}", "it may be deleted: list its branches") from None
            raise
        if _git(repository, "rev-parse", "--is-shallow-repository").strip() == "true":
            raise InputError(
                f"{_CREDENTIALS.sub('//***@', remote)} is a shallow clone: not all authors of its commits are known",
                "complete it: `git fetch --unshallow`, or use the repository that it is a clone of",
            )
        chosen = commit or _git(repository, "rev-parse", "--verify", f"{reference}^{{commit}}").strip()
        if not _contains(repository, reference, chosen):
            raise NotFound(
                f"the branch {branch!r} does not contain the commit {chosen[:12]} any more",
                "a forced push replaced it: build the present tip of the branch",
            )
        if base and (not is_commit(base) or not _contains(repository, chosen, base)):
            base = ""
        files, executable, skipped = _read_files(repository, chosen, folder.strip("/"))
        seconds = int(_git(repository, "show", "-s", "--format=%ct", chosen))
        return RemoteCommit(
            commit=chosen,
            date=datetime.fromtimestamp(seconds, UTC),
            base=base,
            authors=_list_authors(repository, base, chosen),
            files=files,
            executable=executable,
            skipped=skipped,
        )


def write_note(remote: str, commit: str, text: str) -> None:
    """Set the note of a commit in `refs/notes/tidemill` of the remote; notes of others are kept.

    Raises
    ------
    TidemillError
        if the remote cannot be written.
    """
    address = require_remote(remote)
    with _fresh_repository() as repository:
        for attempt in range(_NOTE_TRIES):
            with suppress(TidemillError):  # there are no notes yet
                _git(repository, *_fetch(address), f"+{NOTES}:{NOTES}")
            _add_note(repository, commit, text)
            try:
                _git(repository, "push", "--quiet", "--", address, f"{NOTES}:{NOTES}")
                return
            except TidemillError:  # another note was written at the same time
                if attempt == _NOTE_TRIES - 1:
                    raise


def read_note(repository: Path, commit: str) -> str:
    """Return the note of a commit in a local repository; empty if it has none."""
    with suppress(TidemillError):
        return _git(repository, "notes", f"--ref={NOTES}", "show", commit)
    return ""


def _add_note(repository: Path, commit: str, text: str) -> None:
    """Commit a note to the notes of a repository; `git notes` would need the commit that it is about."""
    parent: tuple[str, ...] = ()
    entries = dict[str, str]()
    with suppress(TidemillError):
        parent = ("-p", _git(repository, "rev-parse", "--verify", f"{NOTES}^{{commit}}").strip())
        listing = _git(repository, "ls-tree", "-r", "-z", "--full-tree", NOTES)
        for entry in filter(None, listing.split("\0")):
            facts, _, path = entry.partition("\t")
            entries[path.replace("/", "")] = facts  # git itself distributes many notes over folders
    blob = _git(repository, "hash-object", "-w", "--stdin", text=text).strip()
    entries[commit] = f"100644 blob {blob}"
    tree = _git(repository, "mktree", text="".join(f"{facts}\t{name}\n" for name, facts in sorted(entries.items())))
    identity = ("-c", "user.name=tidemill", "-c", "user.email=tidemill@localhost")
    noted = _git(repository, *identity, "commit-tree", tree.strip(), *parent, "-m", "tidemill").strip()
    _git(repository, "update-ref", NOTES, noted)


@contextmanager
def _fresh_repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tidemill-git-", ignore_cleanup_errors=True) as folder:
        repository = Path(folder)
        _git(repository, "init", "--quiet", "--bare", "--template=", ".")
        yield repository


def _fetch(remote: str) -> tuple[str, ...]:
    return (
        "fetch",
        "--quiet",
        "--update-shallow",
        "--no-tags",
        "--no-recurse-submodules",
        "--no-write-fetch-head",
        "--",
        remote,
    )


def _contains(repository: Path, reference: str, commit: str) -> bool:
    with suppress(TidemillError):
        _git(repository, "merge-base", "--is-ancestor", commit, reference)
        return True
    return False


def _list_authors(repository: Path, base: str, commit: str) -> tuple[str, ...]:
    """Return the authors and committers from the base (without it) to the commit, each by the address.

    Git takes any bytes for it. One without an address is listed by the name, so that no commit is without an author.
    """
    span = f"{base}..{commit}" if base else commit
    output = _git(repository, "log", "--format=%ae%x00%an%n%ce%x00%cn", span)
    pairs = (line.partition("\0") for line in output.split("\n") if "\0" in line)
    return tuple(sorted({_show(address.strip() or name.strip() or "?").lower() for address, _, name in pairs}))


def _show(text: str) -> str:
    """Return a text of git as it is stored and printed: other bytes than UTF-8, and control characters, as `\\xf6`."""
    plain = text.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(letter if not _is_control(letter) else f"\\x{ord(letter):02x}" for letter in plain)


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs")


def _read_files(repository: Path, commit: str, folder: str) -> tuple[dict[str, bytes], frozenset[str], tuple[str, ...]]:
    """Return the files of a commit below a folder by their paths, those that are executable, and what is skipped."""
    tree = f"{commit}:{folder}" if folder else commit
    try:
        listing = _git(repository, "ls-tree", "-r", "-z", "-l", "--full-tree", tree)
    except TidemillError:
        raise NotFound(
            f"the commit {commit[:12]} has no folder {folder!r}", "check [ci] folder in tidemill.toml"
        ) from None
    wanted: dict[str, str] = {}
    executable, skipped, total = set[str](), [], 0
    for entry in filter(None, listing.split("\0")):
        facts, _, path = entry.partition("\t")
        mode, _, identifier, size = facts.split()
        if mode in (_LINK, _SUBMODULE) or not _is_plain(path):
            skipped.append(_show(path))
            continue
        total += int(size)
        if int(size) > _MAX_FILE or total > _MAX_FILES:
            raise InputError(
                f"the files of the commit {commit[:12]} are too large: {path}", "store data outside the repository"
            )
        wanted[path] = identifier
        if mode == "100755":
            executable.add(path)
    return _read_objects(repository, wanted), frozenset(executable), tuple(sorted(skipped))


def _is_plain(path: str) -> bool:
    """Return whether a file can have a path on each machine, and in each package."""
    if any(_is_control(letter) for letter in path):  # also bytes that are not UTF-8
        return False
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts and ".git" not in {part.lower() for part in parts}


def _read_objects(repository: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    if not wanted:
        return {}
    request = "\n".join(dict.fromkeys(wanted.values())) + "\n"
    content = _run(repository, ("cat-file", "--batch"), request.encode())
    objects, start = dict[str, bytes](), 0
    while start < len(content):
        end = content.index(b"\n", start)
        identifier, _, size = content[start:end].decode().split()
        objects[identifier] = content[end + 1 : end + 1 + int(size)]
        start = end + 2 + int(size)
    return {path: objects[identifier] for path, identifier in sorted(wanted.items())}


def _git(folder: Path | None, *arguments: str, text: str = "") -> str:
    return _run(folder, arguments, text.encode()).decode(errors="surrogateescape")


def _run(folder: Path | None, arguments: tuple[str, ...], sent: bytes = b"") -> bytes:
    """Run git without prompts, hooks and protocols that are not allowed, and return its output.

    Raises
    ------
    Transient
        if git failed because of the network, or did not end.
    TidemillError
        if git failed for another reason, or is not installed.
    """
    allowed = [f"protocol.{name}.allow=always" for name in ("https", "ssh", "file")]
    options = [option for setting in (*_SAFE, *allowed) for option in ("-c", setting)]
    hidden = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_QUARANTINE_PATH")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    variables |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
    variables.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    where = ("-C", str(folder)) if folder is not None else ()
    try:
        process = subprocess.run(
            ["git", *where, *options, *arguments],
            input=sent,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=variables,
        )
    except FileNotFoundError:
        raise TidemillError("git is not installed", "install git with the package manager of this machine") from None
    except subprocess.TimeoutExpired:
        raise Transient(f"git {arguments[0]} did not end within {_SECONDS} s", "check the network") from None
    if process.returncode == 0:
        return process.stdout
    lines = [line for line in process.stderr.decode(errors="replace").splitlines() if line.strip()]
    reason = _CREDENTIALS.sub("//***@", lines[0]) if lines else f"exit status {process.returncode}"
    verb = next((word for word in arguments if not word.startswith("-") and "=" not in word), "")
    problem = f"git {verb} failed: {reason}"
    is_temporary = any(sign in " ".join(lines) for sign in ("Could not resolve host", "Connection", "timed out"))
    kind = Transient if is_temporary else TidemillError
    raise kind(problem, "check the address and the access to the repository: [ci] remote in tidemill.toml")
