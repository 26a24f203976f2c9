"""Secrets: where they come from, and that a planted one is never stored or logged."""

import logging
import sqlite3
import sys
from pathlib import Path

import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.credentials import Mask, fill_secrets, hide_in_logs, hide_secrets, hide_url
from tidemill.errors import ConfigurationError
from tidemill.project.project import Project

PLANTED = "planted-7f3a9c-value"


def test_a_secret_comes_from_the_environment_a_file_or_a_plug_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PLANTED}\n")
    monkeypatch.setenv("SHOP_PASSWORD", "from the environment")
    monkeypatch.setenv("OTHER_PASSWORD_FILE", str(file))
    _install_plugin(tmp_path, monkeypatch)
    assert fill_secrets("x://${SHOP_PASSWORD}@host", "a path") == "x://from the environment@host"
    assert fill_secrets("${OTHER_PASSWORD}", "a path") == PLANTED
    assert fill_secrets(f"${{file:{file}}}!", "a path") == f"{PLANTED}!"
    assert fill_secrets("${vault:shop/db}", "a path") == "vault value of shop/db"
    assert fill_secrets("no reference $HOME {x}", "a path") == "no reference $HOME {x}"
    assert hide_secrets("it is vault value of shop/db.") == "it is ***."
    for text, problem in {
        "${ABSENT}": "a path needs the environment variable ABSENT",
        "${file:/nowhere/x}": "a path needs the file /nowhere/x: No such file",
        "${safe:x}": "which no installed package has",
        "${vault:broken}": "could not be read: RuntimeError",
    }.items():
        with pytest.raises(ConfigurationError, match=problem) as missing:
            fill_secrets(text, "a path")
        assert missing.value.cure
        assert "topsecret" not in str(missing.value)


