"""Models that would answer wrongly without a word: random weights, and answers that are not one class of several."""

import sys
import types

import numpy as np
import onnx
import pytest
import sentences
import timm
import tiny
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from dynamic_exit import DynamicExitModelForSequenceClassification as Model
from dynamic_exit import compress
from dynamic_exit.data.checks import check_samples
from dynamic_exit.data.split import UNNAMED, Split
from dynamic_exit.errors import DynamicExitError, ModelError
from dynamic_exit.graph import Classifier, check_logits
from dynamic_exit.integrations.neural_compressor.in_memory import make_dynamic_model
from dynamic_exit.passes import EarlyExitStanza, ModelSource
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import parse_recipe
from dynamic_exit.sources.models.candidates import load_candidate
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.sources.models.weights import check_trained, seeded_generators

TINY = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
IDS = torch.arange(1, 9).reshape(2, 4)


def config(family="Bert", **changes):
    sizes = dict(TINY)
    if family == "DistilBert":
        sizes = {"vocab_size": 30, "dim": 8, "n_layers": 1, "n_heads": 1, "hidden_dim": 8}
    if family == "ViT":
        sizes = {**TINY, "image_size": 8, "patch_size": 4}
        sizes.pop("vocab_size")
    return getattr(transformers, f"{family}Config")(**{**sizes, **changes})


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
    run_inputs = load_run_inputs(recipe, splits=splits)
    assert "the backbone 'test_resnet' has no trained weights" in "".join(run_inputs.notes)
    pairs = zip(
        run_inputs.backbone.parameters(), load_run_inputs(recipe, splits=splits).backbone.parameters(), strict=True
    )
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
    with seeded_generators(None):
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


# models that do not answer with one class


class Wrapped(nn.Module):
    """A user's own module around a Hugging Face model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids):
        return self.inner(input_ids).logits


class Head(nn.Module):
    """A classifier of one's own on an encoder that was taken out of a model for regression."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.layer = encoder, nn.Linear(8, 3)

    def forward(self, input_ids):
        return self.layer(self.encoder(input_ids).last_hidden_state[:, 0])


def classifier(kind="BertForSequenceClassification", **changes):
    return getattr(transformers, kind)(config(kind.split("For")[0], **changes)).eval()


OWN = ModelSource(source="python", name="models.py:own")
MULTI, REGRESSION = {"num_labels": 3, "problem_type": "multi_label_classification"}, {"problem_type": "regression"}
MULTI_SAID = "is for multi-label classification (`problem_type` in its configuration), and early exits answer with one class a sample; give a single-label classifier"  # fmt: skip  # noqa: E501
REGRESSION_SAID = MULTI_SAID.replace("multi-label classification", "regression")
ONE_SAID = MULTI_SAID.replace("multi-label classification (`problem_type`", "regression (`num_labels` is 1")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: classifier(**MULTI), MULTI_SAID),
        (lambda: classifier("DistilBertForSequenceClassification", **MULTI), MULTI_SAID),
        (lambda: classifier("ViTForImageClassification", **MULTI), MULTI_SAID),
        (lambda: classifier(**REGRESSION, num_labels=3), REGRESSION_SAID),
        (lambda: classifier(num_labels=1), ONE_SAID),
        (lambda: Wrapped(classifier(**MULTI)), MULTI_SAID),
    ],
    ids=["several labels", "another family", "pictures", "several numbers", "one number", "inside another module"],
)
@pytest.mark.parametrize("way", ["in memory", "candidate", "passes", "pass alone"])
def test_a_model_for_anything_else_is_refused(monkeypatch, make, said, way):
    if way == "candidate":
        module = types.ModuleType("models_in_memory")
        module.own = make
        monkeypatch.setitem(sys.modules, module.__name__, module)
        source = ModelSource(source="python", name="models_in_memory:own")
        with pytest.raises(ModelError) as refused:
            load_candidate(source, 3, {"input_ids": IDS}, by_name=True)
        assert str(refused.value) == f"model '{source.name}' {said}"
        return
    model = make()
    with pytest.raises(ModelError) as refused:
        if way == "in memory":
            load_model(OWN, model=model)
        elif way == "passes":
            compress(model, {"early_exit": {}}, run_fn=lambda _: pytest.fail("the model was run"))
        else:
            make_dynamic_model("early_exit", model, None, exits=EarlyExitStanza())
    assert str(refused.value) == (f"model '{OWN.name}' {said}" if way == "in memory" else f"the model {said}")


def test_a_saved_one_is_refused_before_any_work(tmp_path):
    saved(tmp_path, **MULTI)
    recipe = {key: value for key, value in sentences.recipe().items() if key in ("data", "dynamic_exit")}
    with pytest.raises(ModelError) as refused:
        Model.from_pretrained(tmp_path, export=True, recipe=recipe)  # there are no such data
    assert str(refused.value) == f"model '{tmp_path}' {MULTI_SAID}"
    with pytest.raises(ModelError) as refused:
        compress(classifier(num_labels=1), {**recipe, "export": {"directory": str(tmp_path / "out")}})
    assert str(refused.value) == f"model 'BertForSequenceClassification' {ONE_SAID}"


