"""Encodings of text files: detected or asked, never guessed; a file in another encoding than its source is refused."""

from contextlib import suppress

import pytest

from tidemill.data.reading.encodings import detect_encoding, require_encoding, to_utf8
from tidemill.errors import DataError, InputError, Unreadable

TEXTS = {
    "cp949": "이름,값\n서울특별시,1\n아델리,2\n비스코,3\n",
    "cp932": "名前,値\n東京都,1\n大阪府①,2\nカメラ,3\n",
    "euc_jp": "名前,値\n東京都,1\n大阪府,2\n札幌市,3\n",
    "gb18030": "城市,数量\n北京,1\n上海市,2\n广州,3\n",
    "big5": "城市,數量\n臺北,1\n高雄市,2\n新竹縣,3\n",
    "cp1252": "Straße,Größe\nMüller,1\nJosé,2\nFrançois,3\n5€ à 21°C,4\n",
    "cp1250": "miasto,osoba\nŁódź,Żółć\nKraków,Świętosław\nČeské Budějovice,5\n",
    "iso8859_2": "miasto,osoba\nŁódź,Żółć\nKraków,Świętosław\n",
    "cp1251": "имя,город\nИван,Москва\nОльга,Омск\n",
    "cp1253": "όνομα,τιμή\nΑθήνα,1\nΘεσσαλονίκη,2\n",
    "cp1256": "اسم,قيمة\nالقاهرة,1\nالرياض,2\n",
    "cp874": "ชื่อ,ค่า\nกรุงเทพ,1\nเชียงใหม่,2\n",
    "utf-16-le": "a,b\nZürich,1\n",
}
UNCERTAIN = {
    "cp1254": ("şehir,değer\nİstanbul,1\nIğdır,3\n", "cp1252"),
    "cp1255": ("שם,ערך\nירושלים,1\nחיפה,2\n", "cp1251"),
    "koi8_r": ("имя,город\nИван,Москва\nОльга,Омск\n", "cp874"),
    "gb18030": ("a,b\n男,1\n女,2\n", "big5"),
}


@pytest.mark.parametrize(("encoding", "text"), TEXTS.items(), ids=TEXTS)
def test_an_encoding_is_detected_by_its_words(encoding: str, text: str) -> None:
    content = text.encode(encoding)
    found = detect_encoding(content, "a.csv")
    assert to_utf8(content, found, "a.csv").decode() == text


@pytest.mark.parametrize("text", ["a,b\ncafé,1\n", "name\nBjörn\n", "price\n5€\n", "t\n21°C\n", "CAFÉ,ÉCOLE\n1,2\n"])
def test_a_few_western_words_are_enough(text: str) -> None:
    content = text.encode("cp1252")
    assert to_utf8(content, detect_encoding(content, "a.csv"), "a.csv").decode() == text


@pytest.mark.parametrize(("encoding", "text", "other"), [(e, *rest) for e, rest in UNCERTAIN.items()], ids=UNCERTAIN)
def test_an_uncertain_encoding_is_asked_with_the_texts_that_it_gives(encoding: str, text: str, other: str) -> None:
    with pytest.raises(DataError, match="its encoding is uncertain") as asked:
        detect_encoding(text.encode(encoding), "a.csv")
    assert encoding in asked.value.problem
    assert other in asked.value.problem
    assert "--encoding" in asked.value.cure


@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("declared", ["", "cp1252"])
def test_a_byte_order_mark_decides(mark: str, declared: str) -> None:
    content = TEXTS["cp1251"].encode(mark)
    assert detect_encoding(content, "a.csv") == ""
    assert to_utf8(content, declared, "a.csv").decode() == TEXTS["cp1251"]


@pytest.mark.parametrize("declared", ["", "cp1252", "cp949", "cp1251", "utf-8"])
@pytest.mark.parametrize(("encoding", "text"), TEXTS.items(), ids=TEXTS)
def test_a_file_in_another_encoding_is_refused_and_never_garbage(encoding: str, text: str, declared: str) -> None:
    content = text.encode(encoding)
    with suppress(Unreadable):
        assert to_utf8(content, declared, "a.csv").decode() == text


def test_utf_8_is_not_read_as_the_declared_encoding() -> None:
    with pytest.raises(Unreadable, match="is UTF-8, but its source is declared as cp1252"):
        to_utf8("name\nZürich\n".encode(), "cp1252", "a.csv")


def test_an_error_names_the_line_and_the_encoding_to_declare() -> None:
    with pytest.raises(Unreadable, match=r"a.csv is not UTF-8 \(line 2\)") as refused:
        to_utf8(TEXTS["cp949"].replace("이름", "name").replace("값", "x").encode("cp949"), "", "a.csv")
    assert 'encoding = "cp949"' in refused.value.cure


def test_an_unknown_encoding_is_refused() -> None:
    assert require_encoding("Latin-1") == "iso8859-1"
    for wrong in ("klingon", "base64"):
        with pytest.raises(InputError, match="there is no encoding"):
            require_encoding(wrong)
