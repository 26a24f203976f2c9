"""The entries of the log of a Delta table."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tidemill.journal.table_files import TableFiles


def find_name(path: str) -> str:
    """Return the name of the file at a path of the log."""
    return unquote(path).rpartition("/")[2]


def read_actions(log: Path) -> list[dict[str, Any]]:
    """Return the actions of an entry."""
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def forget_statistics(log: Path, files: set[str], sums: TableFiles) -> None:
    """Remove the minimum and maximum values of files from an entry of the log, atomically."""
    actions = read_actions(log)
    additions = [
        a["add"] for a in actions if "add" in a and a["add"].get("stats") and find_name(a["add"]["path"]) in files
    ]
    if not additions:
        return
    for add in additions:
        del add["stats"]
    content = "".join(f"{json.dumps(action, ensure_ascii=False)}\n" for action in actions).encode()
    sums.announce(f"{log.parent.name}/{log.name}", content)
    draft = log.with_name(f".{log.name}.draft")
    draft.write_bytes(content)
    draft.replace(log)
