"""One bad item costs one item: files before and after it are ingested, and it is named with its cure."""

import gzip
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidemill.compose.session import open_session
from tidemill.core.check import SchemaEvidence
from tidemill.flow.engine import resume, run
from tidemill.flow.session import Session
from tidemill.project.project import Project

LIMIT = "max_rows = 100_000\nmax_memory_mb = 100\n"
KEYED = 'key = ["id"]\n'
ROWS = "id,x\n{0},1.5\n{1},2.5\n"


def make_project(folder: Path, settings: str = LIMIT, path: str = "data/*") -> Session:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "tidemill.toml").write_text(
        f'[project]\nname = "items"\n[sources.rows]\npath = "{path}"\n{settings}[problem]\n'
        'decision = "d"\nsource = "rows"\nlabel = "x"\n'
    )
    (folder / "pipeline.py").write_text("from tidemill.recipes import ingestion\n")
    return open_session(Project(folder))


def write_good(folder: Path, name: str, first: int) -> None:
    (folder / "data" / name).write_text(ROWS.format(first, first + 1))


def ingest(session: Session) -> dict[str, str]:
    """Run an ingestion, and return the reason for which each file was stopped, or an empty text."""
    run(session, session.pipeline("ingestion"))
    verdicts = session.workspace.ledger.verdicts.find(check="schema")
    return {
        Path(verdict.read(SchemaEvidence).path).name: verdict.reason if verdict.stops else "" for verdict in verdicts
    }


def read_ids(session: Session) -> list[int]:
    tables = session.workspace.tables
    return sorted(tables.read("rows", tables.version("rows"))["id"].to_list())


def write_equal_rows(file: Path) -> None:
    rows = pa.table({"id": pa.array([7], pa.int64()), "x": pa.array([1.0])})
    group = pa.concat_tables([rows] * 1000).combine_chunks()
    with pq.ParquetWriter(file, group.schema) as writer:
        for _ in range(200):
            writer.write_table(group)


def write_long_texts(file: Path) -> None:
    text = "x" * 1_000_000
    table = pa.table(
        {"id": pa.array(range(200)), "x": pa.array([1.0] * 200), "text": [text + str(n) for n in range(200)]}
    )
    pq.write_table(table, file, compression="zstd", use_dictionary=True)


def write_workbook(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"<row/>" * 10_000_000)


def write_distant_cells(file: Path) -> None:
    """Write a workbook of 2 KB with cells in two corners of the largest sheet: its table has 17 billion cells."""
    office = "http://schemas.openxmlformats.org"
    kind, package = f"{office}/officeDocument/2006/relationships", f"{office}/package/2006"
    main, form = f"{office}/spreadsheetml/2006/main", "application/vnd.openxmlformats-officedocument.spreadsheetml"
    cells = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    relation = f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" Type="{kind}/'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{form}.sheet.main+xml"/></Types>',
        "_rels/.rels": f'{relation}officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{kind}"><sheets>'
        '<sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'{relation}worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def write_no_permission(file: Path) -> None:
    file.write_text("id,x\n")
    file.chmod(0)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "b-rows.parquet": (write_equal_rows, "has 200,000 rows, and a file of source 'rows' may have 100,000 (cure: split"),
    "b-texts.parquet": (write_long_texts, "max_memory_mb ="),
    "b-columns.parquet": (
        lambda file: pq.write_table(pa.table({f"c{number}": [1] for number in range(10_001)}), file),
        "has 10,001 columns",
    ),
    "b-columns.csv": (lambda file: file.write_text(",".join(f"c{n}" for n in range(10_001)) + "\n"), "10,001 columns"),
    "b-bomb.csv.gz": (
        lambda file: file.write_bytes(gzip.compress(b"id,x\n" + b"1,2\n" * 50_000_000, 1)),
        "has more than 100,000 rows",
    ),
    "b-line.csv": (lambda file: file.write_bytes(b"id,x\n" + b"1" * 20_000_000), "has a line of more than"),
    "b-many.csv": (lambda file: file.write_text("id,x\n" + "1,2\n" * 100_001), "has 100,002 rows"),
    "b-deep.json": (lambda file: file.write_text('[{"id": 1, "x": ' + "[" * 100_000 + "]" * 100_000 + "}]"), "deep"),
    "b-deep.jsonl": (lambda file: file.write_text('{"id": 1, "x": ' + '{"a":' * 5_000 + "1" + "}" * 5_001), "deep"),
    "b-book.xlsx": (write_workbook, "without compression"),
    "b-distant.xlsx": (write_distant_cells, "needs more than 100 MB of memory"),
    "b-short.csv": (
        lambda file: file.write_text(",".join(f"c{n}" for n in range(9_999)) + "\n" + "1\n" * 20_000),
        "line 2 of",
    ),
    "b-names.jsonl": (
        lambda file: file.write_text("".join(f'{{"k{n}": 1}}\n' for n in range(5_000))),
        "rows of 5,000 values",
    ),
    "b-names.json": (
        lambda file: file.write_text("[" + ",".join(f'{{"a": {{"k{n}": 1}}}}' for n in range(5_000)) + "]"),
        "rows of 5,001 values",
    ),
    "b-cut.parquet": (lambda file: file.write_bytes(b"PAR1" + b"\0" * 100), "cannot be read"),
    "b-footer.parquet": (
        lambda file: file.write_bytes(b"PAR1" + b"\0\xff\xff\xff\x7fPAR1"),
        "cannot be read",
    ),
    "b-folder.csv": (lambda file: file.mkdir(), "is a folder"),
    "b-pipe.csv": (os.mkfifo, "is no regular file"),
    "b-device.csv": (lambda file: file.symlink_to("/dev/zero"), "is no regular file"),
    "b-link.csv": (lambda file: file.symlink_to("missing.csv"), "is a link to a missing file"),
    "b-loop.csv": (lambda file: file.symlink_to(file.name), "link"),
    "b-nul.csv": (lambda file: file.write_bytes(b"\0" * 1000), "cannot be read"),
}
if os.getuid():  # root reads it
    BAD["b-permission.csv"] = (write_no_permission, "cannot be read")


