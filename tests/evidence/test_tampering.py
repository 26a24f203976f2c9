"""Every change of an evidence file is found offline."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evidence.archives import Files, read
from tests.projects import tidemill
from tidemill.errors import Corrupt
from tidemill.evidence.export.archive import build_archive, check_archive
from tidemill.evidence.export.seal import SIGNATURE, STATEMENT, seal_files


def change_a_byte(files: Files) -> Files:
    return files | {"records/verdicts.json": files["records/verdicts.json"].replace(b"pass", b"fail", 1)}


def remove_a_file(files: Files) -> Files:
    return {name: content for name, content in files.items() if name != "records/routes.json"}


def add_a_file(files: Files) -> Files:
    return files | {"records/extra.json": b"{}"}


def remove_the_signature(files: Files) -> Files:
    return {name: content for name, content in files.items() if name != SIGNATURE}


def change_the_statement(files: Files) -> Files:
    changed = change_a_byte({name: content for name, content in files.items() if name not in (STATEMENT, SIGNATURE)})
    return changed | {SIGNATURE: files[SIGNATURE]} | seal_files(changed, {"release": "shop/1"}, None)


TAMPERED: list[tuple[Callable[[Files], Files], str]] = [
    (change_a_byte, "changed: records/verdicts.json"),
    (remove_a_file, "missing: records/routes.json"),
    (add_a_file, "added: records/extra.json"),
    (remove_the_signature, "signature.json is missing"),
    (change_the_statement, "signature.json is about another manifest.json"),
]


@pytest.mark.parametrize(("tamper", "message"), TAMPERED, ids=lambda value: getattr(value, "__name__", ""))
def test_every_change_is_found_and_named(
    exported: Path, keys: Path, tmp_path: Path, tamper: Callable[[Files], Files], message: str
) -> None:
    file = tmp_path / "tampered.zip"
    file.write_bytes(build_archive(tamper(read(exported))))
    words = ("evidence", "verify", str(file), "--public-key", str(keys / "a.pub.pem"))
    assert message in tidemill(tmp_path, *words, code=1).stdout


def test_a_second_file_with_the_same_name_is_found(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "doubled.zip"
    file.write_bytes(exported.read_bytes())
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("index.html", b"another page")
    found = check_archive(file)
    assert found.added == ("index.html",)
    assert not found.intact


def test_bytes_outside_the_files_and_changed_bytes_in_place_are_found(exported: Path, tmp_path: Path) -> None:
    file = tmp_path / "longer.zip"
    file.write_bytes(b"MZ" + exported.read_bytes())
    assert not check_archive(file).intact
    content = exported.read_bytes()
    heading = b"<h1>Evidence of shop/"
    file.write_bytes(content.replace(heading + b"1", heading + b"2"))
    assert check_archive(file).changed == ("index.html",)
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(Corrupt, match="is no archive"):
        check_archive(file)


def test_another_signer_cannot_pass_as_the_first(exported: Path, keys: Path, tmp_path: Path) -> None:
    files = {name: content for name, content in read(exported).items() if name not in (STATEMENT, SIGNATURE)}
    resigned = files | seal_files(files, {"release": "shop/1"}, keys / "b.pem")
    file = tmp_path / "resigned.zip"
    file.write_bytes(build_archive(resigned))
    assert check_archive(file).signature == "unproven"
    assert check_archive(file, (keys / "a.pub.pem").read_bytes()).signature == "invalid"
