"""Model packages, read back from the blobs by digest."""

from collections import OrderedDict
from typing import ClassVar

from tidemill.blobs.artifacts import write_artifact
from tidemill.blobs.codecs import ModelCodec
from tidemill.blobs.store import Blobs
from tidemill.core.model import Model

_KEPT = 8


class BlobPackages:
    """Loads packages, and keeps the last few in memory."""

    writable: ClassVar[bool] = True

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._recent: OrderedDict[str, Model] = OrderedDict()

    def load(self, digest: str) -> Model:
        """The package of that digest; raises `NotFound` or `Corrupt`."""
        if digest not in self._recent:
            with self._blobs.open(digest) as source:
                self._recent[digest] = ModelCodec().read(source, Model)
            while len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
        self._recent.move_to_end(digest)
        return self._recent[digest]

    def save(self, model: Model) -> str:
        """Keep a package; its digest. It is on the platter when this returns."""
        return write_artifact(self._blobs, model).digest
