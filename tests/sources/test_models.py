"""Candidates: what patterns stand for, and how other models' classes and inputs are brought to the backbone's."""

import json
import os

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from safetensors.torch import save_file

from dynamic_exit.errors import ModelError, RecipeError
from dynamic_exit.passes import MODEL_SOURCES, explain
from dynamic_exit.sources.labels import find_class_order
from dynamic_exit.sources.models.candidates import expand_candidates, load_candidate
from dynamic_exit.sources.models.loading import load_model

FACTORIES = '''
import torch
from torch import nn
from torch.nn import Linear as Imported


def net2(classes=3):
    """Logits are fixed multiples of the one feature: class i gets i + 1 times it."""
    layer = nn.Linear(1, classes, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(1.0, classes + 1).view(-1, 1))
    return layer


def net10(classes=3):
    return net2(classes)


def sure():
    return nn.Sequential(net2(), nn.Softmax(1))


def _hidden():
    return net2()
'''
ONE = torch.ones(2, 1)
EXAMPLE = {"x": ONE}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "m.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def source(name="m.py:net2", kind="python", **more):
    values = {"source": kind, "name": name, **more}
    return MODEL_SOURCES.find(kind).stanza.model_validate(values, context={"base": os.getcwd()})


def candidate(count, labels=None):
    return source(arguments={"classes": count}, **({"labels": labels} if labels else {}))


