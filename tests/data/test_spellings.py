"""Spellings of classes: found whatever the case and spaces, replaced as declared, different classes stay apart."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.data.spellings import find_spellings, suggest_setting, unify_columns, unify_spellings

WORDS = st.sampled_from(["yes", "no", "maybe later", "Österreich", "survived", "ok"])
WRITINGS = st.sampled_from([str, str.upper, str.title, lambda word: f" {word}", lambda word: f"{word}  "])


@given(st.lists(st.tuples(WORDS, WRITINGS), min_size=1, max_size=60))
def test_every_writing_of_a_word_becomes_one_class(pairs: list[tuple[str, object]]) -> None:
    labels = pl.Series("label", [write(word) for word, write in pairs])  # type: ignore[operator]
    found = find_spellings(labels)
    unified = unify_spellings(labels, found)
    assert unified.n_unique() == len({word.casefold() for word, _ in pairs})
    plain = labels.str.strip_chars().str.to_lowercase().to_list()
    by_word = {word: {value for value, key in zip(unified, plain, strict=True) if key == word} for word in set(plain)}
    assert all(len(values) == 1 for values in by_word.values())
    assert find_spellings(unified) == {}
    assert find_spellings(labels, found) == {}


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["yes", "yes", "Y", "N", "no", "no"], {"N": "no", "Y": "yes"}),
        (["True", "t", "True", "F", "False"], {"F": "False", "t": "True"}),
        (["a", "A", "b", "B"], {}),
        (["Y", "y", "N"], {}),
        (["1st class", "2nd class"], {}),
        (["no", "NO ", "no", "not"], {"NO ": "no"}),
    ],
)
def test_abbreviations_are_alike_only_beside_their_words(labels: list[str], found: dict[str, str]) -> None:
    assert find_spellings(pl.Series(labels)) == found


def test_labels_that_are_no_text_have_no_spellings() -> None:
    for values in ([1, 0, 1], [True, False], [0.5, 1.5]):
        assert find_spellings(pl.Series(values)) == {}


def test_a_class_that_means_itself_is_a_class_of_its_own() -> None:
    labels = pl.Series(["Ok", "ok", "ok", "no"])
    assert find_spellings(labels) == {"Ok": "ok"}
    assert find_spellings(labels, {"Ok": "Ok", "ok": "ok"}) == {}
    assert unify_spellings(labels, {"Ok": "Ok"}).to_list() == labels.to_list()


def test_numbers_can_be_spellings_too() -> None:
    assert unify_spellings(pl.Series([1, 0, None]), {"1": "yes", "0": "no"}).to_list() == ["yes", "no", None]
    rows = pl.DataFrame({"label": [1, 2], "x": [1, 2]})
    assert unify_columns(rows, {"label": {"7": "seven"}, "absent": {"a": "b"}}).equals(rows)


def test_the_setting_is_toml() -> None:
    import tomllib

    setting = suggest_setting({"YES ": "yes", 'a "b"': "c"})
    assert tomllib.loads(setting) == {"spellings": {"YES ": "yes", 'a "b"': "c"}}
