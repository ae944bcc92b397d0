"""Weights as training programs write them, stored half precision, names of timm, and models of one logit."""

import argparse

import huggingface_hub.constants
import numpy as np
import onnx
import pytest
import timm
import tiny
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from dynamic_exit.errors import ModelError
from dynamic_exit.graph import Classifier, with_two_logits
from dynamic_exit.passes import ModelSource
from dynamic_exit.sources.models.candidates import load_candidate
from dynamic_exit.sources.models.loading import load_model
from dynamic_exit.sources.models.weights import load_weights


def net(value=1.0):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def state(value=1.0, prefix=""):
    return {prefix + name: tensor for name, tensor in net(value).state_dict().items()}


def test_sparse_weights_are_filled_up(tmp_path):
    path, model = (
        loose(tmp_path, {name: each.to_sparse() if each.dim() else each for name, each in state().items()}),
        net(0),
    )
    assert load_weights(model, path, "net") is None
    assert all((parameter == 1).all() for parameter in model.parameters())


def loose(folder, content):
    torch.save(content, folder / "w.pt")
    return folder / "w.pt"


TAKEN = "of '{0}' '{1}' was taken as the weights"
#: What is saved, the key that is given, and what is said; the weights taken are all 1.
WRAPPED = {
    "plain": (state(), None, None),
    "compiled": (state(prefix="_orig_mod."), None, None),
    "compiled within": ({name.replace(".", "._orig_mod.", 1): each for name, each in state().items()}, None, None),
    "in parallel": (state(prefix="module."), None, f"{TAKEN}".replace("{1}", "module")),
    "in parallel and compiled": (state(prefix="module._orig_mod."), None, TAKEN.replace("{1}", "module")),
    "compiled and in parallel": (state(prefix="_orig_mod.module."), None, TAKEN.replace("{1}", "module")),
    "an entry": ({"model": state(), "epoch": 3}, None, TAKEN.replace("{1}", "model")),
    "an entry beside an optimizer": (
        {"model_state_dict": state(), "optimizer": {"state": {0: {"step": torch.ones(())}}, "param_groups": []}},
        None, TAKEN.replace("{1}", "model_state_dict"),
    ),
    "options of a program": (
        {"model": state(), "args": argparse.Namespace(lr=0.1)}, None, TAKEN.replace("{1}", "model"),
    ),
    "entries within entries": ({"state": {"net": state()}}, None, TAKEN.replace("{1}", "state.net")),
    "Lightning": (
        {"state_dict": {**state(prefix="model."), "loss.weight": torch.ones(3)}, "pytorch-lightning_version": "2"},
        None, TAKEN.replace("{1}", "state_dict.model"),
    ),
    "a module of an unknown name": (state(prefix="my_net."), None, TAKEN.replace("{1}", "my_net")),
    "averages beside": (
        {"model": state(), "model_ema": state(2.0)}, None,
        TAKEN.replace("{1}", "model") + "; beside it is 'model_ema': `weights_key` chooses",
    ),
    "averages asked for": (
        {"model": state(2.0), "model_ema": state()}, "model_ema",
        "of '{0}' averages, 'model_ema' was taken as the weights; beside it is 'model': `weights_key` chooses",
    ),
    "averages alone": (
        {"state_dict_ema": state()}, None, "of '{0}' averages, 'state_dict_ema' was taken as the weights",
    ),
    "averages in one mapping": (
        {**state(prefix="model."), **state(2.0, "ema_model.")}, None,
        TAKEN.replace("{1}", "model") + "; beside it is 'ema_model': `weights_key` chooses",
    ),
    "averages beside bare names": (
        {**state(), **state(2.0, "ema.")}, None,
        TAKEN.replace("{1}", "the whole file") + "; beside it is 'ema': `weights_key` chooses",
    ),
    "a student asked for": (
        {**state(prefix="student."), **state(2.0, "teacher.")}, "student",
        TAKEN.replace("{1}", "student") + "; beside it is 'teacher': `weights_key` chooses",
    ),
    "a part of another word": (
        {"semantic": state(), "swap_ema": state(2.0)}, None,
        TAKEN.replace("{1}", "semantic") + "; beside it is 'swap_ema': `weights_key` chooses",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "key", "said"), WRAPPED.values(), ids=WRAPPED)