def linear_file(path, classes=3, size=None):
    """An ONNX file that answers like the factories; with a size it takes images and averages them."""
    shape = ["n", 1] if size is None else ["n", 1, *size]
    weight = np.arange(1, classes + 1, dtype=np.float32)[None]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if size is not None:
        mean = helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0)
        nodes = [mean, helper.make_node("MatMul", ["m", "w"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.int64([2, 3]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)


def vision(folder, labels=None, size=8):
    """A tiny vision transformer in a folder, as Hugging Face saves it."""
    from transformers import ViTConfig, ViTForImageClassification

    names = {"id2label": dict(enumerate(labels))} if labels else {"num_labels": 3}
    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=size, patch_size=4,
        **names,
    )  # fmt: skip
    torch.manual_seed(0)
    ViTForImageClassification(config).save_pretrained(folder)


# patterns


def names(*sources):
    return [os.path.relpath(each.name) if "/" in each.name else each.name for each in expand_candidates(sources)]


def test_a_timm_pattern_becomes_its_models_in_natural_order():
    found = names(source("resnet1?", "timm"), source("resnet50", "timm"))
    assert found == ["resnet18", "resnet50"]
    assert names(source("mobilenetv3_small_*", "timm"))[:3] == [
        "mobilenetv3_small_050",
        "mobilenetv3_small_075",
        "mobilenetv3_small_100",
    ]
    tagged = names(source("resnet18.*", "timm", arguments={"pretrained": True}))
    assert "resnet18.a1_in1k" in tagged and all(name.startswith("resnet18.") for name in tagged)


def test_files_folders_and_functions_match_by_kind(folder):
    for name in ("a10.onnx", "a9.onnx", "b.onnx"):
        (folder / name).touch()
    for name in ("a1", "a2"):
        (folder / "hub" / name).mkdir(parents=True)
    (folder / "hub" / "a3").touch()
    assert names(source("a*.onnx", "onnx")) == ["a9.onnx", "a10.onnx"]
    assert names(source("./hub/a*", "transformers")) == ["hub/a1", "hub/a2"]
    assert names(source("m.py:net*")) == ["m.py:net2", "m.py:net10"]
    assert names(source("m.py:*")) == ["m.py:net2", "m.py:net10", "m.py:sure"]


def test_a_name_with_brackets_that_exists_is_no_pattern(folder):
    (folder / "a[1].onnx").touch()
    assert names(source("a[1].onnx", "onnx")) == ["a[1].onnx"]


def test_every_model_of_a_pattern_has_weights_of_its_own(folder):
    (folder / "w").mkdir()
    for name, scale in (("net2", 2.0), ("net10", 10.0)):
        save_file({"weight": torch.full((3, 1), scale)}, folder / "w" / f"{name}.safetensors")
    found = expand_candidates([source("m.py:net*", weights="w/{name}.safetensors")])
    assert [each.stage_name for each in found] == ["net2", "net10"]
    assert [load_candidate(each, 3, EXAMPLE)(ONE)[0, 0].item() for each in found] == [2.0, 10.0]


def test_what_two_patterns_share_comes_once(folder):
    assert names(source("m.py:net*"), source("m.py:*2")) == ["m.py:net2", "m.py:net10"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ([("mobilnetv3_small_10*", "timm")],
         "pattern 'mobilnetv3_small_10*' matches no timm model; did you mean 'mobilenetv3_small_100'?"),
        ([("{base}/netz*.onnx", "onnx")],
         "pattern '{base}/netz*.onnx' matches no onnx model; did you mean '{base}/nets.onnx'?"),
        ([("{base}/nowhere/*.onnx", "onnx")],
         "pattern '{base}/nowhere/*.onnx' matches no onnx model; check the folder"),
        ([("{base}/m.py:nut*", "python")],
         "pattern '{base}/m.py:nut*' matches no python model; did you mean '{base}/m.py:net2'?"),
        ([("google/mobilenet*", "transformers")],
         "pattern 'google/mobilenet*' matches no transformers model; check the folder"),
        ([("resnet1*", "timm", {"stage": "small"})],
         "candidate 'resnet1*' is a pattern and cannot be one `stage`; remove 'small'"),
        ([("{base}/nets.onnx", "onnx"), ("{base}/m.py:net2", "python", {"stage": "nets"})],
         "candidates '{base}/nets.onnx' and '{base}/m.py:net2' both give a stage 'nets'; "
         "give one of them another `stage`, without a pattern"),
        ([("resnet1?", "timm"), ("resnet18", "timm", {"arguments": {"in_chans": 1}})],
         "candidates 'resnet1?' and 'resnet18' both give a stage 'resnet18'; "
         "give one of them another `stage`, without a pattern"),
        ([("{base}/fin*.onnx", "onnx")],
         "candidate '{base}/final.onnx' is called 'final', the backbone's own name; give it another `stage`"),
    ],
)  # fmt: skip
def test_patterns_that_are_refused(folder, sources, message):
    for name in ("nets.onnx", "final.onnx"):
        (folder / name).touch()
    given = [source(name.format(base=folder), kind, **(more[0] if more else {})) for name, kind, *more in sources]
    with pytest.raises(RecipeError) as refused:
        expand_candidates(given)
    assert str(refused.value) == message.format(base=folder)


# classes


def answer(count, labels, classes):
    return load_candidate(candidate(count, labels), classes, EXAMPLE)(ONE)[0].tolist()


def test_classes_are_brought_into_the_backbones_order(folder):
    # the candidate's own class i answers i + 1
    assert answer(3, None, 3) == answer(3, None, ["a", "b", "c"]) == answer(3, ["a", "b", "c"], 3) == [1, 2, 3]
    assert answer(3, ["a", "b", "c"], ["a", "b", "c"]) == [1, 2, 3]
    assert answer(3, ["c", "a", "b"], ["a", "b", "c"]) == [2, 3, 1]
    assert answer(4, ["c", "Background", "a", "b"], ["a", "b", "c"]) == [3, 4, 1]
    assert answer(4, ["__background__", "a", "b", "c"], 3) == [2, 3, 4]
    assert answer(3, ["dummy", "b", "a"], ["a", "dummy", "b"]) == [3, 1, 2]
    assert answer(1001, None, 1000) == list(range(2, 1002))


def test_names_that_stand_twice_are_fine_in_the_same_order():
    crane = ["crane", "dog", "crane"]
    assert find_class_order("s", 3, crane, crane) is None
    assert find_class_order("s", 4, ["background", *crane], crane) == (1, 2, 3)
    message = (
        "candidate 's' and the backbone order their classes differently and 'crane' stands for more than one; "
        "give every class a name of its own"
    )
    with pytest.raises(ModelError) as refused:
        find_class_order("s", 3, ["dog", "crane", "crane"], crane)
    assert str(refused.value) == message


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(6)), place=st.none() | st.integers(0, 6))
def test_every_permutation_is_undone(order, place):
    backbone = [f"class {i}" for i in range(6)]
    own = [backbone[i] for i in order]
    if place is not None:
        own.insert(place, "background")
    found = find_class_order("s", len(own), own, backbone)
    assert [own[i] for i in (found or range(6))] == backbone
    assert (found is None) == (own == backbone)


