"""Sends events over HTTP to a lineage catalogue, such as Marquez or DataHub."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

from tidemill.errors import InputError, TidemillError

_SECONDS = 10


def send_events(url: str, events: Iterable[bytes]) -> None:
    """Post events one by one, in their order, with the key in `OPENLINEAGE_API_KEY` if it is set.

    Raises
    ------
    InputError
        if the URL is not an HTTP URL.
    TidemillError
        if the catalogue rejects an event or does not respond; the events before it have arrived.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url!r} is not an HTTP URL", "use a URL such as http://HOST:5000/api/v1/lineage")
    key = os.environ.get("OPENLINEAGE_API_KEY", "")
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    for number, event in enumerate(events, 1):
        request = urllib.request.Request(url, data=event, headers=headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=_SECONDS).close()
        except urllib.error.HTTPError as response:
            text = response.read(200).decode(errors="replace").strip()
            response.close()
            raise TidemillError(
                f"{url} rejected event {number}: {response.code} {response.reason} {text}".rstrip(),
                "check the URL and OPENLINEAGE_API_KEY, then send the run again: duplicates are harmless",
            ) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise TidemillError(f"{url} cannot be reached: {reason}", "check the URL, then send again") from None
