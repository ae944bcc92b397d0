"""Heads of every kind in one file: it answers what the torch model answers, for maps and for tokens under a mask."""

import numpy as np
import pytest
import tiny
import torch
from onnx import TensorProto, helper
from torch import nn

from dynamic_exit.artifact.saved_model import load_model, save_model
from dynamic_exit.cost import node_macs
from dynamic_exit.errors import PassError
from dynamic_exit.graph import Classifier, Cut, capture, find_cuts, split
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.model_parts import ModelParts
from dynamic_exit.onnx.part import BATCH
from dynamic_exit.onnx.session import open_session
from dynamic_exit.onnx.stitch import stitch
from dynamic_exit.passes.early_exit import EarlyExitStanza, ExitTraining, FrozenBackbone, TrainingSamples, attach_exits
from dynamic_exit.runtime.model import DynamicExitModel

TRAINING = {"epochs": 2, "validation": 0.0}


def halves(model, feeds):
    """For each exit a threshold between the confidences of its samples."""
    with torch.no_grad():
        logits = model.all_stage_logits(*map(torch.from_numpy, feeds.values()))
    return [tiny.between(logits[name].softmax(1).amax(1)) for name in model.chain]


def assert_same(session, model, feeds, thresholds):
    thresholds = np.asarray(thresholds, np.float32)
    model.set_thresholds(thresholds)
    with torch.no_grad():
        answer = model(*map(torch.from_numpy, feeds.values()))
    logits, exit_index, confidence = session.run(None, {**feeds, "thresholds": thresholds})
    np.testing.assert_array_equal(exit_index, answer.exit_index.numpy())
    np.testing.assert_allclose(logits, answer.logits.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(confidence, answer.confidence.numpy(), rtol=1e-3, atol=1e-4)
    return exit_index


def test_all_kinds_on_maps_in_one_file():
    inputs, labels = tiny.samples("train")
    program = capture(Classifier(tiny.backbone()).eval(), (torch.from_numpy(inputs[:2]),))
    cuts = find_cuts(program, node_macs(program.graph_module, program.example_inputs))[1:2]
    segments, name = split(program, cuts), program.input_names[0]
    heads = ["linear", "mlp", "conv", "attention", {"kind": "conv", "halvings": 1, "width": 6, "blocks": 2}]
    stanza = EarlyExitStanza.model_validate({"heads": heads, "training": TRAINING})
    samples = TrainingSamples({name: torch.from_numpy(inputs)}, torch.from_numpy(labels))
    exits = attach_exits(FrozenBackbone(segments, cuts, tiny.CLASSES), samples, ExitTraining(stanza))
    assert [exit.rpartition(":")[2] for exit in exits] == ["linear", "mlp", "conv", "attention", "conv-2"]
    parts = [
        export_part(f"s{i}", each, each.input_names, each.output_kind, each.example_inputs)
        for i, each in enumerate(segments)
    ]
    example = segments[1].example_inputs
    chain = ModelParts(
        [], parts, [(export_part(n, head, head.input_names, "logits", example), i) for n, (i, head) in exits.items()]
    )
    feeds = {name: tiny.samples("test")[0]}
    proto = helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *inputs.shape[1:]])
    session = open_session(stitch(chain, [proto], tiny.CLASSES, [0.5] * 5, {}), threads=1)
    model = DynamicExitModel(segments, input_names=[name], exits=exits)
    thresholds = halves(model, feeds)
    for index in range(5):
        alone = [np.inf] * 5
        alone[index] = thresholds[index]
        assert set(assert_same(session, model, feeds, alone)) == {index, 5}
    assert len(set(assert_same(session, model, feeds, thresholds))) >= 2


