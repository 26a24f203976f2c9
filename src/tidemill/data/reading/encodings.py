"""Encodings of text files: detected once, declared in the source, and then required."""

import codecs
import shlex
from pathlib import Path

from tidemill.data.reading.plausibility import is_known, rank_encodings, sample_cells
from tidemill.errors import DataError, InputError, Unreadable

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def to_utf8(content: bytes, encoding: str, name: str) -> bytes:
    """Return the content as UTF-8 without a byte order mark; the content must be in the declared encoding.

    A byte order mark decides; without a declared encoding, a file without one must be UTF-8.

    Raises
    ------
    Unreadable
        if the content is not in the encoding, or is plainly in another one.
    """
    if marked := find_mark(content):
        mark, found = marked
        return content[len(mark) :] if found == "utf-8" else _decode(content, found, name).encode()
    declared = codecs.lookup(encoding or "utf-8").name
    if not declared.startswith(("utf-16", "utf-32")):
        _require_no_nul(content, name)
    if declared == "utf-8":
        if not content.isascii():
            _require_utf8(content, name)
        return content
    if content.isascii() and b"\0" not in content:
        return content
    text = _decode(content, encoding, name)
    if not declared.startswith("utf") and _is_utf8(content):
        raise Unreadable(
            f"{name} is UTF-8, but its source is declared as {encoding}",
            f"convert it: {_convert(name, 'UTF-8', encoding)}; if all files are UTF-8, remove `encoding` of the "
            "source in tidemill.toml",
        )
    _require_plausible(content, encoding, name)
    return text.encode()


def _require_no_nul(content: bytes, name: str) -> None:
    if b"\0" not in content:
        return
    wide = _detect_wide(content)
    raise Unreadable(
        f"{name} has NUL characters" + (f": it is {wide} without a byte order mark" if wide else ""),
        f'set encoding = "{wide}" of its source in tidemill.toml' if wide else "remove them from the file",
    )


def _require_plausible(content: bytes, encoding: str, name: str) -> None:
    """Raise `Unreadable` if the text is nonsense in the declared encoding, and plain words in another one."""
    sample = sample_cells(content)
    candidates = rank_encodings(sample)
    read = sample.decode(encoding, errors="replace")
    if not is_known(encoding) or not candidates or read in [decoded for _, decoded in candidates]:
        return
    other, decoded = candidates[0]
    raise Unreadable(
        f"{name} is not {encoding}: its text is {_shorten(decoded)} in {other}, but {_shorten(read)} in {encoding}",
        f"convert it to the encoding of its source: {_convert(name, other, encoding)}",
    )


def find_mark(content: bytes) -> tuple[bytes, str] | None:
    """Return the byte order mark at the start and its encoding."""
    return next(((mark, found) for mark, found in _MARKS if content.startswith(mark)), None)


def require_encoding(encoding: str) -> str:
    """Return the name of an encoding as Python spells it; raise `InputError` if Python has no such text encoding."""
    try:
        found = codecs.lookup(encoding)
        "a".encode(encoding)
    except (LookupError, UnicodeError):
        raise InputError(
            f"there is no encoding {encoding!r}", "use a name such as cp1252, cp949, shift_jis or utf-16"
        ) from None
    return found.name


def detect_encoding(content: bytes, name: str) -> str:
    """Return the encoding of a content, an empty text for UTF-8 or a byte order mark.

    Raises
    ------
    DataError
        if several encodings give different, plausible texts.
    """
    if find_mark(content) or (b"\0" not in content[:1_000] and _is_utf8(content)):
        return ""
    if wide := _detect_wide(content):
        return wide
    sample = sample_cells(content)
    candidates = list({decoded: (encoding, decoded) for encoding, decoded in reversed(rank_encodings(sample))}.values())
    candidates.reverse()
    if len(candidates) != 1:
        shown = [f"{encoding} ({_shorten(decoded)})" for encoding, decoded in candidates[:4]]
        found = f": {', '.join(shown)} are possible" if shown else ""
        encoding = candidates[0][0] if candidates else "ENCODING"
        raise DataError(
            f"{name} is not UTF-8, and its encoding is uncertain{found}",
            f"name it: --encoding {encoding} (`encoding` of a source in tidemill.toml), or save the file as UTF-8",
        )
    return candidates[0][0]


def _detect_wide(content: bytes) -> str:
    """Return UTF-16 without a byte order mark, by the zero bytes of ASCII characters."""
    head = content[:4_000]
    if b"\0" not in head:
        return ""
    even, odd = head[::2].count(0), head[1::2].count(0)
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return ""
    return encoding


def _require_utf8(content: bytes, name: str) -> None:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        try:
            found = detect_encoding(content, name)
        except DataError:
            found = "ENCODING"
        raise Unreadable(
            f"{name} is not UTF-8 (line {line})",
            f"convert it: {_convert(name, found, 'UTF-8')}; if all files of its source are written so, set "
            f'encoding = "{found}" of the source in tidemill.toml',
        ) from None


def _decode(content: bytes, encoding: str, name: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        instead = " (it is UTF-8)" if _is_utf8(content) else ""
        raise Unreadable(
            f"{name} is not {encoding}{instead}: line {line} has bytes without a meaning in it",
            f"convert the file to {encoding}, the encoding of its source in tidemill.toml",
        ) from None


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _convert(name: str, encoding: str, wanted: str) -> str:
    """Return the command that converts a file; a name in capital letters is to be replaced."""
    path = Path(name)
    first, second = (one.upper().replace("_", "-") for one in (encoding, wanted))
    return f"iconv -f {first} -t {second} {shlex.quote(path.name)} > {shlex.quote(f'converted-{path.name}')}"


def _shorten(text: str) -> str:
    return repr(", ".join(text.split("\n")[:2])[:30])
