"""What the commands print."""

import pytest

from tidemill.cli import output


def test_a_table_prints_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("reason",), [['where that is meant: signature = "any" under [gate]']])
    assert "under [gate]" in capsys.readouterr().out
