import json
import pickle

import pytest
import tiny
import torch
import transformers
from torch import nn

from dynamic_exit.errors import ModelError, OutputError
from dynamic_exit.graph import Classifier
from dynamic_exit.passes import PruningStanza
from dynamic_exit.passes.pruning import load_pruned, prune, save_pruned

IMAGES, LABELS = (torch.from_numpy(array) for array in tiny.samples("train"))
STANZA = PruningStanza(ratio=0.5, fine_tune={"epochs": 1})


@pytest.fixture
def saved(tmp_path):
    pruned = prune(tiny.backbone(), (IMAGES[:2],), STANZA, (IMAGES, LABELS))
    save_pruned(pruned, tiny.backbone(), tmp_path / "pruned")
    return pruned, tmp_path / "pruned"


def test_a_loaded_model_answers_bit_for_bit(saved):
    pruned, folder = saved
    fresh = tiny.backbone().apply(lambda part: hasattr(part, "reset_parameters") and part.reset_parameters())
    loaded = load_pruned(fresh.train(), folder)
    assert loaded is fresh and not loaded.training
    assert torch.equal(loaded(IMAGES), pruned(IMAGES))
    assert str(loaded) == str(pruned)


def test_a_loaded_model_learns_on(saved):
    loaded = load_pruned(tiny.backbone(), saved[1]).train()
    nn.functional.cross_entropy(loaded(IMAGES), LABELS).backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())
    again = prune(loaded, (IMAGES[:2],), PruningStanza(ratio=0.5, fine_tune={"epochs": 0}))
    assert [m.out_channels for m in again.modules() if isinstance(m, nn.Conv2d)] == [1, 1, 2, 2]


def test_heads_come_back(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
                                    image_size=16, patch_size=8, num_labels=3)  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    pruned = prune(Classifier(model), (torch.randn(2, 3, 16, 16),), STANZA).model
    save_pruned(pruned, model, tmp_path / "pruned")
    loaded = load_pruned(transformers.ViTForImageClassification(config), tmp_path / "pruned")
    x = torch.randn(3, 3, 16, 16)
    assert torch.equal(loaded(x).logits, pruned(x).logits)
    heads = [part.num_attention_heads for part in loaded.modules() if hasattr(part, "num_attention_heads")]
    assert heads == [2]


def test_no_pickle_is_written(saved):
    for path in saved[1].iterdir():
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(path.read_bytes())
    assert sorted(path.name for path in saved[1].iterdir()) == ["pruned.json", "weights.safetensors"]


def refused(folder, change, model=None):
    change(folder)
    with pytest.raises(ModelError) as error:
        load_pruned(model or tiny.backbone(), folder)
    return str(error.value).replace(str(folder), "DIR")


def test_what_cannot_be_loaded(saved):
    folder = saved[1]
    described = json.loads((folder / "pruned.json").read_text())

    def put(**values):
        return lambda folder: (folder / "pruned.json").write_text(json.dumps({**described, **values}))

    def cut(folder):
        whole = (folder / "weights.safetensors").read_bytes()
        (folder / "weights.safetensors").write_bytes(whole[: len(whole) // 2])

    of = "the files in 'DIR' are of"
    assert refused(folder, put(_version=7)) == f"{of} version 7 of dynamic_exit.pruned_model; this version reads 1"
    assert refused(folder, put(changes={"nowhere": {}})) == (
        f"{of} another model than Sequential: it has no module 'nowhere'"
    )
    other = nn.Sequential(nn.Linear(3, 2))
    assert refused(folder, put(), other).startswith(f"{of} another model than Sequential: it has no module 'block")
    assert refused(folder, put(changes={}), other).startswith(f"{of} another model than Sequential: see tensor '")
    assert refused(folder, cut).startswith("the files in 'DIR' hold no pruned model: ")
    assert refused(folder / "nowhere", lambda folder: None) == (
        "'DIR' holds no pruned model: No such file or directory; check the path"
    )


def test_what_cannot_be_saved(saved):
    pruned, folder = saved
    with pytest.raises(OutputError, match="is not an empty folder; give a new one$"):
        save_pruned(pruned, tiny.backbone(), folder)
    with pytest.raises(ModelError) as error:
        save_pruned(pruned, tiny.saver(), folder.parent / "other")
    assert str(error.value) == "the model to save is not made of the given original: their modules have other names"
    assert not (folder.parent / "other").exists()
