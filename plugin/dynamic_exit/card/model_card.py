"""The model card (`README.md`) of a written folder, as the Hugging Face hub shows it."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..artifact.manifest import IMAGES, InputSpec, Manifest
from ..points.operating_point import OperatingPoint, OperatingPoints
from ..recipe.target_registry import TARGETS
from ..report.metrics import Metrics, PointFigures
from ..report.tables import Table, class_table, metrics_table, percent
from ..runtime.stages import FLOAT
from ..sources.models.origin import Origin


def model_card(
    title: str,
    manifest: Manifest,
    points: OperatingPoints,
    metrics: Metrics,
    origin: Origin | None = None,
    dataset: str = "own data",
) -> str:
    """Return the model card as Markdown.

    Args:
        title: Name of the backbone.
        manifest: Manifest of the folder.
        points: The operating points.
        metrics: Content of ``metrics.json``.
        origin: Where the backbone comes from; None if nobody knows.
        dataset: Name of the data.
    """
    sections = {
        "": _summary(title, manifest, points, metrics),
        "Use": _usage(manifest, points),
        "Operating points": _figures(manifest, points, metrics),
        "Where samples leave": _markdown(_exit_table(metrics)),
        "Guarantee": _guarantees(points),
        "Limits": _limits(manifest, metrics, dataset),
    }
    lines = ["---", _metadata(title, manifest, metrics, origin or Origin(), dataset), "---", f"# {title}, dynamic"]
    for name, content in sections.items():
        lines += ["", *([f"## {name}", ""] if name else []), *content]
    return "\n".join(lines) + "\n"


def dataset_name(path: str) -> str:
    """Return the name of data without their place: a folder, a file, or a name on the hub."""
    return Path(re.sub(r":\w+$", "", path)).name


def _metadata(title: str, manifest: Manifest, metrics: Metrics, origin: Origin, dataset: str) -> str:
    """Return the YAML that the hub reads: what the model is, what it comes from, and its figures."""
    named = {name: value for name, value in origin._asdict().items() if value}
    described = {
        **named,
        "library_name": "dynamic_exit",
        "pipeline_tag": manifest.task,
        "tags": ["dynamic-exit", "early-exit", TARGETS.find(manifest.target).tag],
        "metrics": ["accuracy"],
        "model-index": [
            {
                "name": f"{title}, dynamic",
                "results": [
                    {
                        "task": {"type": manifest.task},
                        "dataset": {"type": "custom", "name": dataset, "split": "test"},
                        "metrics": [
                            {"type": "accuracy", "value": round(row.accuracy, 4), "name": f"Accuracy, {row.name}"}
                            for row in metrics.rows
                        ]
                        + [
                            {"type": "cost_ratio", "value": round(row.cost_ratio, 4), "name": f"Cost, {row.name}"}
                            for row in _points(metrics)
                        ],
                    }
                ],
            }
        ],
    }
    return yaml.safe_dump(described, sort_keys=False, allow_unicode=True, width=1000).rstrip()


def _points(metrics: Metrics) -> list[PointFigures]:
    return [row for row in metrics.rows if not row.name.startswith("backbone, ")]


def _summary(title: str, manifest: Manifest, points: OperatingPoints, metrics: Metrics) -> list[str]:
    """Say in two sentences what it is and what it saves."""
    runs = f"{manifest.target}{', compiled with inductor' * manifest.compile}, its backbone in {manifest.numerics}"
    first = (
        f"A classifier that answers easy inputs early: small stages before or inside of `{title}` answer what they are "
        f"sure of, at an operating point that is chosen when calling; it runs in {runs}."
    )
    found = {row.name: row for row in metrics.rows}
    default = found.get(manifest.default or (points.names or [""])[0])
    if default is None:
        return [first]
    backbone, (size, speed_up) = metrics.rows[0], next(iter(default.speed_up.items()))
    return [
        f"{first} At `{default.name}`, {percent(default.accuracy, default.accuracy_standard_error)} of the test "
        f"samples are right ({backbone.name}: {percent(backbone.accuracy, backbone.accuracy_standard_error)}) at "
        f"{default.cost_ratio:.3f} of the backbone's cost, {speed_up:.1f} times as fast as it in batches of {size}."
    ]


def _usage(manifest: Manifest, points: OperatingPoints) -> list[str]:
    """Return code that runs as it is in this folder."""
    kind = "Image" if manifest.task == IMAGES else "Sequence"
    name = points.names[0]
    if manifest.tokenizer_files:
        given = ["tokenizer = AutoTokenizer.from_pretrained(folder)"]
        given.append('inputs = tokenizer(["a first text", "a second one"], padding=True, return_tensors="pt")')
        call = "**inputs"
    else:
        given = [f"{each['name']} = {_zeros(each)}  # two samples; yours" for each in manifest.inputs]
        names = [each["name"] for each in manifest.inputs]
        call = names[0] if len(names) == 1 else ", ".join(f"{each}={each}" for each in names)
    imports = ["import torch"] if not manifest.tokenizer_files else []
    imports += [f"from dynamic_exit import DynamicExitModelFor{kind}Classification"]
    imports += ["from transformers import AutoTokenizer"] if manifest.tokenizer_files else []
    return [
        "```python",
        *imports,
        "",
        'folder = "."  # this folder, or the name of its repository',
        f"model = DynamicExitModelFor{kind}Classification.from_pretrained(folder)",
        f'model.set_operating_point("{name}")',
        *given,
        f"answer = model({call})  # logits, exit_index, confidence",
        "print([model.config.id2label[index] for index in answer.logits.argmax(1).tolist()], answer.exit_index)",
        "```",
        "",
        "`pip install neural-compressor-dynamic-exit[serve]` installs what this needs. After `import dynamic_exit`, "
        f'`pipeline("{manifest.task}", model=folder)` of transformers works, too.',
    ]


def _zeros(spec: InputSpec) -> str:
    shape = [2, *(side if isinstance(side, int) else 8 for side in spec["shape"])]
    return f"torch.zeros({', '.join(map(str, shape))}, dtype=torch.{spec['dtype']})"


def _figures(manifest: Manifest, points: OperatingPoints, metrics: Metrics) -> list[str]:
    table = metrics_table(metrics)
    stages = {stage for row in metrics.rows for stage in row.exit_rates}
    known = table.keep([place for place, name in enumerate(table.header) if name not in stages])
    timed = "; times are those of the same stages in one file" if manifest.has_onnx_parts else ""
    return [
        *_markdown(known),
        "",
        f"Measured on {metrics.samples['test']} test samples that nothing was tuned on; "
        f"cost in {points.cost_unit} over the backbone's; {metrics.timing.runtime}, "
        f"{metrics.timing.threads} thread; accuracy with its standard error; "
        f"times: median and half the distance of the quartiles{timed}.",
    ]


def _exit_table(metrics: Metrics) -> Table:
    """Return the share of test samples that each stage answers, by operating point."""
    rows = _points(metrics) or metrics.rows
    stages = [name for name in metrics.rows[0].exit_rates if any(row.exit_rates.get(name) for row in rows)]
    cells = [[name, *(percent(row.exit_rates.get(name), digits=0) for row in rows)] for name in stages]
    return Table(["stage", *(row.name for row in rows)], cells)


def _guarantees(points: OperatingPoints) -> list[str]:
    """Say which operating points have a guarantee, and how to read it."""
    guaranteed = [point for point in points.points if point.guarantee]
    if not guaranteed:
        return [
            "None of the operating points has a guarantee: their drops are measured on the test samples, and others of "
            "the same kind may lose more, about as far as the standard errors say. `tuning.guarantee` asks for one."
        ]
    return [
        *(f"- `{point.name}`: {_promise(point)}" for point in guaranteed),
        "",
        "The probability is over the draw of those samples, which neither training nor the search has seen: of many "
        "such draws, at most the remaining share lets a bound through that does not hold. It is about inputs of the "
        "same kind on average, neither about other inputs nor about a single one.",
    ]


def _promise(point: OperatingPoint) -> str:
    """Say what is guaranteed for a point that has a guarantee."""
    held = point.guarantee
    assert held is not None
    bounds = {
        "accuracy drops": held.max_accuracy_drop,
        f"{point.risk.name if point.risk else 'risk'} grows": held.max_risk_increase,
        "the accuracy of every class drops": held.max_class_drop,
    }
    told = [f"{what} by at most {100 * bound:g} points" for what, bound in bounds.items() if bound is not None]
    return f"{' and '.join(told)}, with a probability of {held.probability:.4g}, tested on {held.samples} samples"


def _limits(manifest: Manifest, metrics: Metrics, dataset: str) -> list[str]:
    """Return what to know before it is used elsewhere: data, machine, what was noticed, classes."""
    shapes = ", ".join(f"{each['name']} {' x '.join(map(str, each['shape']))}" for each in manifest.inputs)
    tuned = (
        f"It was tuned on {metrics.samples['calibration']} samples of {dataset} ({shapes}) and has "
        f"{len(manifest.labels) or len(metrics.class_names)} classes: for other inputs no figure here holds; "
        "`dynamic-exit evaluate` measures them."
    )
    classes = class_table(metrics)
    return [
        *(f"- {line}" for line in (tuned, *_requirements(manifest, metrics), *metrics.notes)),
        *(["", f"{classes.title}:", "", *_markdown(classes)] if classes else []),
    ]


def _requirements(manifest: Manifest, metrics: Metrics) -> list[str]:
    """Return which runtimes and processors the figures hold for."""
    timing, said = metrics.timing, []
    if timing.oldest_runtime:
        said.append(f"It needs {manifest.target} {timing.oldest_runtime} or newer.")
    if timing.instruction_set:
        rounding = "" if manifest.numerics == FLOAT else f", and {manifest.numerics} may answer otherwise there"
        said.append(
            f"The processor was {timing.machine} with {timing.instruction_set}: on another one times differ{rounding}; "
            "`dynamic-exit evaluate` measures it."
        )
        if manifest.target == "onnxruntime" and manifest.numerics != FLOAT:
            said.append(_seven_bits("VNNI" in timing.instruction_set or "AMX" in timing.instruction_set))
    return said


def _seven_bits(vnni: bool) -> str:
    if vnni:
        return (
            "Its 8-bit weights were made on a processor with VNNI: without it sums of their products may overflow; "
            "`export.reduce_range: true` makes weights of 7 bits, for all processors."
        )
    return (
        "Its 8-bit weights keep to 7 bits, as processors without VNNI need it, unless `export.reduce_range` of its "
        "recipe says otherwise; where VNNI is, all 8 are more exact."
    )


def _markdown(table: Table) -> list[str]:
    """Return the lines of a table; names of classes may hold what separates its columns, or ends a line."""
    lines = [[_cell(cell) for cell in row] for row in (table.header, *table.rows)]
    rows = [_row(row) for row in lines]
    return [rows[0], f"|{' --- |' * len(table.header)}", *rows[1:]]


def _cell(text: str) -> str:
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
