import copy

import pytest
import torch
from torch import nn

from dynamic_exit.cost import count_macs, node_macs
from dynamic_exit.errors import CutError
from dynamic_exit.graph import Classifier, capture, export_program, find_cuts, select_cuts, split


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.act = nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True)

    def forward(self, x):
        x = x + self.conv2(self.act(self.norm1(self.conv1(x))))
        return self.act(x)


class Residual(nn.Module):
    def __init__(self, blocks=3):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.blocks = nn.Sequential(*[Block(6) for _ in range(blocks)])
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Masked(nn.Module):
    """Two attention layers under a mask, the way text models are built."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(nn.ModuleDict({"qkv": nn.Linear(8, 24), "out": nn.Linear(8, 8)}) for _ in range(2))
        self.mixers = nn.ModuleList(Mixer(layer) for layer in self.layers)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        bias = (1 - attention_mask[:, None, None, :].float()) * -1e4
        x = self.embed(input_ids)
        for mixer in self.mixers:
            x = mixer(x, bias)
        return self.head(x[:, 0])


class Mixer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, bias):
        rows, length, width = x.shape
        q, k, v = self.layer["qkv"](x).view(rows, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return x + self.layer["out"](mixed.transpose(1, 2).reshape(rows, length, width))


class Late(nn.Module):
    """The second input joins after the first block."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8))
        self.side = nn.Linear(2, 8)
        self.two = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x, extra):
        return self.two(self.one(x) + self.side(extra))


def prepared(model, inputs, keywords=None):
    program = capture(Classifier(model.eval(), keywords=keywords), inputs)
    return program, find_cuts(program, node_macs(program, inputs))


def run(program, segments, inputs):
    values = dict(zip(program.input_names, inputs, strict=True))
    for segment in segments:
        values["hidden"] = segment(*(values[name] for name in segment.input_names))
    return values["hidden"]


IDS = torch.randint(0, 20, (2, 5))
CASES = {
    "residual": (Residual, lambda rows: (torch.randn(rows, 3, 8, 8),), None),
    "masked": (
        Masked,
        lambda rows: (torch.randint(0, 20, (rows, 5)), (torch.rand(rows, 5) < 0.8).long().clamp(min=0)),
        ["input_ids", "attention_mask"],
    ),
    "late": (Late, lambda rows: (torch.randn(rows, 6), torch.randn(rows, 2)), None),
}


@pytest.mark.parametrize("case", CASES)
def test_segments_in_sequence_are_the_model(case):
    make, inputs, keywords = CASES[case]
    model = make()
    program, cuts = prepared(model, inputs(2), keywords)
    segments = split(program, cuts)
    assert len(segments) == len(cuts) + 1 and cuts
    assert [segment.output_kind for segment in segments] == ["hidden"] * len(cuts) + ["logits"]
    for rows in (1, 2, 7):
        x = inputs(rows)
        with torch.no_grad():
            assert torch.equal(run(program, segments, x), model(*x))
    own = {tensor.data_ptr() for tensor in model.parameters()}
    assert all(tensor.data_ptr() in own for segment in segments for tensor in segment.parameters())
    whole = count_macs(model, inputs(2))
    assert sum(count_macs(each, each.example_inputs) for each in segments) == whole
    assert sum(node_macs(program, program.example_inputs).values()) == whole


def test_cuts_are_block_ends_with_names_shapes_and_shares():
    program, cuts = prepared(Residual(), (torch.randn(2, 3, 8, 8),))
    found = [(cut.index, cut.name, cut.shape) for cut in cuts]
    assert found == [(0, "blocks.0", (6, 6, 6)), (1, "blocks.1", (6, 6, 6))]
    block, stem, head = 2 * 36 * 36 * 9, 36 * 3 * 6 * 9, 24
    whole = 3 * block + stem + head
    assert [cut.share for cut in cuts] == pytest.approx([(stem + block) / whole, (stem + 2 * block) / whole])


def test_masks_are_recomputed_and_only_the_hidden_state_crosses():
    program, cuts = prepared(Masked(), (IDS, torch.ones_like(IDS)), ["input_ids", "attention_mask"])
    assert [cut.name for cut in cuts] == ["mixers.0", "mixers.1"]
    assert cuts[0].shape == ("length", 8)
    segments = split(program, cuts)
    assert [segment.input_names for segment in segments] == [
        ("input_ids", "attention_mask"), ("hidden", "attention_mask"), ("hidden",),
    ]  # fmt: skip
    assert segments[1].dynamic_dims == ({0: "batch", 1: "length"}, {0: "batch", 1: "length"})
    assert [tuple(each.shape) for each in segments[1].example_inputs] == [(2, 5, 8), (2, 5)]


