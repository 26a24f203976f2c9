"""Artifacts: writing, reading, checking and refusing values; tests/conformance tests each codec and each store."""

import collections.abc
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Annotated, Any, Literal, Protocol, TypeVar

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

from tidemill.blobs.artifacts import explain_refusal, is_intact, list_members, read_artifact, write_artifact
from tidemill.blobs.store import Blobs, DiskBlobs, MemoryBlobs
from tidemill.core.artifact import Artifact, Report
from tidemill.core.check import Verdict
from tidemill.core.model import Manifest, Model, Signature
from tidemill.errors import Corrupt, NotFound, TidemillError

FRAME = pl.DataFrame({"wind": [1.5, None], "name": ["Zürich", ""]})
MODEL = Model(
    manifest=Manifest(name="late", flavor="f", signature=Signature(inputs=(), task="regression")),
    files={"model.txt": b"tree"},
)
VERDICT = Verdict(check="gate", subject="late", outcome="pass", action="proceed", reason="good")
T = TypeVar("T")


class Plain:
    """An instance of a class without declared fields."""


class AbstractType(Protocol):
    def run(self) -> int: ...


@dataclass
class Place:
    name: str


@dataclass
class Prepared:
    rows: pl.DataFrame | None


def numbers() -> Generator[int, None, None]:
    yield 1


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return DiskBlobs(tmp_path / "blobs")


def alter(blobs: Blobs, digest: str, tmp_path: Path) -> None:
    (file,) = tmp_path.rglob(digest)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


@pytest.mark.parametrize("value", [1, "tide", b"tide", None, {"a": [1, 2]}, Place("Zürich"), MODEL, Report(html="<p>")])
def test_a_value_is_read_as_it_was_written(blobs: Blobs, value: Any) -> None:
    artifact = write_artifact(blobs, value)
    assert read_artifact(blobs, artifact, type(value)) == value
    assert artifact.size == len(blobs.get(artifact.digest))
    assert write_artifact(blobs, value) == artifact
    assert is_intact(blobs, artifact)
    assert list_members(blobs, artifact) == []


def test_each_frame_of_a_list_is_a_blob(blobs: Blobs) -> None:
    frames = [FRAME, FRAME.head(1), FRAME]
    artifact = write_artifact(blobs, frames)
    assert (artifact.kind, artifact.summary["items"]) == ("list", 3)
    first, second, third = list_members(blobs, artifact)
    assert first == third == write_artifact(blobs, FRAME)
    assert read_artifact(blobs, second, pl.DataFrame).equals(FRAME.head(1))
    found = read_artifact(blobs, artifact, list[pd.DataFrame])
    assert [type(frame) for frame in found] == [pd.DataFrame] * 3
    assert [frame.shape for frame in found] == [(2, 2), (1, 2), (2, 2)]


def test_tuples_dicts_and_lists_may_contain_any_supported_value(blobs: Blobs) -> None:
    value = {"rows": FRAME, "deep": [MODEL, 1, {"x": np.array([1.5])}], "name": "Zürich"}
    artifact = write_artifact(blobs, value)
    assert artifact.kind == "dict"
    assert {member.kind for member in list_members(blobs, artifact)} == {"frame", "list", "text"}
    found = read_artifact(blobs, artifact, dict[str, Any])
    assert found["rows"].equals(FRAME)
    assert found["deep"][:2] == [MODEL, 1]
    assert found["deep"][2]["x"] == [1.5]
    assert write_artifact(blobs, dict(reversed(value.items()))).digest == artifact.digest
    pair = read_artifact(blobs, write_artifact(blobs, (FRAME, "late")), tuple[pd.DataFrame, str])
    assert (type(pair), type(pair[0]), pair[1]) == (tuple, pd.DataFrame, "late")


@pytest.mark.parametrize(
    "annotation",
    [list[pd.DataFrame], list[pd.DataFrame] | None, Annotated[list[pd.DataFrame], "folds"], list, Any],
    ids=str,
)
def test_a_list_of_frames_is_read_as_its_annotation(blobs: Blobs, annotation: Any) -> None:
    (found,) = read_artifact(blobs, write_artifact(blobs, [FRAME]), annotation)
    assert type(found) is (pl.DataFrame if annotation in (list, Any) else pd.DataFrame)
    (found,) = read_artifact(blobs, write_artifact(blobs, {"fold": FRAME}), dict[str, pd.DataFrame] | None).values()
    assert type(found) is pd.DataFrame


def test_verdicts_are_marked_in_the_summary(blobs: Blobs) -> None:
    assert write_artifact(blobs, VERDICT).summary["judges"]
    assert write_artifact(blobs, [VERDICT, VERDICT]).summary["judges"]
    assert write_artifact(blobs, [FRAME, VERDICT]).summary["judges"]
    assert "judges" not in write_artifact(blobs, [FRAME]).summary
    assert "judges" not in write_artifact(blobs, []).summary


def test_a_missing_or_altered_artifact_is_repaired_by_writing_it_again(blobs: Blobs, tmp_path: Path) -> None:
    value = [FRAME, FRAME.head(1)]
    artifact = write_artifact(blobs, value)
    member = list_members(blobs, artifact)[1]
    alter(blobs, member.digest, tmp_path)
    assert not is_intact(blobs, artifact)
    with pytest.raises(Corrupt):
        read_artifact(blobs, artifact, list[pl.DataFrame])
    blobs.delete(artifact.digest)
    assert not is_intact(blobs, artifact)
    with pytest.raises(NotFound):
        read_artifact(blobs, artifact, list[pl.DataFrame])
    assert write_artifact(blobs, value) == artifact
    assert is_intact(blobs, artifact)


