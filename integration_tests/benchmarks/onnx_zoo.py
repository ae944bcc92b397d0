"""Does one ONNX file answer what its torch model answers? A saver and three exits on models of many families.

    python integration_tests/benchmarks/onnx_zoo.py [--only TEXT] [--inputs 256] [--seed 0]

Random weights; thresholds by which about a fifth of the rows leave at each stage. Columns: rows that leave at each
stage; rows whose exits differ, apart from those where a confidence lies within 1e-4 of a
threshold, which are counted next; the largest difference of logits, and the largest logit; the file's size over the sum
of its parts'.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from zoo_models import HUGGING_FACE, Made, timm_family, torchvision_model

from dynamic_exit.cost import node_macs
from dynamic_exit.graph import Classifier, Program, capture, find_cuts, split
from dynamic_exit.onnx.parts import export_part
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.stitch import Chain, stitch
from dynamic_exit.onnx.verify import Agreement, compare, run_model
from dynamic_exit.passes.early_exit.heads import build_head
from dynamic_exit.passes.early_exit.positions import choose_cuts
from dynamic_exit.runtime.model import DynamicExitModel

TIMM = (
    "resnet", "vision_transformer", "swin_transformer", "convnext", "efficientnet", "mobilenetv3", "regnet",
    "densenet", "deit", "mlp_mixer", "efficientformer_v2", "ghostnet", "repvgg", "poolformer", "levit", "beit",
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


@torch.no_grad()
def build(
    model: nn.Module, example: tuple[Tensor, ...], keywords: Sequence[str] | None, inputs_of: Callable
) -> tuple[Program, DynamicExitModel, dict[str, tuple[int, nn.Module]]]:
    """Cut a model, with random heads that have seen some inputs, and a random saver in front."""
    classifier = Classifier(model, keywords=keywords)
    program = capture(classifier, example)
    cuts = choose_cuts(find_cuts(program, node_macs(program, example)), "auto", EXITS)
    segments = split(program, cuts)
    inputs = inputs_of(program.input_names)
    given = dict(zip(program.input_names, (torch.from_numpy(each) for each in inputs), strict=True))
    exits, hidden = {}, None
    for index, (cut, segment) in enumerate(zip(cuts, segments, strict=False)):
        hidden = segment(*(hidden if name == "hidden" else given[name][:64] for name in segment.takes))
        head = build_head("linear", cut.shape, program.classes, cut=cut.name).eval()
        head.prepare(head.features(hidden))
        exits[f"{cut.name}:linear"] = (index, head)
    saver = Saver(example[0], program.classes).eval()
    names = program.input_names
    dynamic = DynamicExitModel(segments, input_names=names, savers={"saver": saver}, exits=exits, fuse="mean")
    return program, dynamic, exits


def check(make: Callable[[], Made], count: int) -> tuple[Agreement, np.ndarray, float, float]:
    """Return how torch and the file agree, rows by stage, the largest logit, and the file's size over its parts'."""
    model, example, keywords = make()
    inputs: list[np.ndarray] = []

    def inputs_of(names: Sequence[str]) -> list[np.ndarray]:
        inputs.extend(rows_of(example, names, count))
        return inputs

    program, dynamic, exits = build(model, example, keywords, inputs_of)
    names, given = program.input_names, dict(zip(program.input_names, example, strict=True))
    savers = [export_part("saver", dynamic.savers[0], names, "logits", example)]
    segments, heads, hidden = [], [], None
    for index, segment in enumerate(dynamic.segments):
        segments.append(export_part(f"segment{index}", segment, segment.takes, segment.gives, segment.example_inputs))
        with torch.no_grad():
            hidden = segment(*(hidden if name == "hidden" else given[name] for name in segment.takes))
        for name, (behind, head) in exits.items():
            if behind == index:
                heads.append((export_part(name, head, head.takes, "logits", (hidden,)), index))
    chain = Chain(savers, segments, heads, "mean")
    file = stitch(chain, savers[0].proto.graph.input, program.classes, [np.inf] * len(chain.stages), {})
    thresholds = thresholds_for(dynamic, inputs)
    feeds = dict(zip(names, inputs, strict=True))
    agreement = compare(dynamic, open_session(file, threads=1), feeds, [thresholds], BATCH)
    logits, exits, _ = run_model(dynamic, inputs, thresholds, BATCH)
    parts = sum(part.proto.ByteSize() for part in (*savers, *segments, *(head for head, _ in heads)))
    rows = np.bincount(exits, minlength=len(chain.stages) + 1)
    return agreement, rows, float(np.abs(logits).max()), file.ByteSize() / parts


def main() -> None:
    """Sweep all models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="models whose name holds this text")
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    agreed = total = 0
    for name, make in models():
        if arguments.only and arguments.only not in name:
            continue
        torch.manual_seed(arguments.seed)
        began = time.perf_counter()
        agreement, rows, largest, size = check(make, arguments.inputs)
        total += 1
        agreed += not agreement.exits_apart + agreement.rounding and agreement.largest_difference <= 1e-4
        leave = "/".join(map(str, rows))
        print(
            f"{name:28} leave {leave:22} apart {agreement.exits_apart}, rounding {agreement.rounding}, "
            f"predictions {agreement.predictions_apart}, logits {agreement.largest_difference:.1e} of {largest:5.1f}, "
            f"size {size:.3f}, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
    print(f"{agreed} of {total} agree on every exit of {arguments.inputs} inputs, logits within 1e-4")


if __name__ == "__main__":
    main()