class Tokens(nn.Module):
    """A segment over tokens (N, L, C) under a mask, or their masked mean as logits."""

    def __init__(self, input_names, layer, pooled):
        super().__init__()
        self.input_names, self.layer, self.pooled = input_names, layer, pooled
        self.output_kind = "logits" if pooled else "hidden"
        self.dynamic_dims = ({1: "length"},) * len(input_names)

    def forward(self, hidden, attention_mask=None):
        hidden = self.layer(hidden)
        if not self.pooled:
            return hidden
        real = attention_mask.to(hidden.dtype).unsqueeze(2)
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1)


@pytest.fixture(scope="module")
def masked():
    """Segments, inputs under a mask, labels: the class is the channel that is largest over the real tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = (
            Tokens(("x",), nn.Linear(4, 4), False),
            Tokens(("hidden", "attention_mask"), nn.Linear(4, 3), True),
        )
        x, lengths = torch.randn(200, 7, 4), torch.randint(2, 8, (200,))
        labels = torch.randint(0, 3, (200,))
        x[torch.arange(200), lengths - 1, labels] += 8.0
        mask = (torch.arange(7) < lengths[:, None]).long()
        x[mask == 0] = 50.0  # whoever looks there is lost
    return [first.eval(), last.eval()], {"x": x, "attention_mask": mask}, labels


def test_heads_under_a_mask_learn_and_answer_the_same_everywhere(masked, tmp_path):
    segments, inputs, labels = masked
    cut = Cut(0, "first", ("length", 4), 0.5, "first")
    stanza = EarlyExitStanza.model_validate({"heads": ["attention", "conv"], "training": {**TRAINING, "epochs": 30}})
    samples = TrainingSamples(inputs, labels)
    exits = attach_exits(FrozenBackbone(segments, [cut], 3), samples, ExitTraining(stanza))
    model = DynamicExitModel(segments, input_names=["x", "attention_mask"], exits=exits)
    with torch.no_grad():
        answers = model.all_stage_logits(*inputs.values())
    assert (answers["first:attention"].argmax(1) == labels).double().mean() > 0.95
    example = (torch.randn(2, 7, 4), inputs["attention_mask"][:2])
    parts = [
        export_part("s0", segments[0], ("x",), "hidden", example[:1]),
        export_part("s1", segments[1], segments[1].input_names, "logits", example),
    ]
    heads = [
        (export_part(name, head, head.input_names, "logits", example), index) for name, (index, head) in exits.items()
    ]
    protos = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, "length", 4]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [BATCH, "length"]),
    ]
    session = open_session(stitch(ModelParts([], parts, heads), protos, 3, [0.5] * 2, {}), threads=1)
    feeds = {name: tensor.numpy() for name, tensor in inputs.items()}
    first, second = halves(model, feeds)
    assert set(assert_same(session, model, feeds, [first, -1])) == {0, 1}
    assert set(assert_same(session, model, feeds, [np.inf, second])) == {1, 2}
    save_model(model, tmp_path / "saved", [tensor[:3] for tensor in inputs.values()])
    again = load_model(tmp_path / "saved")
    assert_same(session, again, feeds, [first, second])


def test_a_head_that_costs_more_than_it_could_save_is_left_out(masked, log_lines):
    """Behind 90 % of 200 multiply-adds: `linear` on a mean of 4 channels costs 12, `mlp` 28."""
    segments, inputs, labels = masked
    cut = Cut(0, "first", ("length", 4), 0.9, "first")
    stanza = EarlyExitStanza.model_validate({"heads": ["linear", "mlp"], "training": TRAINING})
    samples, training = TrainingSamples(inputs, labels), ExitTraining(stanza)
    exits = attach_exits(FrozenBackbone(segments, [cut], 3, macs=200.0), samples, training)
    assert list(exits) == ["first:linear"]
    assert "exit first:mlp is left out: it costs more than the rest of the backbone" in log_lines
    with pytest.raises(PassError, match="^no exit head costs less than what it could save; leave `early_exit` out"):
        attach_exits(FrozenBackbone(segments, [cut], 3, macs=100.0), samples, training)
