"""The web pages beside the service: they start without a ledger."""

import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.daemon.kit import kit
from tests.daemon.test_away import refuse_connections
from tidemill.daemon.pages import Pages


def test_pages_start_while_the_ledger_is_not_available(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
    pages = Pages(kit(tmp_path), 0)
    pages.start()
    try:
        with refuse_connections(postgres_url):
            with pytest.raises(HTTPError) as refused:
                urllib.request.urlopen(pages.address, timeout=30)
            assert refused.value.code == 503
            assert "the ledger at 127.0.0.1" in refused.value.read().decode()
        with urllib.request.urlopen(pages.address, timeout=30) as response:
            assert response.status == 200
    finally:
        pages.stop()
