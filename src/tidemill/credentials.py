"""Secrets: settings name them, and never contain them. They come from environment variables, files or a plug-in."""

import logging
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tidemill.errors import ConfigurationError

_REFERENCE = re.compile(r"\$\{(\w+)(?::([^}]*))?\}")
_NAME = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|(api|access|private|signing)_?key|dsn", re.IGNORECASE
)
_PARAMETER = re.compile(r"(?<=[?&;])([^=&;#?]+)=([^&;#]*)")
_SIGNATURES = ("auth", "authorization", "key", "sig", "signature", "x-amz-signature")
_STORES = re.compile(r"TIDEMILL_[A-Z]+")
_GROUP = "tidemill.secrets"
# A shorter value occurs in texts by chance.
_SHORTEST = 8
_MASK = "***"
_resolved: set[str] = set()


def fill_secrets(text: str, what: str) -> str:
    """Replace the references to secrets in a setting.

    `${NAME}` is the environment variable NAME, or the content of the file that NAME_FILE names. `${file:PATH}` is the
    content of a file. `${SCHEME:TEXT}` calls the plug-in SCHEME of the entry points `tidemill.secrets` with the text.
    From then on, `hide_secrets` hides them.

    Raises
    ------
    ConfigurationError
        if a secret is missing; `what` names the setting in the message.
    """

    def fill(match: re.Match[str]) -> str:
        value = _resolve(match[1], match[2], what)
        # A reference inside a text is a part of it that is not shown; a whole setting may be a harmless path or URL.
        if match[0] != text and len(value) >= _SHORTEST and not os.path.exists(value):  # noqa: PTH110 - any text
            _resolved.add(value)
        return value

    filled = _REFERENCE.sub(fill, text)
    if filled != text:
        _resolved.update(_list_passwords(filled))
    return filled


def hide_url(url: str) -> str:
    """Return a URL without its password and without the values of its parameters whose names are like those of secrets.

    >>> hide_url("https://ada:secret@host/rows.csv?part=1&sig=0123abcd")
    'https://ada:***@host/rows.csv?part=1&sig=***'
    """
    shown = re.sub(r"(?<=://)([^/?#@:]*):[^/?#]*@", rf"\1:{_MASK}@", url)
    return _PARAMETER.sub(lambda match: f"{match[1]}={_MASK}" if _is_secret(match[1]) else match[0], shown)


def hide_secrets(text: str) -> str:
    """Replace the values of secrets in a text that is logged or stored.

    These are the secrets of `fill_secrets` that came from files, plug-ins or URLs, the passwords in the URLs of stores,
    and environment variables whose names are like those of secrets.
    """
    return Mask().hide(text) if text else text


class Mask:
    """Hides the secrets that exist when it is created, and those that `fill_secrets` returns later."""

    def __init__(self) -> None:
        self._variables = set(_list_variables())

    def hide(self, text: str) -> str:
        """Return the text without the values of secrets."""
        for value in sorted(self._variables | _resolved, key=len, reverse=True):
            text = text.replace(value, _MASK)
        return text


def hide_in_logs(logger: logging.Logger) -> None:
    """Hide the values of secrets in everything that the handlers of a logger write."""
    for handler in logger.handlers:
        handler.setFormatter(_HidingFormatter(handler.formatter or logging.Formatter()))


class _HidingFormatter(logging.Formatter):
    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner, self._mask = inner, Mask()

    def format(self, record: logging.LogRecord) -> str:
        return self._mask.hide(self._inner.format(record))


def _resolve(name: str, reference: str | None, what: str) -> str:
    if reference is None:
        return _read_variable(name, what)
    value = _read_file(reference, what) if name == "file" else _call_plugin(name, reference, what)
    if len(value) >= _SHORTEST:
        _resolved.add(value)
    return value


def _read_variable(name: str, what: str) -> str:
    if name in os.environ:
        return os.environ[name]
    if file := os.environ.get(f"{name}_FILE"):
        value = _read_file(file, what)
        if len(value) >= _SHORTEST:
            _resolved.add(value)
        return value
    raise ConfigurationError(f"{what} needs the environment variable {name}", f"export {name}=…, or {name}_FILE=FILE")


def _read_file(path: str, what: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(
            f"{what} needs the file {path}: {reason}", "create it, readable for you only"
        ) from None


def _call_plugin(scheme: str, reference: str, what: str) -> str:
    points = {point.name: point for point in entry_points(group=_GROUP)}
    if scheme not in points:
        known = ", ".join(["file", *sorted(points)])
        raise ConfigurationError(
            f"{what} names a secret of {scheme!r}, which no installed package has",
            f"use one of: {known}, or install the package that offers {scheme!r} as the entry point {_GROUP}",
        )
    try:
        return str(points[scheme].load()(reference))
    except Exception as error:
        raise ConfigurationError(
            f"{what}: the secret {scheme}:{reference} could not be read: {type(error).__name__}",
            f"check the settings of {scheme!r}",
        ) from error


def _list_variables() -> Iterator[str]:
    for name, value in os.environ.items():
        if "://" in value and _is_store(name):
            yield from _list_passwords(value)
        elif len(value) >= _SHORTEST and _names_secret(name):
            yield value


@lru_cache(maxsize=4096)  # every step asks this of every variable
def _names_secret(name: str) -> bool:
    return not name.endswith("_FILE") and bool(_NAME.search(name))


@lru_cache(maxsize=4096)
def _is_store(name: str) -> bool:
    return bool(_STORES.fullmatch(name)) and not _names_secret(name)


def _is_secret(parameter: str) -> bool:
    """Return whether the name of a parameter of a URL is like that of a secret."""
    return bool(_NAME.search(parameter)) or parameter.lower() in _SIGNATURES


def _list_passwords(text: str) -> Iterator[str]:
    """Yield the password in a URL and its parameters that are like secrets, as they are written there and decoded."""
    try:
        password = urlsplit(text).password or ""
    except ValueError:
        return
    written = [password, *(match[2] for match in _PARAMETER.finditer(text) if _is_secret(match[1]))]
    for value in {*written, *map(unquote, written)}:
        if len(value) >= _SHORTEST:
            yield value