@pytest.mark.parametrize(
    ("own", "classes", "message"),
    [
        (["a", "cat", "c"], ["a", "dog", "c"],
         "class 1 is 'cat' in candidate 's' and 'dog' in the backbone; correct its `labels` or leave it out"),
        (["background", "a", "cat"], ["a", "dog"],
         "class 1 is 'cat' in candidate 's' and 'dog' in the backbone; correct its `labels` or leave it out"),
        (["a", "b", "c", "d"], ["a", "b", "c"],
         "candidate 's' knows 'd', which the backbone does not; correct its `labels` or leave it out"),
        (["a", "b"], ["a", "b", "c"],
         "candidate 's' does not know 'c', which the backbone does; correct its `labels` or leave it out"),
        (["b", "x", "a"], ["a", "b", "c"],
         "candidate 's' knows 'x', which the backbone does not and does not know 'c', which the backbone does; "
         "correct its `labels` or leave it out"),
        (["a", "b"], 3, "candidate 's' has 2 classes and the backbone 3; use one with 3"),
        (4, 3, "candidate 's' has 4 classes and the backbone 3; use one with 3"),
        (1001, 999, "candidate 's' has 1001 classes and the backbone 999; use one with 999"),
        (1000, ["a", "b"], "candidate 's' has 1000 classes and the backbone 2; use one with 2"),
    ],
)  # fmt: skip
def test_other_classes_are_refused(own, classes, message):
    count, labels = (own, None) if isinstance(own, int) else (len(own), own)
    with pytest.raises(ModelError) as refused:
        find_class_order("s", count, labels, classes)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("l.json", '["c", "a", "b"]'),
        ("l.json", '{"2": "b", "0": "c", "1": "a"}'),
        ("l.txt", "c\n a\nb \n\n"),
    ],
)
def test_labels_are_read_from_files(folder, file, content):
    (folder / file).write_text(content)
    assert answer(3, file, ["a", "b", "c"]) == [2, 3, 1]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("l.csv", "a", "labels '{path}' must be a .json or .txt file, or a list in the recipe"),
        ("l.txt", None, "labels '{path}' do not exist; check the path"),
        ("l.json", "[", "labels '{path}' cannot be read: "),
        ("l.json", '{"0": "a", "2": "b"}', "labels '{path}' have no class 1; number them from 0 without a gap"),
        ("l.json", '{"0": ["n01", "a"]}', "labels '{path}' must be a list of names, or index: name"),
        ("l.json", "3", "labels '{path}' must be a list of names, or index: name"),
        ("l.json", "[]", "labels '{path}' must be a list of names, or index: name"),
        ("l.json", '["a", "b"]', "candidate 'net2' has 3 classes and its `labels` 2; name each once"),
    ],
)
def test_labels_that_are_refused(folder, file, content, message):
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(ModelError) as refused:
        answer(3, file, ["a", "b", "c"])
    assert str(refused.value).startswith(message.format(path=folder / file))


def test_labels_are_written_relative_to_the_recipe(folder):
    values = candidate(3, "l.json").model_dump(mode="json", context={"base": str(folder / "out")})
    assert (values["labels"], values["name"]) == ("../l.json", "../m.py:net2")
    assert json.loads(json.dumps(candidate(3, ["a", "b", "c"]).model_dump()))["labels"] == ["a", "b", "c"]


