"""The release that waits for the end of a canary."""

from tidemill.core.release import Release
from tidemill.core.resources import BooksReader
from tidemill.core.route import Route
from tidemill.registry.bindings import read_regime
from tidemill.registry.stages import find_stage

RELEASE_WAITING = "release.waiting"


def find_waiting(books: BooksReader, environment: str, model: str, routes: list[Route]) -> Release | None:
    """Return the newest release of a model if it waits for the end of a canary; `routes` are those of the model.

    It no longer waits if a person has changed the route of the model since.
    """
    releases = [
        release
        for release in books.releases.find(name=model)
        if release.environment == environment and read_regime(release.data) is None
    ]
    newest = max(releases, key=lambda release: release.version, default=None)
    if newest is None:
        return None
    waiting = books.events.find(
        kind=RELEASE_WAITING, subject=newest.label, environment=environment, newest=True, limit=1
    )
    changed = [past for past in routes if waiting and past.since >= waiting[0].time]
    is_new = find_stage(newest.label, routes) == "candidate"
    if not waiting or not is_new or any(past.change == "manual" for past in changed):
        return None
    return newest
