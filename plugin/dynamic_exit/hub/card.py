"""The model card."""

from typing import Any

from ..report.page import table
from ..tuning.operating_point import OperatingPoints


def model_card(title: str, points: OperatingPoints, metrics: dict[str, Any]) -> str:
    """Return the model card as Markdown.

    Args:
        title: Name of the backbone.
        points: The operating points.
        metrics: Content of ``metrics.json``.
    """
    header, rows = table(metrics)
    lines = [
        "---",
        "library_name: dynamic_exit",
        "pipeline_tag: image-classification",
        "tags: [dynamic-exit, early-exit, onnx]",
        "---",
        f"# {title}, dynamic",
        "",
        "A classifier that answers easy inputs early. One ONNX file; the operating point is chosen when calling.",
        "",
        "```python",
        "from dynamic_exit import DynamicExitModelForImageClassification",
        "",
        'model = DynamicExitModelForImageClassification.from_pretrained("this folder")',
        f'model.set_operating_point("{points.names[0]}")',
        "answer = model(images)  # logits, exit_index, confidence",
        "```",
        "",
        f"| {' | '.join(header)} |",
        f"|{' --- |' * len(header)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Measured on {metrics['samples']['test']} test samples that nothing was tuned on; "
        f"cost in {points.cost_unit} over the backbone's; {metrics['timing']['runtime']}, "
        f"{metrics['timing']['threads']} thread, median and half the distance of the quartiles.",
    ]
    return "\n".join(lines) + "\n"
