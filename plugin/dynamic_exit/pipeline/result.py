"""What a run has made."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..points.operating_point import OperatingPoints
from ..report.metrics import Metrics


@dataclass(frozen=True, repr=False)
class Result:
    """What a run has made.

    Attributes:
        folder: Where it was written.
        points: The operating points.
        metrics: Everything measured, as in ``metrics.json``.
    """

    folder: Path
    points: OperatingPoints
    metrics: Metrics

    def __repr__(self) -> str:
        """Return folder and points, no other figures."""
        return f"Result({str(self.folder)!r}, {self.points!r})"

    def _repr_html_(self) -> str:
        return self.metrics._repr_html_()

    def to_bytes(self) -> bytes:
        """Return it as JSON, for other processes."""
        return json.dumps([str(self.folder), self.points.to_json(), self.metrics.to_dict()]).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Result":
        """Return what `to_bytes` took."""
        folder, points, metrics = json.loads(content)
        return cls(Path(folder), OperatingPoints.from_json(points), Metrics.model_validate(metrics))


def _optional_to_bytes(result: Result | None) -> bytes:
    return result.to_bytes() if result else b""


def _optional_from_bytes(content: bytes) -> Result | None:
    return Result.from_bytes(content) if content else None


#: A result or None as bytes, and back: for `distributed.run_on_main`.
OPTIONAL_AS_BYTES = (_optional_to_bytes, _optional_from_bytes)
