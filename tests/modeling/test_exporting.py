"""`from_pretrained(..., export=True)`: a transformers model in, a dynamic one out."""

import gc
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import yaml
from transformers import ResNetConfig, ResNetForImageClassification

from dynamic_exit import DynamicExitModelForImageClassification as Model
from dynamic_exit import DynamicExitModelForSequenceClassification
from dynamic_exit.errors import ModelError, RecipeError
from dynamic_exit.recipe import parse_recipe

INPUTS, _ = tiny.samples("test")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A transformers model of random weights, and samples."""
    place = tmp_path_factory.mktemp("exporting")
    tiny.build(place)
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(["left", "middle", "right"])), "num_channels": 1}
    shape = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
    ResNetForImageClassification(ResNetConfig(**labels, **shape)).save_pretrained(place / "resnet")
    return place


@pytest.fixture(scope="module")
def stanzas(place):
    """A recipe without model and export."""
    return {
        "seed": 1,
        "data": {"source": "npz", "path": str(place / "data"), "splits": {key: key for key in tiny.SIZES}},
        "dynamic_exit": {"early_exit": {"count": 1, "training": {"epochs": 2}}},
    }


def test_a_model_is_compressed_on_the_way(place, stanzas, tmp_path, command):
    model = Model.from_pretrained(place / "resnet", export=True, recipe=stanzas, operating_point="backbone")
    original = ResNetForImageClassification.from_pretrained(place / "resnet").eval()
    with torch.no_grad():
        wanted = original(torch.from_numpy(INPUTS)).logits
    torch.testing.assert_close(model(torch.from_numpy(INPUTS)).logits, wanted, atol=1e-4, rtol=0)
    temporary = Path(model.folder)
    assert temporary.is_dir()
    assert yaml.safe_load((temporary / "recipe.yaml").read_text())["model"]["source"] == "transformers"
    model.save_pretrained(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "moved")
    found = yaml.safe_load((tmp_path / "moved" / "recipe.yaml").read_text())
    assert (found["model"]["name"], found["data"]["path"]) == (str(place / "resnet"), str(place / "data"))
    assert found["export"]["directory"] == "."
    code, out, _ = command("validate", tmp_path / "moved" / "recipe.yaml")
    assert code == 0 and "is valid: 3 classes, 192 train, 160 calibration, 150 test samples" in out
    (tmp_path / "moved").rename(tmp_path / "kept")
    del model
    gc.collect()
    assert not temporary.exists(), "a temporary folder goes with its model"
    kept = Model.from_pretrained(tmp_path / "kept", operating_point="backbone")
    torch.testing.assert_close(kept(torch.from_numpy(INPUTS)).logits, wanted, atol=1e-4, rtol=0)


def test_a_file_with_a_directory_and_options_of_loading(place, stanzas, tmp_path):
    """`model` may name the same folder and say more, and the result stays where the recipe says."""
    shutil.copytree(place / "resnet", tmp_path / "resnet")
    values = {
        **stanzas,
        "model": {"name": "./resnet", "preprocessing": {"scale": 0.5}},
        "export": {"directory": "out", "layout": "segments"},
    }
    recipe = tiny.write(tmp_path, values)
    model = Model.from_pretrained(tmp_path / "resnet", export=True, recipe=recipe, operating_point="backbone")
    assert model.folder == tmp_path / "out"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["layout"] == "segments"
    original = ResNetForImageClassification.from_pretrained(place / "resnet").eval()
    with torch.no_grad():
        wanted = original(torch.from_numpy(INPUTS / 2)).logits
    np.testing.assert_allclose(model(INPUTS).logits, wanted.numpy(), atol=1e-4)


def test_what_does_not_fit_is_refused_before_any_work(place, stanzas, tmp_path):
    resnet = str(place / "resnet")
    other = {**stanzas, "model": {"source": "timm", "name": "resnet18"}, "export": {"directory": str(tmp_path / "out")}}
    said = f"^the recipe is for the model 'resnet18', not for '{resnet}'; leave its `model` out$"
    for recipe in (other, parse_recipe(other, tmp_path)):
        with pytest.raises(RecipeError, match=said):
            Model.from_pretrained(resnet, export=True, recipe=recipe)
    for option in ({"token": "hf_secret"}, {"subfolder": "a"}, {"cache_dir": "b"}):
        said = "cannot be given with export=True; download the model first, and give its folder"
        with pytest.raises(RecipeError, match=f"^'{next(iter(option))}' {said}$"):
            Model.from_pretrained(resnet, export=True, recipe=stanzas, **option)
    with pytest.raises(RecipeError, match="^the recipe must be a mapping of stanzas; it needs at least data and dyn"):
        Model.from_pretrained(resnet, export=True, recipe=tiny.write(tmp_path, ["data"]))
    with pytest.raises(RecipeError, match="^key 'export' must be a mapping; got 'out'$"):
        Model.from_pretrained(resnet, export=True, recipe={**stanzas, "export": "out"})
    with pytest.raises(RecipeError, match="none.yaml' does not exist; give the path of a YAML file$"):
        Model.from_pretrained(resnet, export=True, recipe=tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="^key 'data' is missing; add it to the recipe$"):
        Model.from_pretrained(resnet, export=True, recipe={"dynamic_exit": stanzas["dynamic_exit"]})
    with pytest.raises(ModelError, match="^model folder '/no/such/folder' does not exist; check the path$"):
        Model.from_pretrained("/no/such/folder", export=True, recipe=stanzas)
    images = {**stanzas, "data": {**stanzas["data"], "source": "imagefolder"}}
    with pytest.raises(RecipeError, match="^the recipe is for image-classification, the class that loads it for text"):
        DynamicExitModelForSequenceClassification.from_pretrained(resnet, export=True, recipe=images)
