"""What the evidence of a chain costs in the ONNX file, over the stages whose answers it combines.

    python integration_tests/benchmarks/evidence_cost.py [--batch 64] [--rounds 30] [--time-limit 60]

Random weights, seed 0, one thread, processor time: for each chain of a saver and a backbone its two stages are timed in
turn with the nodes that make evidence and confidence of their logits, softmax included, as in a stitched file.
The columns are medians: milliseconds of both stages' evidence for a whole batch, its share of both stages' time, and
the share of the saver's evidence in the saver's own time, which is all that a sample pays that leaves there.
Bar: 2 % of the stages' time at batch 64.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import timm
import torch
from onnx import TensorProto, helper

from dynamic_exit.chain.confidence import Gate
from dynamic_exit.chain.evidence import Evidence
from dynamic_exit.core.user_code import load_function
from dynamic_exit.cost import measure_latency
from dynamic_exit.graph import Classifier
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.graph_builder import GraphBuilder
from dynamic_exit.onnx.session import open_session

CIFAR = Path(__file__).resolve().parents[2] / "recipes/cifar10/models.py"
STAGES = ("saver", "final")
RULES = (("none", "top1"), ("mean", "top1"), ("product", "margin"), ("product", "learned"))
OPSET, IR_VERSION = 18, 10


def cifar10() -> tuple[list[torch.nn.Module], int]:
    """ResNet-8 before ResNet-56, and the side of their pictures."""
    return [load_function(f"{CIFAR}:resnet8")(), load_function(f"{CIFAR}:resnet")(depth=56)], 32


def imagenet(saver: str, backbone: str) -> tuple[list[torch.nn.Module], int]:
    """Two models of timm."""
    return [timm.create_model(name) for name in (saver, backbone)], 224


CHAINS = {
    "10 classes, resnet8 and resnet56": cifar10,
    "1,000 classes, mobilenetv3_small_050 and resnet18": partial(imagenet, "mobilenetv3_small_050", "resnet18"),
}


def evidence_file(evidence: Evidence, stages: int, classes: int) -> onnx.ModelProto:
    """Return a model from the logits of so many stages to the confidence of each."""
    graph, state = GraphBuilder(""), ""
    given, made = [], []
    for stage in STAGES[:stages]:
        given.append(helper.make_tensor_value_info(stage, TensorProto.FLOAT, ["rows", classes]))
        probabilities = graph.add("Softmax", stage, axis=1)
        state, combined = evidence.rule_of(stage).onnx(graph, state, probabilities)
        confidence = graph.add("Identity", evidence.confidence_of(stage).onnx(graph, combined), out=f"{stage}/sure")
        made.append(helper.make_tensor_value_info(confidence, TensorProto.FLOAT, ["rows"]))
    return helper.make_model(
        graph.graph("evidence", made, given),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def measure(name: str, batch: int, rounds: int, time_limit: float) -> Iterator[str]:
    """Yield a line for each rule."""
    models, side = CHAINS[name]()
    pictures = torch.randn(batch, 3, side, side)
    calls, logits = {}, {}
    for stage, model in zip(STAGES, models, strict=True):
        part = export_part(stage, Classifier(model.eval()), ("input",), "logits", (pictures[:2],))
        session = open_session(part.proto, threads=1)
        calls[stage] = partial(session.run, None, {"input": pictures.numpy()})
        logits[stage] = 3 * np.random.standard_normal(calls[stage]()[0].shape).astype(np.float32)
    classes = logits["saver"].shape[1]
    gates = tuple((stage, Gate(offsets=tuple(np.linspace(-1, 1, classes)))) for stage in STAGES)
    for rule, confidence in RULES:
        evidence = Evidence(rule, confidence, (("saver", 0.5),), gates)
        for stages in (1, 2):
            session = open_session(evidence_file(evidence, stages, classes), threads=1)
            feeds = {stage: logits[stage] for stage in STAGES[:stages]}
            calls[f"{rule}, {confidence}, {stages}"] = partial(session.run, None, feeds)
    found = measure_latency(calls, batch=batch, rounds=rounds, time_limit=time_limit)
    seconds = {key: each.median * batch for key, each in found.items()}
    both = seconds["saver"] + seconds["final"]
    yield f"{name}, batch {batch}: saver {1e3 * seconds['saver']:.2f} ms, both stages {1e3 * both:.2f} ms"
    for rule, confidence in RULES:
        first, all_of_them = (seconds[f"{rule}, {confidence}, {stages}"] for stages in (1, 2))
        yield (
            f"  {rule:8} {confidence:8} {1e3 * all_of_them:7.3f} ms  {100 * all_of_them / both:6.3f} %  "
            f"saver alone {100 * first / seconds['saver']:6.3f} %"
        )


def main() -> None:
    """Measure both chains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--time-limit", type=float, default=60, help="seconds of a chain")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    for name in CHAINS:
        for line in measure(name, arguments.batch, arguments.rounds, arguments.time_limit):
            print(line, flush=True)


if __name__ == "__main__":
    main()
