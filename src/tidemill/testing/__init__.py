"""Conformance suites for plugs: subclass one in a test module and define its fixtures.

Each suite is a class of pytest tests over what Tidemill relies on. pytest is imported here and nowhere else.
"""

import pytest

_SUITES = (
    "blobs",
    "board",
    "codecs",
    "engines",
    "flavors",
    "journal",
    "ledger",
    "online",
    "packages",
    "sources",
    "tables",
)
pytest.register_assert_rewrite(*(f"tidemill.testing.{suite}" for suite in _SUITES))