def test_wrapped_weights_are_found_and_what_was_taken_is_said(tmp_path, content, key, said):
    path, model = loose(tmp_path, content), net(0.0)
    assert load_weights(model, path, "net", key) == (said and said.format(path))
    assert all((parameter == 1).all() for parameter in model.parameters())


UNFIT = "weights '{0}' do not fit model 'net': "
UNFITTING = {
    "other names": (
        {"conv.weight": torch.ones(1)}, None,
        UNFIT + "the file holds 'conv.weight', the model '0.weight'; check its `arguments`",
    ),
    "other names below a known one": (
        {"model": {"module.conv.weight": torch.ones(1)}}, None,
        UNFIT + "the file holds 'conv.weight', the model '0.weight'; check its `arguments`",
    ),
    "another size": (
        {"model": {**state(), "0.weight": torch.ones(4, 2)}}, None,
        UNFIT + "'0.weight' is [4, 2] in the file and [3, 2] in the model; check its `arguments`",
    ),
    "one is missing": (
        {"module." + name: each for name, each in state().items() if name != "1.bias"}, None,
        UNFIT + "'1.bias' is missing in the file and [3] in the model; check its `arguments`",
    ),
    "a layer of another model": (
        {**state(prefix="block."), "head.weight": torch.ones(3)}, None,
        UNFIT + "the file holds 'block.0.weight', the model '0.weight'; check its `arguments`",
    ),
    "two that fit": (
        {"student": state(), "teacher": state(2.0)}, None,
        "weights '{0}' hold several that fit the model: 'student', 'teacher'; name one as `weights_key`",
    ),
    "a key that is not there": (
        {"model": state(), "model_ema": state()}, "model_emma",
        "weights '{0}' have no entry 'model_emma' that fits the model; did you mean 'model_ema'?",
    ),
    "no weights": ({"epoch": 3}, None, "weights '{0}' hold no weights by name; save the model's state_dict"),
    "a list": ([torch.ones(1)], None, "weights '{0}' hold no weights by name; save the model's state_dict"),
}  # fmt: skip


def test_weights_for_another_number_of_classes_say_how_many(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 7)).state_dict(), path)
    with pytest.raises(ModelError) as refused:
        load_weights(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1000)), path, "net")
    assert str(refused.value) == (
        f"weights '{path}' do not fit model 'net': '1.weight' is [7, 4] in the file and [1000, 4] in the model; give "
        "it 7 classes in its `arguments` (timm calls them `num_classes`)"
    )


@pytest.mark.parametrize(("content", "key", "said"), UNFITTING.values(), ids=UNFITTING)
def test_weights_that_do_not_fit_are_refused_with_a_name_of_each_side(tmp_path, content, key, said):
    path = loose(tmp_path, content)
    with pytest.raises(ModelError) as refused:
        load_weights(net(), path, "net", key)
    assert str(refused.value) == said.format(path)


# stored half precision

SMALL = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}


def half_bert(folder, dtype):
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SMALL, num_labels=3)).to(dtype)
    model.save_pretrained(folder)
    return ModelSource(source="transformers", name=str(folder)), model.float().eval(), torch.arange(8).reshape(2, 4)


def half_file(folder, dtype):
    (folder / "m.py").write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(2, 3)\n")
    twin = nn.Linear(2, 3).to(dtype)
    save_file(twin.state_dict(), folder / "w.safetensors")
    source = ModelSource(source="python", name=f"{folder}/m.py:make", weights=str(folder / "w.safetensors"))
    return source, twin.float(), torch.ones(2, 2)


