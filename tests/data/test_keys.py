"""Keys and classes are the same text, whatever type they were read as."""

import polars as pl

from tidemill.data.keys import to_class_names


def test_labels_are_named_alike_whatever_they_were_read_as() -> None:
    assert to_class_names(pl.Series([True, False, None])).to_list() == ["true", "false", None]
    assert to_class_names(pl.Series([1, 0])).to_list() == to_class_names(pl.Series([1.0, 0.0])).to_list() == ["1", "0"]
    assert to_class_names(pl.Series([0.5, 1.0])).to_list() == ["0.5", "1.0"]
    assert to_class_names(pl.Series(["late", None])).to_list() == ["late", None]
