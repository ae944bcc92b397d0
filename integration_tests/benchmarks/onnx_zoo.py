"""Does one ONNX file answer what its torch model answers? A saver and three exits on models of many families.

    python integration_tests/benchmarks/onnx_zoo.py [--only TEXT] [--inputs 256] [--seed 0] [--runtime onnxruntime]

Random weights; thresholds by which about a fifth of the rows leave at each stage. Columns: rows that leave at each
stage; rows whose exits differ, apart from those where a confidence lies within 1e-4 of a
threshold, which are counted next; the largest difference of logits, and the largest logit; the file's size over the sum
of its parts'.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from zoo_models import HUGGING_FACE, Made, timm_family, torchvision_model

from dynamic_exit.cost import node_macs
from dynamic_exit.graph import Classifier, capture, find_cuts, split
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import Part
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.onnx.verification import Agreement, compare, run_model
from dynamic_exit.passes.early_exit.heads import build_head
from dynamic_exit.passes.early_exit.positions import choose_cuts
from dynamic_exit.recipe.target_registry import DEFAULT_TARGET, TARGETS
from dynamic_exit.runtime.model import DynamicExitModel

TIMM = (
    "resnet", "vision_transformer", "swin_transformer", "convnext", "efficientnet", "mobilenetv3", "regnet",
    "densenet", "deit", "mlp_mixer", "efficientformer_v2", "ghostnet", "byobnet", "metaformer", "levit", "beit",
)  # fmt: skip
TORCHVISION = ("vgg11_bn", "shufflenet_v2_x0_5", "squeezenet1_1")
TEXT = ("bert", "distilbert", "roberta", "albert", "electra", "mpnet", "deberta-v2")
EXITS, BATCH = 3, 64


class Saver(nn.Module):
    """A tiny model of any inputs: sums over fixed random projections of the first."""

    def __init__(self, example: Tensor, classes: int):
        super().__init__()
        self.words = None
        width = example[0].numel()
        if not example.is_floating_point():
            width, self.words = 16, nn.Embedding(1000, 16)
        self.layer = nn.Linear(width, classes)
        nn.init.normal_(self.layer.weight, std=3 * width**-0.5)

    def forward(self, first, *others):
        return self.layer(first.flatten(1) if self.words is None else self.words(first).sum(1))


def models() -> Iterator[tuple[str, Callable[[], Made]]]:
    """Yield (name, maker)."""
    for name in TEXT:
        yield name, HUGGING_FACE[name]
    for name in TORCHVISION:
        yield name, lambda name=name: torchvision_model(name)
    for name in TIMM:
        yield f"timm {name}", lambda name=name: timm_family(name)


def rows_of(example: Sequence[Tensor], names: Sequence[str], count: int) -> list[np.ndarray]:
    """Random inputs like the example's; masks hold a prefix of ones of random length."""
    made = []
    for name, tensor in zip(names, example, strict=True):
        shape = (count, *tensor.shape[1:])
        if tensor.is_floating_point():
            made.append(torch.randn(shape))
        elif name.endswith("mask"):
            length = torch.randint(2, shape[1] + 1, (count, 1))
            made.append((torch.arange(shape[1]) < length).to(tensor.dtype))
        elif name == "token_type_ids":
            made.append(torch.zeros(shape, dtype=tensor.dtype))
        else:
            made.append(torch.randint(5, 100, shape, dtype=tensor.dtype))
    return [each.numpy() for each in made]


