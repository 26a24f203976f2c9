"""The pages of the documentation, and the fenced blocks in them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = (README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line at which it begins."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    """How a page is called in a test's name."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    found = [Block(one[1], one[2], text.count("\n", 0, one.start()) + 2) for one in _FENCE.finditer(text)]
    return [block for block in found if block.language == language]


def marked(page: Path, mark: str) -> str:
    """The text of the block that follows the comment `<!-- mark -->`."""
    _, comment, after = page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    block = _FENCE.match(after)
    assert comment, f"{name_of(page)} has no mark {mark!r}"
    assert block, f"no block follows the mark {mark!r}"
    return block[2]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))