def test_hugging_face_models_name_their_classes_and_preprocessing(folder):
    from transformers import ViTImageProcessor

    vision(folder / "named", ["c", "a", "b"])
    vision(folder / "plain")
    images = torch.randn(2, 3, 8, 8)
    own = load_model(source("./named", "transformers"))(images)
    brought = load_candidate(source("./named", "transformers"), ["a", "b", "c"], {"x": images})
    torch.testing.assert_close(brought(images), own[:, [1, 2, 0]])
    assert load_candidate(source("./plain", "transformers"), ["a", "b", "c"], {"x": images}).class_order is None
    with pytest.raises(ModelError, match="^class 1 is 'a' in candidate 'named' and 'x' in the backbone; "):
        load_candidate(source("./named", "transformers"), ["c", "x", "b"], {"x": images})

    steps = {"from_model": True, "scale": 0.5, "std": [2.0]}
    made_for = {
        "size": {"height": 8, "width": 12},
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5] * 3,
        "resample": 3,
    }
    ViTImageProcessor(**made_for).save_pretrained(folder / "named")
    found = load_model(source("./named", "transformers", preprocessing=steps)).preprocessing
    assert (found.size, found.interpolation, found.scale) == ((8, 12), "bicubic", 0.5)
    torch.testing.assert_close(found.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    assert found.std.flatten().tolist() == [2.0], "what the recipe gives comes first"


# sources


def test_an_onnx_file_is_a_candidate(folder):
    linear_file(folder / "net.onnx")
    given = source("net.onnx", "onnx", labels=["c", "a", "b"])
    assert given.stage_name == "net"
    assert load_candidate(given, ["a", "b", "c"], EXAMPLE)(ONE)[0].tolist() == [2, 3, 1]


def test_an_onnx_files_own_size_and_what_the_recipe_says(folder):
    linear_file(folder / "net.onnx", size=(4, 6))
    images = torch.full((2, 1, 8, 12), 2.0)
    with pytest.raises(
        ModelError, match=r"^ONNX model 'net.onnx' takes samples of shape \[1, 4, 6\]; got \[1, 8, 12\]"
    ):
        load_candidate(source("net.onnx", "onnx"), 3, {"x": images})
    made_for = source("net.onnx", "onnx", preprocessing={"from_model": True})
    assert load_candidate(made_for, 3, {"x": images})(images)[0].tolist() == [2, 4, 6]


def test_timm_models_know_what_they_were_made_for():
    steps = {"from_model": True, "size": [32, 40], "scale": 1 / 255}
    found = load_model(source("mobilenetv3_small_050", "timm", preprocessing=steps)).preprocessing
    assert (found.size, found.interpolation, found.scale) == ((32, 40), "bicubic", 1 / 255)
    torch.testing.assert_close(found.mean.flatten(), torch.tensor([0.485, 0.456, 0.406]))
    torch.testing.assert_close(found.std.flatten(), torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("m.py:net2", "python", {"preprocessing": {"from_model": True}}),
         "model '{base}/m.py:net2' does not say what input it was made for; write its `preprocessing`"),
        (("flat.onnx", "onnx", {"preprocessing": {"from_model": True}}),
         "model '{base}/flat.onnx' does not say what input it was made for; write its `preprocessing`"),
        (("none.onnx", "onnx", {}), "ONNX file '{base}/none.onnx' does not exist; check the path"),
        (("m.py:sure", "python", {}),
         "candidate 'sure' gives probabilities where logits are wanted; leave its softmax out"),
        (("convnext_atto_rms", "timm", {"arguments": {"pretrained": True}}),
         "timm model 'convnext_atto_rms' cannot be built: No pretrained weights exist for convnext_atto_rms"),
    ],
)  # fmt: skip
def test_candidates_that_are_refused(folder, given, message):
    linear_file(folder / "flat.onnx")
    name, kind, more = given
    with pytest.raises(ModelError) as refused:
        load_candidate(source(name, kind, **more), 3, EXAMPLE)
    assert str(refused.value).startswith(message.format(base=folder))


@pytest.mark.parametrize("key", ["weights", "arguments"])
def test_an_onnx_file_needs_nothing_else(key):
    with pytest.raises(ValidationError) as refused:
        source("a.onnx", "onnx", **{key: "w.pt" if key == "weights" else {"classes": 3}})
    said = f"key 'model' names an ONNX file, which holds its own weights and needs no `{key}`; remove it"
    assert explain(refused.value, "model") == said