def test_what_is_taken_out_of_such_a_model_may_be_used():
    for model in (classifier(), classifier(problem_type="single_label_classification"),
                  Head(classifier(num_labels=1).bert), Head(classifier(**MULTI).bert)):  # fmt: skip
        assert load_model(OWN, ["input_ids"], model.eval())(IDS).shape[0] == 2
    pruned = compress(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval(), {"pruning": {"ratio": 0.5}},
                      example_inputs=torch.zeros(2, 4))  # fmt: skip
    assert pruned[0].out_features < 8, "passes that need no classes ask for none"


class Ends(nn.Module):
    def __init__(self, end, columns=3):
        super().__init__()
        self.layer, self.end = nn.Linear(4, columns), end

    def forward(self, x):
        return self.end(self.layer(x))


SIGMOIDS = {
    "module": nn.Sigmoid(),
    "function": torch.sigmoid,
    "in place": lambda x: x.sigmoid_(),
    "hard": nn.functional.hardsigmoid,
    "reshaped and copied": lambda x: torch.sigmoid(x).unsqueeze(2).flatten(1).double().clone(),
    "a head for each class": lambda x: torch.cat([torch.sigmoid(x[:, :1]), torch.sigmoid(x[:, 1:])], 1),
    "kept from 0 and 1": lambda x: torch.sigmoid(x).clamp(0.01, 0.99),
    "in a mapping": lambda x: {"logits": torch.sigmoid(x)},
}
PLAIN = {
    "logits": lambda x: x,
    "one of two parts": lambda x: torch.cat([torch.sigmoid(x[:, :1]), x[:, 1:]], 1),
    "a gate before": lambda x: torch.sigmoid(x) * x,
    "of one column": lambda x: torch.sigmoid(x)[:, :1],
    "logarithm": nn.functional.logsigmoid,
}


@pytest.mark.parametrize("end", SIGMOIDS.values(), ids=SIGMOIDS)
def test_a_sigmoid_at_the_end_is_refused(end):
    said = "ends in a sigmoid, as models for multi-label classification do, and early exits answer with one class a"
    inputs = torch.randn(2, 4)
    with pytest.raises(ModelError) as refused:
        check_logits("the backbone", Classifier(Ends(end).eval()), (inputs,))
    assert str(refused.value) == f"the backbone {said} sample; give a single-label classifier"
    with pytest.raises(ModelError, match="^the model ends in a sigmoid"):
        compress(Ends(end).eval(), {"early_exit": {}}, run_fn=lambda model: [model(inputs) for _ in range(9)])


@pytest.mark.parametrize("end", PLAIN.values(), ids=PLAIN)
def test_other_ends_are_not(end):
    model, inputs = Classifier(Ends(end).eval()), torch.randn(2, 4)
    assert torch.equal(check_logits("the backbone", model, (inputs,)), model(inputs))


@pytest.mark.parametrize(
    ("operator", "columns", "refused"),
    [("Sigmoid", 3, True), ("HardSigmoid", 3, True), ("Softmax", 3, False), ("Sigmoid", 1, False)],
)
def test_an_onnx_files_sigmoid_is_refused(tmp_path, operator, columns, refused):
    graph = f"""<ir_version: 8, opset_import: ["" : 18]>
    net (float[n, 2] x) => (float[n, {columns}] logits) <float[2, {columns}] w = {{{", ".join("1" * 2 * columns)}}}>
    {{ y = MatMul (x, w) z = {operator} (y) logits = Identity (z) }}"""
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "net.onnx")
    source = ModelSource(source="onnx", name=str(tmp_path / "net.onnx"))
    if not refused:
        assert load_model(source)(torch.ones(2, 2)).shape == (2, columns)
        return
    with pytest.raises(ModelError) as error:
        load_model(source)
    assert str(error.value) == (
        "ONNX model 'net.onnx' ends in a sigmoid, as models for multi-label classification do, and early exits answer "
        "with one class a sample; give a single-label classifier"
    )


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.eye(3, dtype=np.int64)[[0, 1]],
         "got int64 [2, 3] for 2 samples; rows of several labels are for multi-label classification, which is not "
         "supported"),
        (np.float32([[0, 1], [1, 1]]),
         "got float32 [2, 2] for 2 samples; rows of several labels are for multi-label classification, which is not "
         "supported"),
        (np.float32([0.25, 3.0]),
         "got float32 [2] for 2 samples; fractions are for regression, which is not supported"),
        (np.float64([np.nan, 3.0]), "got float64 [2] for 2 samples"),
    ],
    ids=["one-hot", "several", "fractions", "no number"],
)  # fmt: skip
def test_labels_for_anything_else_are_refused(labels, said):
    with pytest.raises(DynamicExitError) as refused:
        check_samples(np.zeros((2, 4)), labels, "train")
    assert str(refused.value) == f"split 'train' must have one whole number as label for each sample; {said}"
