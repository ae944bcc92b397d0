"""Makers for token ids: which inputs they take, what an n-gram hashes to, and padding that changes nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynamic_exit.graph import Classifier
from dynamic_exit.onnx.export import export_part
from dynamic_exit.onnx.session import PartSession
from dynamic_exit.passes.tiny_saver.makers import MAKERS, MakerTask
from dynamic_exit.passes.tiny_saver.makers.kinds.ngrams import MULTIPLIER, NGrams, ngram_rows
from dynamic_exit.passes.tiny_saver.makers.kinds.textcnn import TextCNN

CLASSES, BUCKETS = 3, 50
IDS = torch.randint(0, 30_000, (8, 12), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(12) < torch.arange(8)[:, None] + 1).long()
FLOATS = torch.rand(8, 12)
TOKENS = st.lists(st.integers(0, 10**6), min_size=1, max_size=10)


def random_model(kind):
    """An untrained model, none of whose weights is zero but those of padding."""
    torch.manual_seed(0)
    if kind == "textcnn":
        return TextCNN(buckets=BUCKETS, width=5, channels=4, word_dropout=0.2, dropout=0.3, classes=CLASSES).eval()
    model = NGrams(buckets=BUCKETS, width=5, hidden=6, word_dropout=0.2, classes=CLASSES).eval()
    nn.init.normal_(model.table.weight[1:].data)
    return model


def maker_of(name, inputs, **options):
    maker = MAKERS.find(name)
    return maker(maker.Options.model_validate({"make": name, **options}), MakerTask(inputs, CLASSES, nn.Identity()))


@pytest.mark.parametrize("name", ["ngrams", "textcnn"])
@pytest.mark.parametrize(
    ("inputs", "taken"),
    [
        ({"input_ids": IDS, "attention_mask": MASK}, ("input_ids", "attention_mask")),
        ({"attention_mask": MASK, "token_type_ids": 0 * IDS, "input_ids": IDS}, ("input_ids", "attention_mask")),
        ({"input_ids": IDS.int(), "attention_mask": MASK.int()}, ("input_ids", "attention_mask")),
        ({"input_ids": IDS, "position_ids": IDS}, ("input_ids",)),
        ({"words": IDS}, ("words",)),
        ({"words": IDS, "other_words": IDS}, None),
        ({"attention_mask": MASK}, None),
        ({"input_ids": IDS, "pixels": FLOATS}, None),
        ({"features": FLOATS}, None),
        ({"series": IDS[:, None]}, None),
    ],
)
def test_they_take_token_ids_and_their_mask(name, inputs, taken):
    assert MAKERS.find(name).suits(inputs) == (taken is not None)
    if taken is not None:
        assert maker_of(name, inputs).input_names == taken


@settings(max_examples=50, deadline=None)
@given(ids=TOKENS, buckets=st.integers(1, 2**18))
def test_rows_are_what_hashing_by_hand_gives(ids, buckets):
    expected, hashes = torch.zeros(3, len(ids), dtype=torch.int64), [0] * len(ids)
    for order in range(3):
        for place in range(len(ids) - order):
            hashes[place] = (hashes[place] * MULTIPLIER + ids[place + order]) % buckets
            expected[order, place] = 1 + order * buckets + hashes[place]
    rows = ngram_rows(torch.tensor([ids]), torch.ones(1, len(ids)), buckets)
    assert torch.equal(rows[0], expected)


def test_hashes_stay_in_31_bits():
    """Runtimes that compute with 32 bits hash alike; ids are those of the largest vocabularies."""
    assert (2**18 - 1) * MULTIPLIER + 300_000 < 2**31


def test_ngrams_across_padding_do_not_count():
    rows = ngram_rows(torch.tensor([[7, 8, 9, 10]]), torch.tensor([[1, 1, 0, 1]]), BUCKETS)
    assert (rows[0] > 0).int().tolist() == [[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["ngrams", "textcnn"])
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TOKENS, min_size=1, max_size=4), more=st.integers(0, 5), token=st.integers(0, 10**6))
def test_padding_changes_nothing(kind, texts, more, token):
    """Neither how much there is, nor which token it is, nor the side that it is on."""
    model, length = random_model(kind), max(map(len, texts)) + more
    ids, mask = torch.full((2, len(texts), length), token), torch.zeros(2, len(texts), length, dtype=torch.int64)
    alone = []
    for row, text in enumerate(texts):
        for side, places in enumerate((slice(0, len(text)), slice(length - len(text), length))):
            ids[side, row, places], mask[side, row, places] = torch.tensor(text), 1
        alone.append(model(torch.tensor([text])))
    for side in range(2):
        torch.testing.assert_close(model(ids[side], mask[side]), torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["ngrams", "textcnn"])
def test_a_text_of_padding_alone_has_an_answer(kind):
    assert torch.isfinite(random_model(kind)(IDS, 0 * MASK)).all()


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", ["ngrams", "textcnn"])
def test_onnx_answers_alike_at_every_length(kind, masked):
    model = random_model(kind)
    names = ("input_ids", "attention_mask") if masked else ("input_ids",)
    example = (IDS, MASK)[: len(names)]
    part = export_part("made", Classifier(model).eval(), names, "logits", example, [{1: "length"}] * len(names))
    session = PartSession(part)
    for length in (2, 3, 4, 7, 200):
        ids = torch.randint(0, 30_000, (3, length), generator=torch.Generator().manual_seed(length))
        mask = (torch.arange(length) < torch.tensor([[1], [2], [length]])).long()
        batch = (ids, mask)[: len(names)]
        np.testing.assert_allclose(session(*batch).numpy(), model(*batch).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ngrams", "textcnn"])
def test_what_the_cache_keeps_is_small(name):
    maker = maker_of(name, {"input_ids": IDS, "attention_mask": MASK})
    state = maker.build(maker.architectures(0.02)[-1]).state_dict()
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) < 60e6


@pytest.mark.parametrize("name", ["ngrams", "textcnn"])
def test_words_are_left_out_in_training_alone(name):
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    kind = random_model(name)
    assert torch.equal(kind(*inputs.values()), kind(*inputs.values()))
    kind.train()
    torch.manual_seed(0)
    assert not torch.equal(kind(*inputs.values()), kind(*inputs.values()))


def test_a_head_without_hidden_units_is_the_only_one():
    inputs = {"input_ids": IDS}
    assert [each["hidden"] for each in maker_of("ngrams", inputs, hidden=0).architectures(0.02)] == [0]
    assert [each["hidden"] for each in maker_of("ngrams", inputs, hidden=9).architectures(0.02)] == [0, 9]


@pytest.mark.parametrize(("words", "size", "buckets"), [(40, 9, 64), (90, 9, 64), (40, 3, 64)])
def test_convolutions_begin_with_the_embeddings_of_the_backbone(words, size, buckets):
    """Their distances are those of the backbone's as far as the width allows, whatever the number of words."""
    torch.manual_seed(0)
    backbone = nn.ModuleDict({"positions": nn.Embedding(12, size), "words": nn.Embedding(words, size)})
    maker = MAKERS.find("textcnn")
    stanza = maker.Options.model_validate({"make": "textcnn", "buckets": buckets})
    made = maker(stanza, MakerTask({"input_ids": IDS}, CLASSES, backbone))
    model = made.build({**made.architectures(0.02)[0], "width": 12})
    made.prepare(model, {})
    known = min(words, buckets)
    weights = backbone["words"].weight[:known]
    started = model.table.weight[1 : 1 + known]
    scale = torch.pdist(started).mean() / torch.pdist(weights).mean()
    torch.testing.assert_close(torch.pdist(started), scale * torch.pdist(weights), rtol=1e-3, atol=1e-4)
    assert not model.table.weight[0].any(), "padding stays zero"


def test_a_backbone_without_embeddings_will_do():
    maker = maker_of("textcnn", {"input_ids": IDS})
    model = maker.build(maker.architectures(0.02)[0])
    before = model.table.weight.clone()
    maker.prepare(model, {})
    assert torch.equal(model.table.weight, before)