@pytest.mark.parametrize("library", ["polars", "pandas", "pyarrow", "numpy"])
def test_a_large_value_is_written_through_a_file(blobs: Blobs, library: str) -> None:
    numbers = np.random.default_rng(1).random(500_000)
    frame = pl.DataFrame({"x": numbers})
    values = {"polars": frame, "pandas": pd.DataFrame({"x": numbers}), "pyarrow": frame.to_arrow(), "numpy": numbers}
    artifact = write_artifact(blobs, values[library])
    assert artifact.size > 3_000_000
    assert is_intact(blobs, artifact)
    found = read_artifact(blobs, artifact, Any)
    assert type(found) is type(values[library])
    assert np.array_equal(np.asarray(found if library == "numpy" else found["x"]), numbers)


def test_a_transient_artifact_is_never_intact(blobs: Blobs) -> None:
    assert not is_intact(blobs, Artifact(id="0" * 64, kind="transient", size=0, transient=True))


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("late", int),
        (1, str),
        ({"a": 1}, Place),
        (FRAME, dict[str, int]),
        (FRAME, pd.Series),
        (FRAME, np.ndarray),
        (np.array([1]), pl.DataFrame),
        ([FRAME], pl.DataFrame),
        ([FRAME], dict[str, pl.DataFrame]),
        ([FRAME], list[int]),
        (MODEL, Report),
        (1, pl.DataFrame),
        (1, Plain),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_value_that_does_not_fit_the_annotation_is_an_error(blobs: Blobs, value: Any, annotation: Any) -> None:
    with pytest.raises(TidemillError, match="cannot be read as") as error:
        read_artifact(blobs, write_artifact(blobs, value), annotation)
    assert "annotations" in error.value.cure


@pytest.mark.parametrize(
    "annotation", [Any, object, pl.DataFrame, pl.DataFrame | None, Annotated[pl.DataFrame, "wide"]]
)
def test_a_frame_is_read_with_a_compatible_annotation(blobs: Blobs, annotation: Any) -> None:
    assert read_artifact(blobs, write_artifact(blobs, FRAME), annotation).equals(FRAME)


def test_any_artifact_can_be_read_as_bytes(blobs: Blobs) -> None:
    for value in ("late", FRAME, [1, 2]):
        artifact = write_artifact(blobs, value)
        assert read_artifact(blobs, artifact, bytes) == blobs.get(artifact.digest)
    assert read_artifact(blobs, write_artifact(blobs, b"[1,2]"), list[int]) == [1, 2]


def nested() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (numbers(), "return a list: list(…)"),
        (map(str, [1]), "return a list: list(…)"),
        (range(3), "return a list: list(…)"),
        (FRAME.lazy(), ".collect()"),
        (FRAME["wind"], ".to_frame()"),
        (Path("late"), "str(path)"),
        (threading.Lock(), "in the step that uses it"),
        (numbers, "return what it computes"),
        (print, "return what it computes"),
        (sys, "import it"),
        (Plain, "return its name"),
        (Plain(), "tidemill.codecs"),
        (1j, "tidemill.codecs"),
        (LinearRegression(), "package it as a Model"),
        (lightgbm.LGBMRegressor(), "package it as a Model"),
        ({"a": numbers()}, "return a list: list(…)"),
        ([FRAME, Plain()], "tidemill.codecs"),
        ({1: FRAME}, "convert all keys to text"),
        ({1: "a", "1": "b"}, "convert all keys to text"),
        (nested(), "flattened"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_error_for_an_unsupported_value_has_a_cure(value: Any, cure: str) -> None:
    blobs = MemoryBlobs()
    with pytest.raises(TidemillError) as error:
        write_artifact(blobs, value)
    assert cure in error.value.cure
    assert "\n" not in str(error.value)


def test_an_open_file_is_refused(blobs: Blobs, tmp_path: Path) -> None:
    with (tmp_path / "late").open("w") as file, pytest.raises(TidemillError, match="an open file"):
        write_artifact(blobs, file)


@pytest.mark.parametrize(
    "annotation",
    [
        *(
            Generator[int, None, None],
            Iterator[int],
            collections.abc.AsyncIterator[int],
            Callable[[int], int],
            Callable,
        ),
        *(IO[str], ModuleType, Plain, type[Plain], list[Plain], dict[str, Iterator[int]], tuple[int, Plain]),
        *(pl.LazyFrame, pl.Series, Path, Iterator[int] | None, Annotated[Iterator[int], "x"], complex, range),
        *(LinearRegression, lightgbm.Booster, Prepared),
    ],
    ids=str,
)
def test_an_unsupported_return_annotation_is_refused(annotation: Any) -> None:
    assert ":" in explain_refusal(annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        *(Any, None, object, T, "Later", int, str | None, int | Iterator[int], bool, bytes, Literal["a"], Place),
        *(list[pl.DataFrame], dict[str, pd.DataFrame], tuple[Model, ...], tuple[()], pl.DataFrame, pd.Series),
        *(
            collections.abc.Sequence[int],
            collections.abc.Iterable[int],
            AbstractType,
            np.ndarray,
            Verdict,
            Report,
            Model,
        ),
    ],
    ids=str,
)
def test_a_supported_return_annotation_is_accepted(annotation: Any) -> None:
    assert explain_refusal(annotation) == ""


def test_a_plain_value_imports_no_frame_library(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tidemill.blobs.artifacts import write_artifact, read_artifact\n"
        "from tidemill.blobs.store import open_blobs\n"
        "blobs = open_blobs(sys.argv[1])\n"
        "for value in (1, 'late', {'a': [1.5]}, b'tide'):\n"
        "    assert read_artifact(blobs, write_artifact(blobs, value), type(value)) == value\n"
        "print(sorted({'polars', 'pandas', 'pyarrow', 'numpy', 'obstore', 'plotly'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