def test_a_late_input_is_taken_where_it_is_needed():
    program, cuts = prepared(Late(), (torch.randn(2, 6), torch.randn(2, 2)))
    segments = split(program, select_cuts(cuts, ["one"]))
    assert [segment.input_names for segment in segments] == [("x",), ("hidden", "extra")]


def test_layers_of_a_plain_sequence_serve_where_there_is_no_block():
    model = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.ReLU())], nn.Linear(6, 3))
    _, cuts = prepared(model, (torch.randn(2, 6),))
    assert [cut.name for cut in cuts] == ["1", "3", "5", "7"]


def test_a_shared_layer_is_named_by_its_call():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))

        def forward(self, x):
            for _ in range(3):
                x = self.layer(x)
            return x

    program, cuts = prepared(Loop(), (torch.randn(2, 6),))
    assert [cut.name for cut in cuts] == ["layer", "layer@1"]
    assert len(split(program, cuts)) == 3


def test_no_cut_is_one_segment_and_wrong_cuts_are_refused():
    model = Residual()
    program, cuts = prepared(model, (torch.randn(2, 3, 8, 8),))
    (whole,) = split(program, [])
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(whole(x), model(x)) and whole.input_names == ("x",)
    with pytest.raises(CutError, match="there is no cut 'block.0'; did you mean 'blocks.0'?"):
        select_cuts(cuts, ["block.0"])
    with pytest.raises(CutError, match="cut 'blocks.0' is named twice; give it once"):
        select_cuts(cuts, ["blocks.0", "blocks.0"])
    with pytest.raises(CutError, match="are the same place; give it once"):
        split(program, [cuts[0], cuts[0]])
    other, _ = prepared(Late(), (torch.randn(2, 6), torch.randn(2, 2)))
    with pytest.raises(CutError, match="is not in this model"):
        split(other, cuts)


def test_segments_export_again_with_one_batch_symbol():
    program, cuts = prepared(Masked(), (IDS, torch.ones_like(IDS)), ["input_ids", "attention_mask"])
    segment = split(program, cuts)[1]
    exported = export_program(segment, segment.example_inputs)
    shapes = [node.meta["val"].shape for node in exported.graph.nodes if node.name.startswith("tensors")]
    assert len({str(shape[0]) for shape in shapes}) == 1 and len({str(shape[1]) for shape in shapes}) == 1
    assert not any(isinstance(shape[0], int) for shape in shapes)
    hidden, mask = torch.randn(1, 9, 8), torch.ones(1, 9, dtype=torch.int64)
    assert torch.equal(exported.module(check_guards=False)(hidden, mask), segment(hidden, mask))


def test_segments_copy_and_change_precision_and_follow_weights():
    model = Masked()
    program, cuts = prepared(model, (IDS, torch.ones_like(IDS)), ["input_ids", "attention_mask"])
    segments = split(program, cuts)
    x = (IDS, torch.ones_like(IDS))
    twins = copy.deepcopy(segments)
    assert torch.equal(run(program, twins, x), run(program, segments, x))
    assert {p.data_ptr() for p in twins[0].parameters()}.isdisjoint(p.data_ptr() for p in segments[0].parameters())
    doubled = [twin.double() for twin in twins]
    torch.testing.assert_close(run(program, doubled, x).float(), run(program, segments, x))
    assert doubled[1].example_inputs[0].dtype == torch.float64
    with torch.no_grad():
        model.head.bias += 1
    assert torch.equal(run(program, segments, x), model(*x))


def test_a_cut_lies_behind_the_norm_activation_and_pooling_that_follow_a_block():
    """A block that ends in a bare convolution: int8 would otherwise have to run its norm alone."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
            self.norm, self.pool = nn.BatchNorm2d(4), nn.MaxPool2d(2)
            self.body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            x = self.pool(torch.relu(self.norm(self.stem(x))))
            return self.head(self.body(x).mean((2, 3)))

    torch.manual_seed(0)
    images = torch.randn(5, 1, 8, 8)
    model = Net().eval()
    program = capture(Classifier(model).eval(), (images,))
    cuts = find_cuts(program, node_macs(program.graph_module, program.example_inputs))
    assert cuts[0].name == "stem"
    assert cuts[0].shape == (4, 4, 4)
    first, second = split(program, cuts[:1])
    with torch.no_grad():
        pooled = model.pool(torch.relu(model.norm(model.stem(images))))
        assert torch.equal(first(images), pooled)
        assert torch.equal(second(first(images)), model(images))
