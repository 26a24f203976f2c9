"""A run keeps to the code that it began with: an edit while it runs neither changes nor spoils what the cache has."""

import importlib
import sys
from pathlib import Path

import pytest

from tests.flow.kit import Mill
from tidemill.core.pipeline import Pipeline

SOURCE = """
from pathlib import Path
from tidemill import step

@step
def begin(text: str) -> str:
    if text:
        Path(__file__).write_text(text)
    return "begun"

@step
def end(after: str) -> int:
    return 1
"""


def test_an_edit_while_a_run_is_at_work_is_not_taken_for_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "edited_steps.py").write_text(SOURCE)
    edited = SOURCE.replace("return 1", "return 2")

    mill = Mill(tmp_path / "project")

    def values(text: str) -> tuple[str, bytes]:
        sys.modules.pop("edited_steps", None)
        importlib.invalidate_caches()
        steps = importlib.import_module("edited_steps")

        def go(text: str) -> None:
            steps.end(steps.begin(text))

        done = mill.run(Pipeline(go), text=text)
        return mill.states(done)["end"], mill.value(done, "end")

    assert values(edited) == ("ran", b"1")
    assert values("") == ("ran", b"2")
    (tmp_path / "edited_steps.py").write_text(SOURCE)
    assert values("") == ("cached", b"1")
    sys.modules.pop("edited_steps", None)
