"""The ML test kit of a project, and conformance suites for plugs: subclass one in a test module.

Each suite is a class of pytest tests of the behaviour that Tidemill relies on; define its fixtures. The kit is in
`tidemill.testing.kit` and `tidemill.testing.plugin`. Other packages of Tidemill do not import pytest.
"""

from contextlib import suppress

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
with suppress(ModuleNotFoundError):  # the reference training runs in environments without it
    import pytest

    pytest.register_assert_rewrite(*(f"tidemill.testing.{suite}" for suite in _SUITES))