def thresholds_for(model: DynamicExitModel, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Let about a fifth of all rows leave at each stage, by thresholds midway between two confidences."""
    count = len(model.chain)
    found = np.full(count, np.inf, np.float32)
    for index in range(count):
        trial = found.copy()
        trial[index] = -1.0  # all that reach it leave
        _, exits, confidence = run_model(model, inputs, trial, BATCH)
        values = np.sort(confidence[exits == index])
        values = values[len(values) * (count - index) // (count + 1 - index) - 4 :][:8]
        if len(values) > 1:  # the widest gap nearby, so that rounding decides nothing
            gap = int(np.diff(values).argmax())
            found[index] = (values[gap] + values[gap + 1]) / 2
    return found


@dataclass(frozen=True)
class Built:
    """A dynamic model with a saver and exits, in torch and as one file.

    Attributes:
        model: In torch.
        inputs: Of all rows, in the model's order.
        names: Of the inputs.
        file: In ONNX, all stages off by default.
        parts: What the file is made of.
    """

    model: DynamicExitModel
    inputs: list[np.ndarray]
    names: tuple[str, ...]
    file: onnx.ModelProto
    parts: list[Part]


@torch.no_grad()
def awake(made: Made) -> Made:
    """Untrained scales can be so small that all inputs get one answer, down to rounding: such become 1."""
    model, example, keywords = made
    if example[0].is_floating_point():
        hidden = Classifier(model, keywords=keywords)(*example)
        if (hidden[0] - hidden[1]).abs().max() < 1e-4 * hidden.abs().max():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.ones_(module.weight)
    return made


@torch.no_grad()
def build(made: Made, saver: nn.Module | None = None, count: int = 64, exits: int = EXITS) -> Built:
    """Cut a model, put random heads that have seen some inputs on it and a saver in front, and export all."""
    model, example, keywords = made
    program = capture(Classifier(model, keywords=keywords), example)
    cuts = choose_cuts(find_cuts(program, node_macs(program, example)), "auto", exits)
    segments, names = split(program, cuts), program.input_names
    inputs = rows_of(example, names, count)
    given = dict(zip(names, (torch.from_numpy(each[:64]) for each in inputs), strict=True))
    saver = Saver(example[0], program.classes).eval() if saver is None else saver
    parts, heads, placed = [export_part("saver", saver, names, "logits", example)], [], {}
    for index, segment in enumerate(segments):
        taken = [given[name] for name in segment.input_names]
        parts.append(
            export_part(
                f"segment{index}", segment, segment.input_names, segment.output_kind, [each[:2] for each in taken]
            )
        )
        given["hidden"] = segment(*taken)
        if index < len(cuts):
            name, head = f"{cuts[index].name}:linear", build_head("linear", cuts[index].shape, program.classes).eval()
            head.prepare(head.features(given["hidden"]))
            placed[name] = (index, head)
            heads.append((export_part(name, head, head.input_names, "logits", (given["hidden"][:2],)), index))
    dynamic = DynamicExitModel(segments, input_names=names, savers={"saver": saver}, exits=placed, fuse="mean")
    chain = ModelParts(parts[:1], parts[1:], heads, "mean")
    file = stitch(chain, parts[0].proto.graph.input, program.classes, [np.inf] * len(chain.stages), {})
    return Built(dynamic, inputs, names, file, [*parts, *(head for head, _ in heads)])


def check(
    make: Callable[[], Made], count: int, runtime: str = DEFAULT_TARGET
) -> tuple[Agreement, np.ndarray, float, float]:
    """Return how torch and the file agree, rows by stage, the largest logit, and the file's size over its parts'."""
    built = build(awake(make()), count=count)
    thresholds = thresholds_for(built.model, built.inputs)
    feeds = dict(zip(built.names, built.inputs, strict=True))
    session = TARGETS.find(runtime).open_model(built.file, 1)
    agreement = compare(built.model, session, feeds, [thresholds], BATCH)
    logits, exits, _ = run_model(built.model, built.inputs, thresholds, BATCH)
    rows = np.bincount(exits, minlength=len(thresholds) + 1)
    size = built.file.ByteSize() / sum(part.proto.ByteSize() for part in built.parts)
    return agreement, rows, float(np.abs(logits).max()), size


def main() -> None:
    """Sweep all models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="models whose name holds this text")
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runtime", default=DEFAULT_TARGET, help="the target whose runtime answers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    agreed = total = 0
    for name, make in models():
        if arguments.only and arguments.only not in name:
            continue
        torch.manual_seed(arguments.seed)
        began = time.perf_counter()
        agreement, rows, largest, size = check(make, arguments.inputs, arguments.runtime)
        total += 1
        agreed += not agreement.exits_apart + agreement.rounding and agreement.largest_difference <= 1e-4
        leave = "/".join(map(str, rows))
        print(
            f"{name:28} leave {leave:22} apart {agreement.exits_apart}, rounding {agreement.rounding}, "
            f"predictions {agreement.predictions_apart}, logits {agreement.largest_difference:.1e} of their size, "
            f"which is up to {largest:.1f}, size {size:.3f}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    print(f"{agreed} of {total} agree on every exit of {arguments.inputs} inputs, logits within 1e-4")


if __name__ == "__main__":
    main()
