"""Which encodings give a plausible text: charset-normalizer's measure of disorder, and the alphabets of languages."""

import codecs
import re

_EAST_ASIAN = ("cp949", "cp932", "euc_jp", "gb18030", "big5")
_WESTERN = "äöüßéèêëàâáãåæçîïíìôóòõøœûúùñÿýðþ"
_CENTRAL = "ąćęłńóśźżčďěňřšťůúýžáéíőűöüäâăîşţôľĺŕ"
_CYRILLIC = "абвгдеёжзийклмнопрстуфхцчшщъыьэюяґєіїўј"
# The letters of languages that use an encoding: these encodings decode nearly all bytes, most of them to nonsense.
_ALPHABETS = {
    "cp1252": _WESTERN,
    "iso8859_15": _WESTERN,
    "cp850": _WESTERN,
    "mac_roman": _WESTERN,
    "cp1250": _CENTRAL,
    "iso8859_2": _CENTRAL,
    "cp1254": "şğıçöüiâîûi̇",
    "cp1257": "āčēģīķļņšūžąęėįųōäöüõåøæ",
    "cp1251": _CYRILLIC,
    "koi8_r": _CYRILLIC,
    "cp866": _CYRILLIC,
    "cp1253": "αάβγδεέζηήθιίϊΐκλμνξοόπρσςτυύϋΰφχψωώ",
    "cp1255": "".join(map(chr, range(0x0590, 0x0600))),
    "cp1256": "".join(map(chr, range(0x0600, 0x0700))),
    "cp874": "".join(map(chr, range(0x0E00, 0x0E80))),
}
_LATIN = ("cp1252", "iso8859_15", "cp850", "mac_roman", "cp1250", "iso8859_2", "cp1254", "cp1257")
_SIGNS = "€£¥§°©®«»“”„‘’‚–—·•²³½¼µ№±×\u00a0¿¡ªº"
_PLAUSIBLE = 0.97
_CHAOS = 0.2
_SURE = 0.1
_NEAR = 0.04
_COMMON = 0.7
_SAMPLE = 2_000
_HIGH = re.compile(rb"[\x80-\xff]+")
# Bytes below 0x40 are never the second byte of a character, except digits in GB 18030.
_SEPARATORS = bytes.maketrans(b',;"', b"\t\t\t")


def is_known(encoding: str) -> bool:
    """Return whether the characters of an encoding are known well enough to judge a text."""
    names = {codecs.lookup(name).name for name in (*_ALPHABETS, *_EAST_ASIAN)}
    return codecs.lookup(encoding).name in names


def sample_cells(content: bytes) -> bytes:
    """Return the different cells with bytes beyond ASCII, one in each line, from the whole content."""
    cells: dict[bytes, None] = {}
    for line in content.splitlines():
        if line.isascii():
            continue
        cells |= dict.fromkeys(cell for cell in line.translate(_SEPARATORS).split(b"\t") if not cell.isascii())
        if len(cells) > _SAMPLE:
            break
    return b"\n".join(cells)


def rank_encodings(sample: bytes) -> list[tuple[str, str]]:
    """Return the plausible encodings of a sample, each with the decoded text; several are about equally plausible."""
    single = [
        (encoding, decoded)
        for encoding in _ALPHABETS
        if (decoded := _decode(sample, encoding)) and _is_plausible(decoded, encoding)
    ]
    if single and not any(character.isalpha() for character in single[0][1] if not character.isascii()):
        return single[:1]  # signs only, such as € or °
    runs = _HIGH.findall(sample)
    # A letter with an accent stands alone among ASCII letters, while characters of two bytes follow each other.
    alone = sum(len(run) == 1 for run in runs) >= 0.8 * len(runs)
    several = [] if alone and single and single[0][0] in _LATIN else _rank_east_asian(sample)
    return [*several, *([] if several and not alone else single)]


def _rank_east_asian(sample: bytes) -> list[tuple[str, str]]:
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=list(_EAST_ASIAN), threshold=_CHAOS)
    chaos = {encoding: match.chaos for match in matches for encoding in match.could_be_from_charset}
    known = [
        (chaos[encoding], encoding, decoded)
        for encoding in _EAST_ASIAN
        if encoding in chaos and (decoded := _decode(sample, encoding)) and _is_east_asian(decoded, encoding)
    ]
    best = min((score for score, _, _ in known), default=0.0)
    return [(encoding, decoded) for score, encoding, decoded in known if score <= best + _NEAR and score <= _SURE]


def _decode(sample: bytes, encoding: str) -> str:
    try:
        return sample.decode(encoding)
    except UnicodeDecodeError:
        return ""


def _is_plausible(decoded: str, encoding: str) -> bool:
    """Return whether the text has the letters of the encoding's languages, in words as people write them."""
    if _share_of_alphabet(decoded, encoding) < _PLAUSIBLE:
        return False
    words = [word for word in re.findall(r"[^\W\d_]+", decoded) if not word.isascii()]
    mixed = sum(bool(re.search("[A-Za-z]", word)) for word in words)
    return encoding not in _LATIN or 2 * mixed >= len(words)


def _share_of_alphabet(decoded: str, encoding: str) -> float:
    """Return the share of the characters beyond ASCII that are letters of the alphabet in their usual position."""
    alphabet = _ALPHABETS[encoding]
    total = fitting = 0
    for before, character, after in zip(f" {decoded}", decoded, f"{decoded[1:]} ", strict=False):
        if character.isascii():
            continue
        total += 1
        beside_ascii = (before.isascii() and before.isalpha()) or (after.isascii() and after.isalpha())
        if character in alphabet or character.lower() in alphabet or character.casefold() in alphabet:
            inside = before.islower() and character.isupper()
            fitting += not inside and not (beside_ascii and encoding not in _LATIN)
        elif character in "’–":
            fitting += 1
        elif character in _SIGNS:
            fitting += not (before.isalpha() and after.isalpha())
    return fitting / max(total, 1)


def _is_east_asian(decoded: str, encoding: str) -> bool:
    """Return whether the text has the characters of its language, most of them common ones."""
    characters = [character for character in decoded if not character.isascii()]
    fitting = sum(_is_character(character, encoding) for character in characters)
    common = sum(_is_common(character, encoding) for character in characters)
    return fitting >= _PLAUSIBLE * len(characters) and common >= _COMMON * len(characters)


def _is_character(character: str, encoding: str) -> bool:
    point = ord(character)
    if 0x2000 <= point <= 0x27BF or 0x3000 <= point <= 0x303F or 0x3200 <= point <= 0x33FF or 0xFF01 <= point <= 0xFF5E:
        return True  # punctuation, signs and full-width letters
    if encoding == "cp949":
        return 0xAC00 <= point <= 0xD7A3 or character == "·"
    kana = encoding in ("cp932", "euc_jp") and (0x3040 <= point <= 0x30FF or 0xFF61 <= point <= 0xFF9F)
    return kana or 0x4E00 <= point <= 0x9FFF


def _is_common(character: str, encoding: str) -> bool:
    """Return whether a character is in the part of its standard with the common ones."""
    raw = character.encode(encoding)
    if len(raw) != 2:
        return False
    lead, trail = raw
    if encoding == "cp932":
        return 0x81 <= lead <= 0x97
    if encoding == "big5":
        return 0xA1 <= lead <= 0xC6
    last = {"gb18030": 0xD7, "euc_jp": 0xCF, "cp949": 0xC8}[encoding]
    return 0xA1 <= lead <= last and trail >= 0xA1
