"""ModelFileInfo: what a model file tells of itself while nothing in it is run."""

from msgspec import Struct

from tidemill.core.model import Task


class ModelFileInfo(Struct, frozen=True, kw_only=True):
    """What could be read in a model file; what the file does not tell is empty or None.

    `names` are its features in its own order, `width` their number. `texts` are the features that may hold text
    (None: any), `integers` those that are whole numbers. `outputs` is the number of classes, and `classes` their names.
    `versions` are of the packages that made it. `imports` are what a pickle would import, and `whole` says whether it
    could be followed to its end.
    """

    names: tuple[str, ...] = ()
    width: int | None = None
    texts: tuple[str, ...] | None = None
    integers: tuple[str, ...] = ()
    task: Task | None = None
    outputs: int | None = None
    classes: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    imports: tuple[str, ...] = ()
    whole: bool = True
