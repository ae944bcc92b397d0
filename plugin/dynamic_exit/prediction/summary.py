"""What batch inference has answered."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError


@dataclass
class PredictionSummary:
    """What was answered.

    Attributes:
        rows: All rows.
        bad: Rows without an answer.
        stages: Stage -> rows that it answered.
        resumed: Rows among them that an interrupted run had answered.
    """

    rows: int = 0
    bad: int = 0
    stages: Counter[str] = field(default_factory=Counter)
    resumed: int = 0

    def add(self, table: Any) -> None:
        """Count the rows of a shard that was answered before."""
        bad = table.num_rows - table["error"].null_count
        self.join(PredictionSummary(table.num_rows, bad, resumed=table.num_rows))
        self.count_stages(table)

    def count_stages(self, table: Any) -> None:
        """Count which stages answered the rows of a shard."""
        self.stages.update(each for each in table["stage"].to_pylist() if each is not None)

    def join(self, other: "PredictionSummary") -> None:
        """Count what stands in another one, too."""
        self.rows += other.rows
        self.bad += other.bad
        self.resumed += other.resumed
        self.stages += other.stages

    def check_bad(self, said: str, allowed: int) -> None:
        """Refuse one bad row too many.

        Args:
            said: Why a row is bad.
            allowed: How many may be.

        Raises:
            DataError: There are more.
        """
        if self.bad > allowed:
            more = f"it is one of more than {allowed} bad rows (--max-bad)" if allowed else "--max-bad allows bad rows"
            raise DataError(f"{said}; {more}")
