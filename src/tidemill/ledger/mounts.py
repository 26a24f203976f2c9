"""File systems: SQLite needs a local one, because its write-ahead log uses memory that its processes share."""

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
def require_local_disk(folder: Path) -> None:
    """Raise `TidemillError` if the folder is on a network file system."""
    kind = find_file_system_type(folder, MOUNTS.read_text(errors="surrogateescape") if MOUNTS.exists() else "")
    if _NETWORK.fullmatch(kind):
        raise TidemillError(
            f"{folder} is on a network file system ({kind}), where SQLite can lose data",
            "use a folder on a local disk, TIDEMILL_WORKSPACE=FOLDER, or a ledger on a server,"
            " TIDEMILL_LEDGER=postgresql://USER@HOST/DATABASE",
        )


def find_file_system_type(folder: Path, mounts: str) -> str:
    """Return the type of the file system of a folder, from the text of Linux's mountinfo; empty if unknown.

    >>> mounts = "22 1 8:1 / / rw - ext4 /dev/a rw\\n30 22 0:9 / /mnt/team rw - nfs4 a:/ rw"
    >>> find_file_system_type(Path("/mnt/team/flights"), mounts)
    'nfs4'
    """
    path, nearest, kind = folder.resolve(), -1, ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescaped(before.split(" ")[4]))
        # A later mount at the same mount point hides an earlier one.
        if path.is_relative_to(point) and len(point.parts) >= nearest:
            nearest, kind = len(point.parts), after.split(" ")[0]
    return kind


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
