"""Which kind of file system a path is on: a write-ahead log needs memory that all its processes share."""

import re
from functools import cache
from pathlib import Path

from tidemill.errors import TidemillError

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"9p|(fuse\.)?(afs|beegfs|ceph|cephfs|davfs|gcsfuse|glusterfs|lustre|rclone|s3fs|sshfs)|cifs|coda|gpfs|ncpfs|nfs4?"
    r"|ocfs2|orangefs|pvfs2|smb[23]|smbfs"
)


@cache
def refuse_network(folder: Path) -> None:
    """Raise `TidemillError` where the folder is on a file system that other machines share."""
    kind = kind_of(folder, MOUNTS.read_text(errors="surrogateescape") if MOUNTS.exists() else "")
    if _NETWORK.fullmatch(kind):
        raise TidemillError(
            f"{folder} is on a network file system ({kind}), on which SQLite would lose what is written",
            "keep the state on a local disk, TIDEMILL_WORKSPACE=FOLDER, or the ledger on a server,"
            " TIDEMILL_LEDGER=postgresql://USER@HOST/DATABASE",
        )


def kind_of(folder: Path, mounts: str) -> str:
    """The type of the file system at the nearest mount point, from the text of Linux's mountinfo; empty if unknown.

    >>> kind_of(Path("/mnt/team/flights"), "22 1 8:1 / / rw - ext4 /dev/a rw\\n30 22 0:9 / /mnt/team rw - nfs4 a:/ rw")
    'nfs4'
    """
    place, nearest, kind = folder.resolve(), -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescaped(before.split(" ")[4]))
        # Of two at the same point the later one hides the earlier.
        if place.is_relative_to(point) and len(point.parts) >= nearest:
            nearest, kind = len(point.parts), after.split(" ")[0]
    return kind


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
