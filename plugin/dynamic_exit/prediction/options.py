"""How batch inference answers rows."""

from dataclasses import dataclass

from ..core.batching import DEFAULT_BATCH_SIZE
from ..errors import ArgumentError

#: Rows in a shard: what an interrupted run loses at most.
SHARD_ROWS = 10_000


@dataclass(frozen=True)
class PredictionOptions:
    """How rows are answered.

    Attributes:
        operating_point: Its name; None is the folder's default.
        batch_size: Rows in one call of the model, at least 1.
        shard_rows: Rows in a shard, at least 1.
        max_bad: Rows that may be left without an answer, as no input can be made of them or it is not finite.
        columns: Columns of a text, and of a second one that belongs to it; None are those of the folder's recipe.
        ray: Whether shards are answered side by side by Ray: on the cluster that ``RAY_ADDRESS`` names, else here.
        overwrite: Whether a finished output is replaced, and parts of another run are removed.

    Raises:
        ArgumentError: A number is too small.
    """

    operating_point: str | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    shard_rows: int = SHARD_ROWS
    max_bad: int = 0
    columns: tuple[str | int, ...] | None = None
    ray: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("shard_rows", 1), ("max_bad", 0)):
            if (value := getattr(self, name)) < least:
                raise ArgumentError(f"{name} must be at least {least}; got {value}")


#: What holds where nothing is said.
DEFAULTS = PredictionOptions()