def test_each_bad_file_is_named_and_the_others_are_ingested(tmp_path: Path) -> None:
    session = make_project(tmp_path)
    write_good(tmp_path, "a.csv", 1)
    for name, (write, _) in BAD.items():
        write(tmp_path / "data" / name)
    write_good(tmp_path, "c.csv", 3)
    reasons = ingest(session)
    assert set(reasons) == {"a.csv", "c.csv", *BAD}
    wrong = {
        name: reasons[name] for name, (_, reason) in BAD.items() if not reasons[name] or reason not in reasons[name]
    }
    assert wrong == {}
    assert read_ids(session) == [1, 2, 3, 4]


def test_a_larger_bound_lets_the_file_in_and_a_repaired_file_is_read_again(tmp_path: Path) -> None:
    session = make_project(tmp_path)
    write_good(tmp_path, "a.csv", 1)
    write_equal_rows(tmp_path / "data" / "b.parquet")
    (tmp_path / "data" / "c.csv").symlink_to(tmp_path / "other.csv")
    assert ingest(session)["b.parquet"]
    (tmp_path / "other.csv").write_text(ROWS.format(5, 6))
    session = make_project(tmp_path, "max_rows = 200_000\nmax_memory_mb = 100\n")
    assert [name for name, reason in ingest(session).items() if not reason] == ["a.csv", "b.parquet", "c.csv"]
    assert len(read_ids(session)) == 200_004


def test_a_file_that_changes_while_it_is_read_is_stopped_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make_project(tmp_path)
    write_good(tmp_path, "a.csv", 1)
    write_good(tmp_path, "b.csv", 3)
    before = Path.read_bytes

    def grow(file: Path) -> bytes:
        content = before(file)
        if file.name == "b.csv":
            with file.open("a") as end:
                end.write("5,1.0\n")
        return content

    monkeypatch.setattr(Path, "read_bytes", grow)
    assert "changed while it was read" in ingest(session)["b.csv"]
    monkeypatch.undo()
    assert ingest(session)["b.csv"] == ""
    assert read_ids(session) == [1, 2, 3, 4, 5]


def test_an_ingestion_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    session = make_project(tmp_path, KEYED)
    for number in range(600):
        write_good(tmp_path, f"{number:04}.csv", 2 * number)
    command = [sys.executable, "-m", "tidemill", "run", "ingestion"]
    fault = os.environ | {"TIDEMILL_FAULT": "piece is appended#2"}
    killed = subprocess.run(command, cwd=tmp_path, env=fault, capture_output=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    recorded = session.workspace.ledger.verdicts.find(check="schema")
    assert 0 < len(recorded) < 600, "the first piece is recorded"
    (record,) = session.workspace.ledger.runs.find(pipeline="ingestion")
    done, error = resume(session, record.id)
    assert error is None
    assert done.state == "done"
    verdicts = session.workspace.ledger.verdicts.find(check="schema")
    assert len({verdict.subject for verdict in verdicts}) == len(verdicts) == 600, "each file is judged once"
    assert read_ids(session) == list(range(1200))
    (step,) = session.workspace.ledger.steps.find(run=record.id, step="ingest", newest=True, limit=1)
    assert sum(map(len, step.verdicts.values())) == 600


def test_small_files_are_ingested_together(tmp_path: Path) -> None:
    session = make_project(tmp_path, KEYED)
    for number in range(300):
        write_good(tmp_path, f"{number:04}.csv", 2 * number)
    began = time.process_time()
    reasons = ingest(session)
    assert set(reasons.values()) == {""}
    assert session.workspace.tables.version("rows") < 20, "many files are one version of the table"
    print(f"{300 / (time.process_time() - began):.0f} files for each second of processor time")
