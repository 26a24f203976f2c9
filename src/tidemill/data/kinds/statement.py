"""The text of an SQL statement, without what follows it."""

import re

from tidemill.errors import ConfigurationError

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\n]* | /\*.*?\*/ )
  | (?P<end> ; )
  | '(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*`     # texts and names in quotes
  | (?P<tag>\$\w*\$) .*? (?P=tag)                # texts of PostgreSQL
  | .
    """,
    re.VERBOSE | re.DOTALL,
)


def strip_statement(query: str, source: str) -> str:
    """Return a query without the comments and the semicolons at its end.

    Raises
    ------
    ConfigurationError
        if another statement follows a semicolon.

    >>> strip_statement("select ';' as a -- all; of them\\n; -- the end", "rows")
    "select ';' as a"
    """
    end, ended = 0, False
    for token in _TOKEN.finditer(query):
        if token["end"]:
            ended = True
        elif not token["space"]:
            if ended:
                raise ConfigurationError(
                    f"the query of source {source!r} has more than one statement",
                    "keep one SELECT; write common table expressions before it: WITH … AS (…) SELECT …",
                )
            end = token.end()
    return query[:end].strip()
