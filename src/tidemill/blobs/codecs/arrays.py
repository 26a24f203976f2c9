"""NumPy arrays in the format of NumPy, without pickle."""

from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tidemill.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class ArrayCodec:
    """Arrays of numbers, booleans, times and fixed-width text, written in row order."""

    kind = "array"

    def accepts(self, value: Any) -> bool:
        return type(value).__module__ == "numpy" and type(value).__name__ in ("ndarray", "memmap")

    def write(self, value: "npt.NDArray[Any]", sink: BinaryIO) -> None:
        """Write an array; raise `DataError` for an array of Python objects."""
        import numpy as np

        if value.dtype.hasobject:
            raise DataError(
                f"an array of dtype {value.dtype} contains Python objects, which are never pickled",
                "convert it to a dtype such as float, int, datetime64[us] or U20, or return a list or a frame",
            )
        np.lib.format.write_array(sink, np.asarray(value, order="C"), allow_pickle=False)

    def read(self, source: BinaryIO, annotation: Any) -> "np.ndarray[Any, Any]":  # noqa: ARG002 - required by the protocol
        import numpy as np

        return cast("np.ndarray[Any, Any]", np.lib.format.read_array(source, allow_pickle=False))

    def summary(self, value: "npt.NDArray[Any]") -> dict[str, Any]:
        return {"shape": list(value.shape), "dtype": str(value.dtype)}
