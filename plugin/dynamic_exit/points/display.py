"""How operating points are shown in a console and a notebook."""

from typing import TYPE_CHECKING

from ..records.display import html_table

if TYPE_CHECKING:
    from .operating_point import OperatingPoint


class PointsDisplay:
    """What `OperatingPoints` show of themselves; its attributes are theirs."""

    if TYPE_CHECKING:  # pydantic would take them for fields of its own
        points: tuple[OperatingPoint, ...]
        cost_unit: str

    def __repr__(self) -> str:
        """Return names with cost and accuracy."""
        told = ", ".join(f"{each.name}: {each.cost_ratio:.3f} of the cost, {each.accuracy:.1%}" for each in self.points)
        return f"OperatingPoints({told or 'none'})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = [
            [
                point.name,
                f"{point.accuracy:.1%}",
                f"{point.accuracy_drop:.2%}",
                f"{point.cost_ratio:.3f}",
                ", ".join(f"{stage.stage} > {stage.threshold:.3f}" for stage in point.stages) or "none",
                f"{point.guarantee.probability:.0%}" if point.guarantee else "none",
            ]
            for point in self.points
        ]
        header = ["operating point", "accuracy", "drop", "cost", "thresholds", "guarantee"]
        return html_table(f"Operating points; cost over the backbone's, in {self.cost_unit}", header, rows)
