"""The program that a container of the engine `container` starts: performs tasks from its standard input.

It gets the version of Python and the digest of Tidemill's code on the other side as arguments. If these differ here,
it exits before it imports Tidemill, whose code may lack what follows: until then it needs the standard library only.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path

DIFFERENT = 96
"""The exit code of a container whose Python or Tidemill differs; the last line that it prints names both."""


def digest_code() -> str:
    """Return the digest of the code of the Tidemill that this Python would import; empty if there is none."""
    found = importlib.util.find_spec("tidemill")
    if found is None or not found.submodule_search_locations:
        return ""
    root = Path(next(iter(found.submodule_search_locations)))
    files = sorted(file for file in root.rglob("*.py") if "__pycache__" not in file.parts)
    content = hashlib.sha256()
    for file in files:
        content.update(f"{file.relative_to(root)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]


def main(python: str, tidemill: str) -> None:
    """Perform tasks until the standard input ends."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if (own, digest_code()) != (python, tidemill):
        print(f"Python {own}, Tidemill {digest_code() or 'none'}", file=sys.stderr, flush=True)
        sys.exit(DIFFERENT)
    from tidemill.flow.engines.container_worker import work

    work()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
