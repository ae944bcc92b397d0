"""What the ONNX forms of evidence and confidence rules write to."""

from typing import Any, Protocol


class GraphWriter(Protocol):
    """What writes nodes of an ONNX graph."""

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the name of the output."""

    def add_pair(self, operator: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Add a node with two outputs and return their names."""

    def constant(self, value: Any, dtype: Any) -> str:
        """Return the name of a constant."""