def _install_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with the entry point `vault` in a folder of the import path."""
    site = folder / "site"
    (site / "vault-1.dist-info").mkdir(parents=True)
    (site / "vault-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vault\nVersion: 1\n")
    (site / "vault-1.dist-info" / "entry_points.txt").write_text("[tidemill.secrets]\nvault = vault_plugin:read\n")
    (site / "vault_plugin.py").write_text(
        "def read(reference):\n    if reference == 'broken':\n        raise RuntimeError('topsecret')\n"
        "    return f'vault value of {reference}'\n"
    )
    monkeypatch.syspath_prepend(str(site))


def test_a_url_is_shown_without_its_secrets() -> None:
    """In batches, errors and verdicts; a setting of several parts hides each value that it refers to."""
    assert (
        hide_url("postgresql+psycopg://me:pw@host/db?sslmode=require")
        == "postgresql+psycopg://me:***@host/db?sslmode=require"
    )
    assert hide_url("az://box/a.csv?sv=1&sig=Zm9v%3D&se=2") == "az://box/a.csv?sv=1&sig=***&se=2"
    assert hide_url("md:shop?motherduck_token=abc") == "md:shop?motherduck_token=***"
    assert hide_url("data/a?b.csv") == "data/a?b.csv"
    assert hide_url("s3://box/2026/*.csv") == "s3://box/2026/*.csv"


def test_each_part_of_a_setting_is_hidden_whatever_its_variable_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNOCENT", f"{PLANTED}-part")
    monkeypatch.setenv("ADDRESS", f"https://host/rows.csv?sig={PLANTED}%2Fsig")
    monkeypatch.setenv("FOLDER", str(tmp_path))
    fill_secrets("https://host/${INNOCENT}/rows.csv", "a path")
    fill_secrets("${ADDRESS}", "a path")
    fill_secrets("${FOLDER}/rows.csv", "a path")
    assert hide_secrets(f"{PLANTED}-part") == "***"
    assert hide_secrets(f"sig={PLANTED}%2Fsig or {PLANTED}/sig") == "sig=*** or ***"
    assert hide_secrets(f"{tmp_path}/rows.csv") == f"{tmp_path}/rows.csv"


def test_values_of_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SHOP_API_KEY", PLANTED)
    monkeypatch.setenv("TIDEMILL_LEDGER", "postgresql://me:p%40ssword12@host/db")
    monkeypatch.setenv("PIN_PASSWORD", "1234")
    monkeypatch.setenv("HARMLESS", "a harmless value")
    assert hide_secrets(f"key {PLANTED}{PLANTED}") == "key ******"
    assert hide_secrets("postgresql://me:p%40ssword12@host, p@ssword12") == "postgresql://me:***@host, ***"
    assert hide_secrets("1234 a harmless value") == "1234 a harmless value"
    logger = logging.Logger("shop")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    hide_in_logs(logger)
    try:
        raise ValueError(PLANTED)
    except ValueError:
        logger.exception("failed with %s", PLANTED)
    message = capsys.readouterr().err
    assert "failed with ***" in message
    assert "ValueError: ***" in message
    assert PLANTED not in message
    mask = Mask()
    assert mask.hide(PLANTED) == "***"


def test_a_planted_secret_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the URL of a source and of an address, printed by a step, and in the message of a step that fails."""
    folder = tmp_path / "shop"
    make_project(folder, replace={'path = "data/shop.csv"': 'path = "${SHOP_URL}"\ntable = "rows"'})
    import polars as pl

    rows = pl.read_csv(folder / "data" / "shop.csv")
    with sqlite3.connect(folder / "shop.db") as database:
        columns = ", ".join(f'"{name}"' for name in rows.columns)
        database.execute(f"CREATE TABLE rows ({columns})")
        database.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * rows.width)})", rows.rows())
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{folder}/shop.db?password={PLANTED}")
    monkeypatch.setenv("SHOP_PASSWORD", PLANTED)
    (folder / "pipeline.py").open("a").write(
        "\n\nimport logging, os\nfrom tidemill import step, pipeline\n\n\n"
        "@step\ndef leak() -> int:\n    print('it is', os.environ['SHOP_PASSWORD'])\n"
        "    logging.getLogger('shop').warning('it is %s', os.environ['SHOP_PASSWORD'])\n    return 1\n\n\n"
        "@step\ndef fail(number: int) -> int:\n    raise ValueError(os.environ['SHOP_PASSWORD'])\n\n\n"
        "@pipeline\ndef leaking() -> None:\n    fail(leak())\n"
    )
    printed = [tidemill(folder, "run", "ingestion"), tidemill(folder, "runs", "list", "--json")]
    printed += [tidemill(folder, "run", "leaking", code=1), tidemill(folder, "run", "leaking", code=1)]
    token = tidemill(folder, "tokens", "create", "ada", "--role", "approver").stdout.strip()
    printed.append(tidemill(folder, "triggers", "pause", "watch", "--reason=test", TIDEMILL_TOKEN=token))
    printed.append(tidemill(folder, "runs", "logs", listed(folder, "runs", "list")[-2]["id"]))
    assert "it is ***" in printed[-1].stdout
    assert "ValueError: ***" in printed[-1].stdout
    for done in printed:
        assert PLANTED not in done.stdout + done.stderr
    ledger = open_session(Project(folder)).workspace.ledger
    stored = [line for _, lines in ledger.export() for line in lines]
    ledger.close()
    for secret in (PLANTED, token):
        assert not [line for line in stored if secret.encode() in line]
        for file in (folder / ".tidemill").rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_an_address_of_an_alert_is_never_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from tidemill.monitoring.alerts import _fill

    monkeypatch.setenv("HOOK_TOKEN", PLANTED)
    assert _fill("json://me:${HOOK_TOKEN}@localhost") == f"json://me:{PLANTED}@localhost"
    with caplog.at_level(logging.ERROR, "tidemill"):
        assert _fill("json://${ABSENT_TOKEN}@localhost") == "json://${ABSENT_TOKEN}@localhost"
    assert "ABSENT_TOKEN" in caplog.text
