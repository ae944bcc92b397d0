"""Models that would answer wrongly without a word: random weights, and answers that are not one class of several."""

import numpy as np
import pytest
import timm
import tiny
import torch
import transformers
from safetensors.torch import save_file

from dynamic_exit.errors import DynamicExitError, ModelError
from dynamic_exit.passes import ModelSource
from dynamic_exit.recipe.load import load
from dynamic_exit.recipe.models import load_candidate, load_model
from dynamic_exit.recipe.schema import parse_recipe
from dynamic_exit.recipe.sources import UNNAMED, Split
from dynamic_exit.recipe.weights import check_trained, random_numbers

TINY = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
IDS = torch.arange(1, 9).reshape(2, 4)


def config(family="Bert", **changes):
    sizes = TINY
    if family == "DistilBert":
        sizes = {"vocab_size": 30, "dim": 8, "n_layers": 1, "n_heads": 1, "hidden_dim": 8}
    if family == "ViT":
        sizes = {**TINY, "image_size": 8, "patch_size": 4}
        sizes.pop("vocab_size")
    return getattr(transformers, f"{family}Config")(**sizes, **changes)


def saved(folder, kind="BertForSequenceClassification", **changes):
    """A folder as `save_pretrained` writes it, and its stanza."""
    family = kind.split("For")[0].removesuffix("Model")
    torch.manual_seed(0)
    getattr(transformers, kind)(config(family, **changes)).save_pretrained(folder)
    return ModelSource(source="transformers", name=str(folder))


def timm_file(folder, classes):
    """Weights of a timm model as a download would be, and the stanza that loads them for `classes` classes."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), folder / "w.safetensors")
    arguments = {
        "pretrained": True, "pretrained_cfg_overlay": {"file": str(folder / "w.safetensors")}, "num_classes": classes
    }  # fmt: skip
    return ModelSource(source="timm", name="test_resnet", arguments=arguments)


# a part of the weights is random


@pytest.mark.parametrize(
    ("kind", "changes", "missing"),
    [
        ("BertModel", {}, "'classifier.bias', 'classifier.weight'"),
        ("BertForMaskedLM", {},
         "'bert.pooler.dense.bias', 'bert.pooler.dense.weight', 'classifier.bias' and 1 more"),
        ("DistilBertModel", {},
         "'classifier.bias', 'classifier.weight', 'pre_classifier.bias' and 1 more"),
        ("ViTModel", {}, "'classifier.bias', 'classifier.weight'"),
        ("BertForSequenceClassification", {"num_labels": 5, "ignore_mismatched_sizes": True},
         "'classifier.bias', 'classifier.weight'"),
    ],
    ids=["encoder alone", "language model", "another family", "pictures", "another number of classes"],
)  # fmt: skip
def test_a_hugging_face_backbone_with_a_random_head_is_refused(tmp_path, kind, changes, missing):
    source = saved(tmp_path, kind).model_copy(update={"arguments": changes})
    with pytest.raises(ModelError) as refused:
        check_trained(source, load_model(source))
    assert str(refused.value) == (
        f"model '{tmp_path}' comes without trained weights for {missing}, which would be random; fine-tune it first, "
        "or give the trained ones as `weights`"
    )


def test_timm_weights_for_other_classes_leave_the_head_random(tmp_path):
    source = timm_file(tmp_path, 7)
    loaded = load_model(source)
    assert loaded.untrained == ("fc.weight", "fc.bias")
    with pytest.raises(ModelError, match="^model 'test_resnet' comes without trained weights for 'fc.weight', 'fc.b"):
        check_trained(source, loaded)


def test_what_is_whole_goes_through(tmp_path):
    for source in (saved(tmp_path / "bert"), timm_file(tmp_path, 1000)):
        loaded = load_model(source)
        assert loaded.untrained == () and check_trained(source, loaded) is None


def test_weights_of_ones_own_make_a_base_model_whole(tmp_path):
    trained = transformers.BertForSequenceClassification(config())
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    source = saved(tmp_path / "base", "BertModel").model_copy(update={"weights": str(tmp_path / "w.safetensors")})
    loaded = load_model(source, ["input_ids"])
    assert check_trained(source, loaded) is None
    torch.testing.assert_close(loaded(IDS), trained.eval()(IDS).logits)


def test_timm_without_weights_is_told_and_not_refused():
    source = ModelSource(source="timm", name="test_resnet", arguments={"num_classes": 3})
    loaded = load_model(source)
    assert set(loaded.untrained) == {name for name, _ in loaded.model.named_parameters()}
    assert check_trained(source, loaded) == (
        "the backbone 'test_resnet' has no trained weights, so that its answers are random; give `weights`, or "
        "`pretrained: true` in its `arguments`"
    )


def test_a_run_tells_of_a_backbone_without_weights(tmp_path):
    (tmp_path / "models.py").write_text("")
    data = {key: tiny.samples(key) for key in tiny.SIZES}
    splits = {key: Split(key, {UNNAMED: inputs}, labels) for key, (inputs, labels) in data.items()}
    model = {"source": "timm", "name": "test_resnet", "arguments": {"num_classes": 3, "in_chans": 1}}
    recipe = parse_recipe(tiny.recipe(model=model, quantization=None), tmp_path)
    ingredients = load(recipe, splits=splits)
    assert "the backbone 'test_resnet' has no trained weights" in "".join(ingredients.notes)
    pairs = zip(ingredients.backbone.parameters(), load(recipe, splits=splits).backbone.parameters(), strict=True)
    assert all(torch.equal(first, again) for first, again in pairs)


def test_a_candidate_says_what_is_random_of_it_and_is_not_refused(tmp_path):
    base = load_candidate(saved(tmp_path, "BertModel"), ["no", "yes"], {"input_ids": IDS}, by_name=True)
    assert base.untrained == ("classifier.bias", "classifier.weight")
    swapped = load_candidate(
        saved(tmp_path, "BertModel").model_copy(update={"labels": ["yes", "no"]}), ["no", "yes"], {"input_ids": IDS},
        by_name=True,
    )  # fmt: skip
    assert swapped.class_order.tolist() == [1, 0] and swapped.untrained == base.untrained


@pytest.mark.parametrize("kind", ["timm", "transformers", "python"])
def test_what_is_random_follows_from_the_seed(tmp_path, kind):
    (tmp_path / "m.py").write_text(
        "import numpy, random, torch\n\n\ndef make():\n    layer = torch.nn.Linear(2, 2)\n"
        "    layer.bias.data[:] = torch.tensor([numpy.random.rand(), random.random()])\n    return layer\n"
    )
    source = {
        "timm": lambda: ModelSource(source="timm", name="test_resnet"),
        "transformers": lambda: saved(tmp_path, "BertModel"),
        "python": lambda: ModelSource(source="python", name=f"{tmp_path}/m.py:make"),
    }[kind]()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (torch.cat([p.flatten() for p in load_model(source, seed=seed).parameters()])
                           for seed in (3, 3, 4))  # fmt: skip
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


def test_without_a_seed_the_generators_go_on():
    torch.manual_seed(0)
    with random_numbers(None):
        first = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == first


def test_a_timm_model_without_a_head_is_no_classifier():
    with pytest.raises(DynamicExitError) as refused:
        load_model(ModelSource(source="timm", name="test_resnet", arguments={"num_classes": 0}))
    assert str(refused.value) == (
        "timm model 'test_resnet' has no classifier: `num_classes` is 0 and it gives features; give the number of "
        "classes"
    )
