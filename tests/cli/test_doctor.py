"""`tidemill doctor`, as users type it."""

from pathlib import Path

import pytest

from tests.projects import listed, make_project, tidemill


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run and a backup."""
    folder = tmp_path_factory.mktemp("shop")
    make_project(folder)
    tidemill(folder, "run", "ingestion")
    tidemill(folder, "backup", str(folder / "b.tar"))
    return folder


def test_the_doctor_names_and_mends_from_a_backup(shop: Path) -> None:
    assert "nothing is damaged" in tidemill(shop, "doctor").stdout
    blob = next(file for file in (shop / ".tidemill/blobs").glob("??/*") if file.is_file())
    content = blob.read_bytes()
    blob.write_bytes(b"")
    message = tidemill(shop, "doctor", code=1)
    assert f"blobs {blob.name} (damaged)" in message.stdout
    assert "--backup FILE" in message.stdout
    assert "1 damaged objects remain" in message.stderr
    assert "add --mend" in tidemill(shop, "doctor", "--backup", str(shop / "b.tar"), code=2).stderr
    message = tidemill(shop, "doctor", "--mend", "--backup", str(shop / "b.tar"))
    assert "mended: copied from the backup" in message.stdout
    assert blob.read_bytes() == content
    assert listed(shop, "doctor") == []
