"""What does not leave the driver: contexts and RDDs, of either face."""

from __future__ import annotations

from typing import Any

from asparkle.core.errors import NestedContextError
from asparkle.core.shown import shown


class DriverOnly:
    """Can't be pickled; who pickles for tasks says more than this does, see `closures.diagnose`."""

    def __reduce__(self) -> Any:
        raise NestedContextError(
            f"{shown(self)} can't be pickled or copied: it belongs to this process. Take the elements of an RDD, "
            "collect(), or the settings of a context, getConf(), instead"
        )
