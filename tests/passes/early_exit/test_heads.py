"""Heads: what they see, what they compute by hand, what they refuse, and that they answer the same in ONNX."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from dynamic_exit.cost import count_macs
from dynamic_exit.errors import PassError
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.passes import explain
from dynamic_exit.passes.early_exit import EarlyExitStanza, build_head, register_head, registered_heads
from dynamic_exit.passes.early_exit.heads import FeatureLayout, GlobalPool, GridPool, Standardize, name_heads

KINDS = ["linear", "mlp", "conv", "attention"]
#: maps first and last, a grid of tokens, with class token, without grid, of free length
SHAPES = [(6, 12, 10), (9, 9, 6), (16, 6), (17, 6), (12, 6), ("length", 6)]


def sized(shape, length=7):
    return tuple(length if isinstance(side, str) else side for side in shape)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 1, 3), [[2.0, 5.0]]),  # channels first: means of (1, 2, 3) and (4, 5, 6)
        ((1, 1, 6), [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),  # channels last
        ((3, 2), [[3.0, 4.0]]),  # tokens: means of (1, 3, 5) and (2, 4, 6)
        ((6,), [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),
    ],
)
def test_pooling_by_hand(shape, expected):
    hidden = torch.arange(1.0, 7).reshape(1, *shape)
    assert GlobalPool(FeatureLayout.of(shape))(hidden).tolist() == expected


def test_pooling_of_equal_sizes_takes_the_first_for_channels():
    hidden = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert GlobalPool(FeatureLayout.of((2, 2, 2)))(hidden).tolist() == [[1.5, 5.5]]


@pytest.mark.parametrize(
    ("length", "extra", "grid"),
    [(196, 0, (14, 14)), (197, 1, (14, 14)), (198, 2, (14, 14)), (201, 5, (14, 14)), (128, 0, None), ("n", 0, None)],
)
def test_tokens_of_vision_transformers_are_a_grid_behind_their_extra_tokens(length, extra, grid):
    hidden = FeatureLayout.of((length, 8))
    assert (hidden.extra_tokens, hidden.grid) == (extra, grid)


def test_a_class_token_stands_beside_the_mean_of_the_others():
    hidden = torch.tensor([[[9.0], [1.0], [2.0], [3.0], [6.0]]])  # one, and a grid of 2 x 2
    assert GlobalPool(FeatureLayout.of((5, 1)))(hidden).tolist() == [[9.0, 3.0]]
    assert GridPool(FeatureLayout.of((5, 1)), side=1)(hidden).tolist() == [[[9.0, 3.0]]]
    assert GridPool(FeatureLayout.of((5, 1)), side=2)(hidden).tolist() == [[[9.0, 1.0, 2.0, 3.0, 6.0]]]


def test_under_a_mask_only_real_tokens_count():
    hidden, mask = torch.tensor([[[9.0], [1.0], [3.0], [100.0]]]), torch.tensor([[1, 1, 1, 0]])
    state = FeatureLayout.of((4, 1), masked=True)
    assert GlobalPool(state)(hidden, mask).tolist() == [[9.0, 2.0]]
    assert GridPool(state, side=8)(hidden, mask).tolist() == [[[9.0, 1.0, 3.0, 0.0], [1.0, 1.0, 1.0, 0.0]]]


@pytest.mark.parametrize("sizes", [(8, 8), (7, 7), (14, 9), (5, 3), (33, 17)])
@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_places_are_means_of_windows_that_cover_everything(sizes, side):
    """Against windows cut out by hand; those at the border may hold fewer values."""
    hidden = torch.randn(2, 3, *sizes)
    places = GridPool(FeatureLayout.of((3, *sizes)), side)
    assert max(places.grid) <= side
    found = places(hidden).unflatten(2, places.grid)
    starts = [
        [max(0, place * window - (-size % window + 1) // 2) for place in range(-(-size // window))]
        for size, window in zip(sizes, places.window, strict=True)
    ]
    ends = [[*each[1:], size] for each, size in zip(starts, sizes, strict=True)]
    for row, (top, bottom) in enumerate(zip(starts[0], ends[0], strict=True)):
        for column, (left, right) in enumerate(zip(starts[1], ends[1], strict=True)):
            window = hidden[:, :, top:bottom, left:right]
            torch.testing.assert_close(found[:, :, row, column], window.mean((2, 3)))


def test_both_layouts_of_a_map_give_the_same_places():
    hidden = torch.randn(2, 3, 12, 12)
    first, last = GridPool(FeatureLayout.of((3, 12, 12)), 4), GridPool(FeatureLayout.of((12, 12, 3)), 4)
    torch.testing.assert_close(first(hidden), last(hidden.permute(0, 2, 3, 1)))


def test_standardising_by_hand():
    norm = Standardize(2)
    norm.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert norm(torch.tensor([[2.0, 5.0], [4.0, 5.0]])).tolist() == [[0.0, 0.0], [2.0, 0.0]]


class Together(nn.Module):
    """All kinds of heads side by side, so that one export tests all; on a grid a residual one too."""

    def __init__(self, shape, mask=None):
        super().__init__()
        kinds = [*KINDS, "residual"] if FeatureLayout.of(shape, mask is not None).grid else KINDS
        self.heads = nn.ModuleList(build_head(kind, shape, 4, mask=mask) for kind in kinds)
        self.dynamic_dims = self.heads[0].dynamic_dims
        self.eval()

    def forward(self, *tensors):
        return torch.cat([head(*tensors) for head in self.heads], dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_heads_answer_the_same_in_onnx_for_any_number_of_rows(shape):
    heads = Together(shape)
    for head in heads.heads:
        head.prepare(head.features(torch.randn(50, *sized(shape)) * 3 + 1))
    part = export_part("heads", heads, ("hidden",), "logits", (torch.randn(2, *sized(shape)),))
    session = PartSession(part, threads=1)
    for rows, length in ((1, 7), (5, 7), (3, 4)):
        hidden = torch.randn(rows, *sized(shape, length))
        with torch.no_grad():
            logits = heads(hidden)
        assert logits.shape == (rows, 4 * len(heads.heads))
        np.testing.assert_allclose(session(hidden).numpy(), logits.numpy(), rtol=1e-4, atol=1e-5)


def test_what_a_mask_hides_changes_nothing():
    heads = Together(("length", 6), mask="attention_mask")
    assert all(head.input_names == ("hidden", "attention_mask") for head in heads.heads)
    hidden, mask = torch.randn(3, 9, 6), torch.ones(3, 9, dtype=torch.int64)
    mask[0, 4:], mask[1, 8:] = 0, 0
    other = torch.where(mask.unsqueeze(2) == 0, torch.randn(3, 9, 6), hidden)
    with torch.no_grad():
        logits = heads(hidden, mask)
        torch.testing.assert_close(heads(other, mask), logits)
        torch.testing.assert_close(heads(hidden[:1, :4], mask[:1, :4]), logits[:1])
    part = export_part("heads", heads, heads.heads[0].input_names, "logits", (hidden, mask))
    np.testing.assert_allclose(PartSession(part)(other, mask).numpy(), logits.numpy(), rtol=1e-4, atol=1e-5)


def test_a_head_is_standardised_pooling_and_a_linear_layer():
    head = build_head("linear", (2, 2, 3), 3).eval()
    hidden = torch.randn(5, 2, 2, 3)
    pooled = hidden.mean((1, 2))
    head.prepare(pooled)
    expected = head.layer((pooled - pooled.mean(0)) / pooled.std(0, correction=0))
    torch.testing.assert_close(head(hidden), expected)


def test_attention_with_even_scores_is_mean_pooling():
    head = build_head("attention", (3, 4, 5), 2).eval()
    nn.init.zeros_(head.queries)
    hidden = torch.randn(6, 3, 4, 5)
    torch.testing.assert_close(head(hidden), head.layer(hidden.mean((2, 3)).repeat(1, 16)))


def test_attention_finds_the_place_that_a_query_asks_for():
    head = build_head(name_heads([{"kind": "attention", "queries": 1}])[0], (3, 2), 2).eval()
    head.queries.data = torch.tensor([[100.0, 0.0]])
    hidden = torch.tensor([[[0.0, 5.0], [1.0, 7.0], [0.5, 9.0]]])
    torch.testing.assert_close(head(hidden), head.layer(torch.tensor([[1.0, 7.0]])))


def test_a_residual_block_starts_as_its_first_convolution_and_adds_the_second():
    head = build_head(name_heads([{"kind": "residual", "blocks": 1}])[0], (3, 6, 6), 2).eval()
    hidden = torch.randn(4, 3, 6, 6)
    block = head.blocks[0]
    halved = torch.relu(nn.functional.conv2d(hidden, block.halving.weight, stride=2, padding=1))
    torch.testing.assert_close(head(hidden), head.layer(halved.mean((2, 3))))
    nn.init.normal_(block.added.weight)
    added = torch.relu(halved + nn.functional.conv2d(halved, block.added.weight, padding=1))
    torch.testing.assert_close(head(hidden), head.layer(added.mean((2, 3))))


@pytest.mark.parametrize(
    ("head", "shape", "macs"),
    [
        ("linear", (6, 4, 4), 6 * 5),
        ("mlp", (6, 4, 4), 6 * 6 + 6 * 5),
        ({"kind": "mlp", "layers": 3, "width": 8}, (6, 4, 4), 6 * 8 + 8 * 8 + 8 * 5),
        ({"kind": "mlp", "layers": 1}, (6, 4, 4), 6 * 5),
        ("conv", (6, 4, 4), 16 * (9 * 6 + 6 * 6) + 6 * 5),
        ({"kind": "conv", "blocks": 2, "width": 8, "side": 2}, (6, 4, 4), 4 * (9 * 6 + 6 * 8 + 9 * 8 + 8 * 8) + 8 * 5),
        (
            {"kind": "conv", "halvings": 2, "width": 16, "side": 8},
            (6, 8, 8),
            16 * (9 * 6 + 6 * 12) + 4 * (9 * 12 + 12 * 16) + 4 * (9 * 16 + 16 * 16) + 16 * 5,
        ),
        ({"kind": "attention", "queries": 2}, (16, 6), 2 * 16 * 6 * 2 + 2 * 6 * 5),
        ("residual", (3, 8, 8), 9 * 16 * (3 * 6 + 6 * 6) + 9 * 4 * (6 * 12 + 12 * 12) + 12 * 5),
        ({"kind": "residual", "blocks": 1, "width": 4, "side": 4}, (17, 6), 9 * 4 * (6 * 4 + 4 * 4) + 4 * 5),
    ],
)
def test_cost_by_hand(head, shape, macs):
    built = build_head(name_heads([head])[0], shape, 5).eval()
    assert count_macs(built, (torch.randn(2, *shape),)) == macs


def test_heads_of_one_kind_get_names_of_their_own():
    heads = ["mlp", {"kind": "mlp", "width": 8}, "linear", {"kind": "mlp", "layers": 3}]
    entries = EarlyExitStanza.model_validate({"heads": heads}).entries
    assert [entry.name for entry in entries] == ["mlp", "mlp-2", "linear", "mlp-3"]
    assert [dict(entry.options) for entry in entries] == [
        {}, {"layers": 2, "width": 8}, {}, {"layers": 3, "width": None}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("heads", "sentence"),
    [
        (["mpl"], "key 'heads' names an unknown head 'mpl'; did you mean 'mlp'?"),
        ([{"kind": "mpl"}], "key 'heads' names an unknown head 'mpl'; did you mean 'mlp'?"),
        (["mlp", "mlp"], "key 'heads' names the head 'mlp' twice; name it once"),
        ([{"kind": "mlp", "width": 8}] * 2, "key 'heads' names the head 'mlp' twice; name it once"),
        ([{"width": 8}], "key 'heads' must hold names of heads, or mappings with their `kind`; got {'width': 8}"),
        (
            [{"kind": "mlp", "widht": 8}],
            "key 'heads' sets up the head 'mlp' wrongly: unknown key 'widht'; did you mean 'width'?",
        ),
        (
            [{"kind": "conv", "side": 0}],
            "key 'heads' sets up the head 'conv' wrongly: key 'side' must be greater than or equal to 1; got 0",
        ),
        ([{"kind": "linear", "width": 8}], "key 'heads' sets up the head 'linear' wrongly: unknown key 'width'; "
         "nothing is known here"),
    ],
)  # fmt: skip
def test_refusals_of_the_list(heads, sentence):
    with pytest.raises(ValidationError) as refused:
        EarlyExitStanza.model_validate({"heads": heads})
    assert explain(refused.value) == sentence


@pytest.mark.parametrize(
    ("kind", "shape", "reason"),
    [
        ("linear", (2, 3, 4, 5), "it needs 1 to 3 dimensions besides batch"),
        ("linear", (8, "length"), "it needs a fixed number of channels"),
        ("conv", (8,), "it needs a map of known height and width, or tokens"),
        ("conv", (8, "height", 4), "it needs a map of known height and width, or tokens"),
        ("attention", (8, "height", "width"), "it needs a map of known height and width, or tokens"),
        ("residual", (12, 8), "it needs a map of known height and width, or tokens that are a grid"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_by_head_cut_and_shape(kind, shape, reason):
    with pytest.raises(PassError) as refused:
        build_head(kind, shape, 2, cut="layer1")
    assert str(refused.value) == (
        f"exit head '{kind}' does not fit the hidden state of shape {shape} at cut 'layer1': {reason}"
    )


def test_refusals_of_the_registry():
    with pytest.raises(PassError, match=r"^unknown exit head 'liner'; did you mean 'linear'\?$"):
        build_head("liner", (4,), 2)
    with pytest.raises(PassError) as refused:
        register_head("linear")(nn.Linear)
    assert str(refused.value) == (
        "exit head 'linear' is already registered by dynamic_exit.passes.early_exit.heads.linear; choose another name"
    )
    with pytest.raises(PassError, match="^an exit head must be named by an identifier; got 'mlp-2'$"):
        register_head("mlp-2")(type(build_head("linear", (4,), 2)))
    with pytest.raises(PassError, match="^exit head 'layer' must be a subclass of ExitHead; got <class 'torch"):
        register_head("layer")(nn.Linear)
    assert registered_heads()["linear"] is not nn.Linear
