"""pyarrow, and its kernels with memory from the system's allocator.

pyarrow is an extra of this package, `arrow`, and slow to import: only those who want rows as Arrow
pay for it.

What surprised us: Arrow's default allocator held 57 MB more than the system's for the same rows,
and it gives memory back to the system that the next batch asks for again. The system's allocator
is told once to keep it (`vtgate/grpc.py`). The default of the process is not ours to change.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from tap_vitess.errors import ConfigError


def pyarrow() -> Any:
    """Import pyarrow, with its kernels.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.compute  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "rows as Arrow need pyarrow, which is not installed: install tap-vitess with the "
            "extra arrow"
        ) from None
    return pa


class Kernels:
    """The functions of pyarrow.compute and pyarrow that take a memory pool, with one given."""

    def __init__(self) -> None:
        """Import pyarrow.

        Raises:
            ConfigError: it is not installed.
        """
        self.pa = pyarrow()
        self._pool = self.pa.system_memory_pool()

    def __getattr__(self, name: str) -> Any:
        place = self.pa.compute if hasattr(self.pa.compute, name) else self.pa
        kernel = partial(getattr(place, name), memory_pool=self._pool)
        setattr(self, name, kernel)
        return kernel


@cache
def kernels() -> Kernels:
    """Return the kernels; raises ConfigError: pyarrow is not installed."""
    return Kernels()
