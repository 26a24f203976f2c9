"""The file of a private key that a container gets: found in each form of the setting, or refused with a cure."""

import os
from pathlib import Path

import pytest

from tests.keys import make_key
from tidemill.errors import ConfigurationError, InputError
from tidemill.host.key_files import find_key_file, require_key_for


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TIDEMILL_SIGNING_KEY_FILE", raising=False)
    (tmp_path / "project").mkdir()
    (tmp_path / "keys").mkdir()
    return make_key(tmp_path / "keys", "own", "p256")[0]


def test_the_file_is_found_in_each_form_of_the_setting(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    monkeypatch.setenv("OWN", str(key))
    monkeypatch.setenv("SECRET_FILE", str(key))
    monkeypatch.setenv("HOME", str(key.parent))
    for setting in (str(key), "../keys/own.pem", "~/own.pem", "${OWN}", "${SECRET}", f"${{file:{key}}}"):
        assert find_key_file(setting, project) == key, setting
    for setting in ("", "${ABSENT}", "${file:/nowhere/key.pem}"):
        assert find_key_file(setting, project) is None, setting
    monkeypatch.setenv("TIDEMILL_SIGNING_KEY_FILE", "/run/key.pem")
    assert find_key_file("${OWN}", project) == Path("/run/key.pem"), "a process that was given a key gives it on"


def test_a_key_that_is_a_text_is_given_to_nobody(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", key.read_text())
    with pytest.raises(ConfigurationError, match="text of an environment variable") as refused:
        find_key_file("${OWN}", tmp_path)
    assert "${file:" in refused.value.cure
    assert "PRIVATE" not in str(refused.value)


def test_a_key_that_a_container_cannot_have_is_refused(key: Path, tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    assert require_key_for(key, root) == key
    inside = root / "key.pem"
    inside.write_bytes(key.read_bytes())
    for file, text in ((key.parent, "is not a file"), (key.with_name("none"), "is not a file"), (inside, "workspace")):
        with pytest.raises(InputError, match=text):
            require_key_for(file, root)
    if os.geteuid() == 0:
        os.chown(root, 65_534, 65_534)
        with pytest.raises(InputError, match="the user 65534, who owns the workspace") as refused:
            require_key_for(key, root)
        assert "chown 65534" in refused.value.cure
        os.chown(key, 65_534, 65_534)
        assert require_key_for(key, root) == key
