"""Sends events to a catalogue of lineage over HTTP, such as Marquez or DataHub."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

from tidemill.errors import InputError, TidemillError

_SECONDS = 10


def send(url: str, events: Iterable[bytes]) -> None:
    """Post events one by one, in their order; `OPENLINEAGE_API_KEY` is sent along where it is set.

    Raises
    ------
    InputError
        if the address is none of http.
    TidemillError
        if an event is refused, or nobody answers: those before it have arrived.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url!r} is no address to send events to", "give one such as http://HOST:5000/api/v1/lineage")
    key = os.environ.get("OPENLINEAGE_API_KEY", "")
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    for place, event in enumerate(events):
        request = urllib.request.Request(url, data=event, headers=headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=_SECONDS).close()
        except urllib.error.HTTPError as refused:
            said = refused.read(200).decode(errors="replace").strip()
            refused.close()
            raise TidemillError(
                f"{url} refused event {place + 1}: {refused.code} {refused.reason} {said}".rstrip(),
                "check the address and OPENLINEAGE_API_KEY; sending a run again does no harm",
            ) from None
        except (OSError, ValueError) as failed:
            reason = getattr(failed, "reason", failed)
            raise TidemillError(f"{url} cannot be reached: {reason}", "check the address, then send again") from None