def half_own(folder, dtype):
    name = str(dtype).removeprefix("torch.")
    (folder / "m.py").write_text(
        f"import torch\n\n\ndef make():\n    torch.manual_seed(0)\n    return torch.nn.Linear(2, 3).to(torch.{name})\n"
    )
    torch.manual_seed(0)
    twin = nn.Linear(2, 3).to(dtype).float()
    return ModelSource(source="python", name=f"{folder}/m.py:make"), twin, torch.ones(2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("make", [half_bert, half_file, half_own])
def test_other_precision_is_loaded_in_float32_and_said_once(tmp_path, make, dtype):
    source, twin, inputs = make(tmp_path, dtype)
    notes = []
    loaded = load_model(source, note=notes.append)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    with torch.no_grad():
        wanted = twin(inputs)
        assert torch.equal(loaded(inputs), getattr(wanted, "logits", wanted))
    name = str(dtype).removeprefix("torch.")
    assert notes == ([] if make is half_file else [f"model '{source.name}' is stored in {name}; it is used in float32"])


def test_a_given_model_of_half_precision_is_copied():
    model, notes = nn.Linear(2, 3).half(), []
    source = ModelSource(source="python", name="Linear")
    loaded = load_model(source, model=model, note=notes.append)
    assert loaded.model.weight.dtype == torch.float32 and model.weight.dtype == torch.float16
    assert torch.equal(loaded.model.weight, model.weight.float())
    assert notes == ["model 'Linear' is stored in float16; it is used in float32"]


# names of timm


def test_timm_takes_folders_and_names_of_the_hub(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(model, tmp_path / "mine", model_config={"num_classes": 3})
    monkeypatch.chdir(tmp_path)
    named = ModelSource.model_validate({"source": "timm", "name": "local-dir:./mine"}, context={"base": tmp_path})
    assert named.name == f"local-dir:{tmp_path}/mine" and named.stage_name == "mine"
    assert named.model_dump(mode="json", context={"base": f"{tmp_path}/out"})["name"] == "local-dir:../mine"
    loaded = load_model(named)
    assert loaded.untrained == ()
    assert torch.equal(loaded.model.fc.weight, model.fc.weight)
    hub = load_model(ModelSource(source="timm", name="timm/test_resnet", arguments={"num_classes": 3}))
    assert hub.model.num_classes == 3 and hub.untrained
    for name, said in (
        (f"local-dir:{tmp_path}/none", f"model folder '{tmp_path}/none' does not exist; check the path"),
        ("timm/test_resnt", "timm has no model 'timm/test_resnt'; did you mean 'test_resnet'?"),
    ):
        with pytest.raises(ModelError) as refused:
            load_model(ModelSource(source="timm", name=name))
        assert str(refused.value).startswith(said)


def test_a_name_of_the_hub_is_found_in_its_cache_or_told_to_be_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    named = ModelSource.model_validate({"source": "timm", "name": "hf-hub:me/mine"}, context={"base": tmp_path})
    assert (named.name, named.stage_name) == ("hf-hub:me/mine", "mine")
    assert named.model_dump(mode="json", context={"base": f"{tmp_path}/out"})["name"] == "hf-hub:me/mine"
    with pytest.raises(ModelError) as refused:
        load_model(named)
    assert str(refused.value).startswith("timm model 'hf-hub:me/mine' cannot be had from the hub: ")
    assert str(refused.value).endswith("; check the name and the connection, or give a folder as `local-dir:folder`")
    model, commit = timm.create_model("test_resnet", num_classes=3), "0" * 40
    repository = tmp_path / "cache" / "models--me--mine"
    timm.models.save_for_hf(model, repository / "snapshots" / commit, model_config={"num_classes": 3})
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    loaded = load_model(named)
    assert loaded.untrained == ()
    assert torch.equal(loaded.model.fc.weight, model.fc.weight)


# one logit


class Binary(nn.Module):
    """One logit a sample in some form."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.form = nn.Linear(2, 1), form

    def forward(self, pixels):
        return self.form(self.layer(pixels))


FORMS = {
    "a column": lambda z: z,
    "a row": lambda z: z[:, 0],
    "squeezed": lambda z: z.squeeze(-1),
    "by name": lambda z: {"logits": z, "features": z.expand(-1, 4)},
    "the first of two": lambda z: (z[:, 0], z.expand(-1, 4)),
}
INPUTS = torch.tensor([[1.0, 2.0], [3.0, -4.0], [0.0, 1.0]])
SAID = "the backbone gives one logit z, which is taken as the logits -z/2 and z/2 of two classes"


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_one_logit_is_taken_as_those_of_two_classes(form):
    model, notes = Binary(form).eval(), []
    found = with_two_logits(Classifier(model, keywords=["pixels"]), (INPUTS,), "the backbone", notes.append)
    with torch.no_grad():
        logit = model.layer(INPUTS)
        assert torch.equal(found(INPUTS), torch.cat([-logit / 2, logit / 2], 1))
        torch.testing.assert_close(torch.softmax(found(INPUTS), 1)[:, 1:], torch.sigmoid(logit))
    assert notes == [SAID] and found.name_inputs(1) == ("pixels",)


def test_other_models_stay_as_they_are_and_a_sigmoid_is_refused():
    for form in (lambda z: z.expand(-1, 2), lambda z: z.sum(), lambda z: (z, z), lambda z: z.argmax(1)):
        given = Classifier(Binary(form).eval())
        assert with_two_logits(given, (INPUTS,), "the backbone", pytest.fail) is given
    for form in (torch.sigmoid, lambda z: torch.sigmoid(z)[:, 0], lambda z: {"logits": z.sigmoid()}):
        with pytest.raises(ModelError) as refused:
            with_two_logits(Classifier(Binary(form).eval()), (INPUTS,), "the backbone", pytest.fail)
        assert str(refused.value) == (
            "the backbone ends in a sigmoid over its only output, and logits are wanted; leave the sigmoid out"
        )


def test_a_candidate_of_one_logit_has_the_order_of_its_labels(tmp_path, log_lines):
    (tmp_path / "m.py").write_text(
        "import torch\n\n\ndef make():\n    torch.manual_seed(0)\n    return torch.nn.Linear(2, 1)\n"
    )
    source = ModelSource(source="python", name=f"{tmp_path}/m.py:make", stage="small", labels=["yes", "no"])
    found = load_candidate(source, ["no", "yes"], {"x": INPUTS})
    logit = found.model.model(INPUTS)
    assert torch.equal(found(INPUTS), torch.cat([logit / 2, -logit / 2], 1))
    assert log_lines == ["note: " + SAID.replace("the backbone", "candidate 'small'")]


def test_an_onnx_file_of_one_logit(tmp_path):
    graph = """<ir_version: 8, opset_import: ["" : 18]>
    net (float[n, 2] x) => (float[n, 1] logits) <float[2, 1] w = {1, 2}> { logits = MatMul (x, w) }"""
    onnx.save(onnx.parser.parse_model(graph), tmp_path / "net.onnx")
    found = load_candidate(ModelSource(source="onnx", name=str(tmp_path / "net.onnx")), 2, {"x": INPUTS})
    np.testing.assert_allclose(found(INPUTS)[:, 1].detach(), (INPUTS @ torch.tensor([1.0, 2.0])) / 2)


@pytest.mark.slow
def test_a_run_serves_a_binary_model_of_one_logit(tmp_path, command):
    """Its answers are those of the model: class 1 where the logit is positive."""
    tiny.build(tmp_path, quantization=None, dynamic_exit__tiny_saver=None,
               dynamic_exit__early_exit={"count": 1, "training": {"epochs": 2}},
               model={"source": "python", "name": "models.py:backbone", "arguments": {"classes": 1}},
        dynamic_exit__tuning={"max_accuracy_drop": 0.01},
               data__classes=["no", "yes"])  # fmt: skip
    for key in tiny.SIZES:
        inputs, labels = tiny.samples(key)
        np.savez(tmp_path / "data" / f"{key}.npz", inputs=inputs, labels=labels > 0)
    code, out, err = command("run", tmp_path / "recipe.yaml")
    assert code == 0, err
    assert SAID in out and f"note: {SAID}" in err and SAID in (tmp_path / "out" / "report.html").read_text()
    from dynamic_exit import DynamicExitModelForImageClassification

    model = DynamicExitModelForImageClassification.from_pretrained(tmp_path / "out", operating_point="backbone")
    assert model.config.id2label == {0: "no", 1: "yes"}
    answer = model(tiny.samples("test")[0]).logits
    assert answer.shape[1] == 2
    np.testing.assert_allclose(answer[:, 0], -answer[:, 1], atol=1e-6)
