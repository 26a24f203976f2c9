"""Pages are correct: links exist, examples run, policies are valid, commands and packages exist."""

import doctest
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import typer

from tests.docs.pages import PAGES, README, ROOT, blocks, marked, name_of, prose
from tidemill import errors
from tidemill.cli.main import command_line, main
from tidemill.core.check import Action, Outcome
from tidemill.project.configuration import read_policy
from tidemill.project.example import write_example
from tidemill.project.guessing import guess_columns
from tidemill.project.starting import write_project
from tidemill.testing.kit import Expectations

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def _anchors(page: Path) -> set[str]:
    """The link targets that a Git host gives the headings of a page."""
    titles = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in _anchors(target), f"{name_of(page)}: {link}"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text("utf-8"))}
    assert set((ROOT / "docs").rglob("*.md")) - linked == {index}


@pytest.mark.parametrize("page", _pages_with("python"), ids=name_of)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in order, in one namespace and an empty folder; prompts are doctests.

    Commands after the comment `<!-- run -->` run first.
    """
    monkeypatch.chdir(tmp_path)
    if "<!-- run -->" in page.read_text(encoding="utf-8"):
        for line in marked(page, "run").splitlines():
            assert main(shlex.split(line.removeprefix("tidemill "))) == 0, line
    space: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        place = f"{name_of(page)}, line {block.line}"
        if ">>>" in block.text:
            test = doctest.DocTestParser().get_doctest(block.text, space, place, name_of(page), block.line - 1)
            message: list[str] = []
            outcome = doctest.DocTestRunner(verbose=False).run(test, out=message.append, clear_globs=False)
            assert not outcome.failed, "".join(message)
            space |= test.globs
        else:
            exec(compile(block.text, place, "exec"), space)


@pytest.fixture(scope="module")
def policy_of_a_new_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tidemill.data.tables import read_table

    folder = tmp_path_factory.mktemp("docs") / "mine"
    table = write_example(folder)
    write_project(folder, guess_columns(read_table(table), "late"), table)
    return folder / "tidemill.toml"


@pytest.mark.parametrize("page", _pages_with("toml"), ids=name_of)
def test_passages_of_a_policy_are_read(page: Path, tmp_path: Path, policy_of_a_new_project: Path) -> None:
    for block in blocks(page, "toml"):
        passage = tmp_path / "tidemill.toml"
        if block.text.startswith("# tests/expectations.toml\n"):
            msgspec.toml.decode(block.text, type=Expectations)
            continue
        passage.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
        read_policy(passage, policy_of_a_new_project)


def _commands(of: typer.Typer, path: str = "tidemill") -> Iterator[str]:
    for one in of.registered_commands:
        assert one.callback is not None
        yield f"{path} {one.name or one.callback.__name__.replace('_', '-')}"
    for group in of.registered_groups:
        assert group.typer_instance is not None
        yield from _commands(group.typer_instance, f"{path} {group.name}")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    """Every `tidemill …` in a shell block, or between backticks where it begins with a command."""
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    known = set(_commands(command_line()))
    shell = "\n".join(block.text for block in blocks(page, "sh"))
    lines = re.findall(r"(?:^|&& |; )(tidemill [^\n#&|;]*)", shell, re.MULTILINE)
    lines += re.findall(r"`(tidemill [a-z][^`]*)`", prose(page))
    for line in lines:
        words = line.split()
        name = next((" ".join(words[:size]) for size in (3, 2) if " ".join(words[:size]) in known), None)
        assert name, f"{name_of(page)}: {line}"
        about = reference.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
        for option in (word for word in words if word.startswith("-") and word != "-"):
            assert re.search(rf"[`/]{option}[`/]", about), f"{name_of(page)}: {line}: no {option}"


def test_made_pages_are_as_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make-docs"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_error_is_in_the_tree() -> None:
    page = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert [kind.__name__ for kind in kinds if not re.search(rf"\b{kind.__name__} ", page)] == []


def test_the_site_has_every_page() -> None:
    """The navigation of the site names each page once, and nothing else."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    listed = [page for entry in nav for page in _pages_of(entry)]
    pages = {name_of(page) for page in PAGES} | {"benchmarks/README.md"}
    assert sorted(listed) == sorted(pages)


def _pages_of(entry: dict[str, object]) -> Iterator[str]:
    for value in entry.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            for inner in value:
                yield from _pages_of(inner)


@pytest.mark.parametrize("page", ["architecture", "contributing"])
def test_files_of_the_package_exist(page: str) -> None:
    """What stands between backticks with a slash is a file or a folder of src/tidemill, tests or docs."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    proposed = re.compile(r"^(\|[^|]+\|)[^|]+(?=\|.+\|$)", re.MULTILINE)  # files that do not exist yet
    before, table, after = text.partition("| X | new files | edited files |")
    for path in re.findall(r"`([\w.]+/[\w./]*)`", before + table + proposed.sub(r"\1", after)):
        bases = (ROOT / "src" / "tidemill", ROOT)
        found = any((base / end).exists() for base in bases for end in (path, f"{path}.py"))
        assert found, f"docs/{page}.md: {path}"


def test_the_floors_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    floors = [[room.strip() for room in layer.split("|")] for layer in layers]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    reported = [[room.rstrip("/") for room in re.findall(r"(?:^|· )`([\w/]+)`", row)] for _, row in rows]
    assert reported == floors
    assert [int(floor) for floor, _ in rows] == list(range(len(floors), 0, -1))
    drawn = re.findall(
        r'class="name"[^>]*>(\w+)<', (ROOT / "docs" / "images" / "floors.svg").read_text(encoding="utf-8")
    )
    assert drawn == [room for floor in floors for room in floor]


def test_every_outcome_and_action_is_explained() -> None:
    page = (ROOT / "docs" / "reference" / "events-and-verdicts.md").read_text(encoding="utf-8")
    assert [word for word in (*get_args(Outcome), *get_args(Action)) if f"`{word}`" not in page] == []


def test_the_first_commands_are_demo_and_test() -> None:
    assert blocks(README, "sh")[0].text.split("\n") == ["make demo", "make test", ""]
    assert marked(README, "demo-summary").strip()
