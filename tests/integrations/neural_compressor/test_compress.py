import copy

import pytest
import sentences
import tiny
import torch
from safetensors.torch import save_file

import dynamic_exit
from dynamic_exit.errors import DataError, PassError, RecipeError

DATA = {key: tiny.samples(key) for key in tiny.SIZES}


def stanzas(folder, **more):
    return {
        "dynamic_exit": {"early_exit": {"count": 1, "training": {"epochs": 5}}},
        "export": {"directory": str(folder / "out")},
        **more,
    }


def test_a_model_and_samples_in_memory_give_a_model_that_answers(tmp_path, log_lines):
    model = tiny.backbone()
    before = copy.deepcopy(model.state_dict())
    dynamic = dynamic_exit.compress(model, stanzas(tmp_path), data=DATA)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert dynamic.folder == tmp_path / "out"
    assert [line.split()[0] for line in log_lines[-2:]] == ["verified:", "figures:"]
    inputs, labels = (torch.from_numpy(array) for array in tiny.samples("test"))
    point = dynamic.operating_points.points[0]
    assert dynamic.operating_point == point
    assert (dynamic(inputs).logits.argmax(1) == labels).double().mean() == point.accuracy
    dynamic.set_operating_point("backbone")
    with torch.no_grad():
        torch.testing.assert_close(dynamic(inputs).logits, model(inputs), atol=1e-4, rtol=1e-4)


def test_a_recipe_file_says_what_a_mapping_says(tmp_path):
    path = tiny.write(tmp_path, stanzas(tmp_path))
    model, inputs = tiny.backbone(), torch.from_numpy(DATA["test"][0])
    by_file = dynamic_exit.compress(model, path, data=DATA)
    assert by_file.folder == tmp_path / "out"
    by_file.set_operating_point("backbone")
    with torch.no_grad():
        torch.testing.assert_close(by_file(inputs).logits, model(inputs), atol=1e-4, rtol=1e-4)
    with pytest.raises(RecipeError, match="^key 'data' is missing; add it to the recipe$"):
        dynamic_exit.compress(model, str(path))


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ({"rtn": {"bits": 8}}, "the model is quantized already (INCWeightOnlyLinear in 'head.2'); give it in float and "
         "name all passes at once"),
        ({"early_exit": {"count": 1, "training": {"epochs": 1}}},
         "pass 'dynamic_exit' got a model that is dynamic already; name all passes in one recipe instead"),
    ],
)  # fmt: skip
def test_what_is_compressed_already_is_refused(tmp_path, passes, message):
    inputs = torch.from_numpy(DATA["train"][0])
    given = dynamic_exit.compress(tiny.backbone(), passes, run_fn=lambda model: model(inputs))
    with pytest.raises(PassError) as refused:
        dynamic_exit.compress(given, stanzas(tmp_path), data=DATA)
    assert str(refused.value) == message
    assert not list(tmp_path.iterdir())


def test_a_recipe_and_an_evaluation_function(tmp_path, log_lines):
    """The function sees logits from both models, as its model gave logits."""
    inputs, labels = (torch.from_numpy(array) for array in DATA["test"])
    model = tiny.backbone()

    def score(model):
        with torch.no_grad():
            return (model(inputs).argmax(1) == labels).double().mean()

    dynamic = dynamic_exit.compress(model, stanzas(tmp_path), data=DATA, eval_fn=score)
    point = dynamic.operating_points.points[0]
    assert log_lines[-1] == f"eval_fn: {score(model):g} before, {point.accuracy:g} after"
    with pytest.raises(PassError, match="^`eval_fn` must return one number"):
        dynamic_exit.compress(model, stanzas(tmp_path / "other"), data=DATA, eval_fn=lambda model: None)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("data", "recipe", "error", "message"),
    [
        (
            {"train": DATA["train"]},
            {},
            RecipeError,
            "data must hold train, calibration and test; got train",
        ),
        (
            {**DATA, "calibration": DATA["test"]},
            {},
            DataError,
            "splits 'calibration' and 'test' overlap in 150 samples, first sample 0 of 'calibration' and 0 of 'test'; "
            "make them disjoint, or set `duplicates: drop`",
        ),
        (
            {**DATA, "test": (DATA["test"][0][:0], DATA["test"][1][:0])},
            {},
            DataError,
            "split 'test' is empty; give it at least one sample",
        ),
        (
            {**DATA, "test": (DATA["test"][0], DATA["test"][1][:-1])},
            {},
            DataError,
            "split 'test' must have one whole number as label for each sample; got int64 [149] for 150 samples",
        ),
        (DATA, {"dynamic_exit": {"early_exit": {"coun": 1}}}, RecipeError,
         "unknown key 'dynamic_exit.early_exit.coun'; did you mean 'count'?"),
        (None, {}, RecipeError, "key 'data' is missing; add it to the recipe"),
    ],
)  # fmt: skip
def test_refusals_write_nothing(tmp_path, data, recipe, error, message):
    with pytest.raises(error) as refused:
        dynamic_exit.compress(tiny.backbone(), stanzas(tmp_path, **recipe), data=data)
    assert str(refused.value) == message
    assert not list(tmp_path.iterdir())


def test_a_model_of_several_inputs_takes_them_by_name(tmp_path):
    inputs, labels = sentences.arrays("dev")
    rows = {"train": slice(0, 60), "calibration": slice(60, 200), "test": slice(200, 320)}
    data = {key: ({name: array[part] for name, array in inputs.items()}, labels[part]) for key, part in rows.items()}
    candidate = {
        "source": "python",
        "name": str(tmp_path / "models.py:bag"),
        "weights": str(tmp_path / "bag.safetensors"),
    }
    (tmp_path / "models.py").write_text(sentences.MODELS)
    save_file(sentences.bag().state_dict(), tmp_path / "bag.safetensors")
    passes = {"tiny_saver": {"candidates": [candidate]}, "tuning": {"max_accuracy_drop": 0.05}}
    dynamic = dynamic_exit.compress(sentences.bag(4), stanzas(tmp_path, dynamic_exit=passes), data=data)
    dynamic.set_operating_point("backbone")
    tensors = {name: torch.from_numpy(array[:9, :7]) for name, array in inputs.items()}
    with torch.no_grad():
        expected = sentences.bag(4)(**tensors).log_softmax(1)  # evidence is added up
    torch.testing.assert_close(dynamic(**tensors).logits, expected, atol=1e-4, rtol=1e-4)
    assert type(dynamic).__name__ == "DynamicExitModelForSequenceClassification"
