"""The web pages beside the service: they start without a ledger."""

import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.daemon.kit import kit
from tidemill.daemon.pages import Pages


def test_pages_start_while_the_ledger_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", "postgresql://u:p@127.0.0.1:1/missing")
    pages = Pages(kit(tmp_path), 0)
    pages.start()
    try:
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(pages.address, timeout=30)
        assert refused.value.code == 503
        assert "cannot be opened" in refused.value.read().decode()
        monkeypatch.delenv("TIDEMILL_LEDGER")
        with urllib.request.urlopen(pages.address, timeout=30) as response:
            assert response.status == 200
    finally:
        pages.stop()
