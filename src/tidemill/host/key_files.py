"""The file of the private key of a project, for processes that start elsewhere, such as in a container."""

import os
import re
from pathlib import Path

from tidemill.credentials import fill_secrets
from tidemill.errors import ConfigurationError, InputError

KEY_VARIABLE = "TIDEMILL_SIGNING_KEY_FILE"
"""Names the file of the private key in a process that Tidemill starts elsewhere; it wins over `[signing] key`."""
BEGIN = "-----BEGIN "
_REFERENCE = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")


def find_key_file(setting: str, folder: Path) -> Path | None:
    """Return the file that has the key of the setting `[signing] key`; None if there is none on this machine.

    A relative path is in `folder`, that of the project.

    Raises
    ------
    ConfigurationError
        if the key is the text of an environment variable: a text is not given to other processes.
    """
    if own := os.environ.get(KEY_VARIABLE, ""):
        return Path(own)
    if not setting or setting.lstrip().startswith(BEGIN):
        return None
    try:
        text = fill_secrets(setting, "key under [signing]")
    except ConfigurationError:  # there is none here; where one is demanded, a training names what is missing
        return None
    if text.startswith(BEGIN):
        text = _find_secret_file(setting)
    return Path(os.path.abspath(folder / Path(text).expanduser())) if text else None  # noqa: PTH100 - it keeps links


def require_key_for(file: Path, root: Path) -> Path:
    """Return a key's file that a container gets, whose user is the owner of the workspace in `root`.

    Raises
    ------
    InputError
        if the file does not exist, is in the workspace, or that user cannot read it.
    """
    if not file.is_file():
        raise InputError(f"the key {file}, which the deployment needs, is not a file", "check `key` under [signing]")
    if file.resolve().is_relative_to(root.resolve()):
        raise InputError(f"the key {file} is in the workspace, whose backups would contain it", "move it elsewhere")
    owner, status = root.stat(), file.stat()
    is_readable = (
        owner.st_uid == 0
        or (status.st_uid == owner.st_uid and status.st_mode & 0o400)
        or (status.st_uid != owner.st_uid and status.st_gid == owner.st_gid and status.st_mode & 0o040)
        or (status.st_uid != owner.st_uid and status.st_gid != owner.st_gid and status.st_mode & 0o004)
    )
    if not is_readable:
        raise InputError(
            f"the user {owner.st_uid}, who owns the workspace and runs the container, cannot read the key {file}",
            f"give it to that user: `chown {owner.st_uid} {file}`",
        )
    return file


def _find_secret_file(setting: str) -> str:
    """Return the file of a secret that is the key itself; empty if a plug-in has it, which the other process asks."""
    match = _REFERENCE.fullmatch(setting)
    if match and match[2] is None and match[1] not in os.environ:
        return os.environ.get(f"{match[1]}_FILE", "")
    if match and match[1] == "file":
        return str(match[2])
    if match and match[2] is not None:
        return ""
    raise ConfigurationError(
        "the private key is the text of an environment variable, which is given to no deployment",
        'keep it in a file: key = "${file:/etc/keys/signing.pem}" under [signing], or set NAME_FILE in place of NAME',
    )
