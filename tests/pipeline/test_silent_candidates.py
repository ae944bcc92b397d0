"""Candidates without trained weights, or no better than chance, are never chosen, and it is said why."""

import functools
import warnings

import numpy as np
import onnx
import pytest
import tiny
import torch
from candidate_trials import Trial
from neural_compressor.torch.quantization import quantize
from safetensors.torch import save_file
from torch import nn

from dynamic_exit import TinySaverConfig
from dynamic_exit.candidates.untrained import why_untrained
from dynamic_exit.core.cache import Cache
from dynamic_exit.errors import ModelError, PassError
from dynamic_exit.onnx.export import export_part
from dynamic_exit.passes import ModelSource
from dynamic_exit.passes.tiny_saver import select_savers
from dynamic_exit.records import Records, StageTable
from dynamic_exit.search import SearchOptions
from dynamic_exit.sources.models.candidates import load_candidate

# ---- selection


def pool(*, samples=400):
    """A saver of pure noise that is lucky where it is sure, and a trained one that costs most of what it saves."""
    random = np.random.default_rng(2)
    labels = np.arange(samples) % 2
    final = np.where(np.arange(samples) % 20 == 0, 1 - labels, labels)
    noise = random.integers(2, size=samples)
    sure = random.permutation(np.linspace(0.55, 0.8, samples))
    lucky = np.flatnonzero(noise == labels)[:16]
    sure[lucky] = np.linspace(0.97, 0.99, 16)
    known = random.random(samples) < 0.56
    twin = np.where(known, labels, random.integers(2, size=samples))

    def two(answers, confidence):
        rows = np.empty((samples, 2))
        rows[np.arange(samples), answers] = confidence
        rows[np.arange(samples), 1 - answers] = 1 - confidence
        return rows

    return Records.from_probabilities(
        labels,
        StageTable.of(
            ["noise", "twin", "final"], ["saver", "saver", "final"], [-1, -1, 0], [1.0, 540.0, 0.0], [0.0, 0.0, 1000.0]
        ),
        [two(noise, sure), two(twin, np.where(known, 0.9, 0.6)), two(final, np.full(samples, 0.995))],
    )


@pytest.mark.parametrize("selection", ["single", "chain"])
@pytest.mark.parametrize("fuse", ["none", "mean"])
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "agreement"])
def test_noise_takes_nobodys_place(selection, fuse, labelled):
    """With labels, and where agreement with the backbone stands for them."""
    records = pool()
    if not labelled:
        arrays = {**vars(records), "labels": np.full(len(records), -1)}
        records = Records(**arrays)
    rows = {row.stage: row for row in select_savers(records, SearchOptions(fuse, 1), selection=selection)}
    assert rows["noise"].saving_alone > 0.01  # what chance lets leave
    assert rows["noise"].why.startswith("no better than chance: ")
    assert (rows["noise"].chosen, rows["noise"].saving_in_chain) == (False, 0.0)
    (alone,) = select_savers(records.select(["twin"]), SearchOptions(fuse, 1), selection=selection)
    assert rows["twin"] == alone


@pytest.mark.parametrize("selection", ["single", "chain"])
def test_where_all_are_noise_none_is_chosen(selection):
    (row,) = select_savers(pool().select(["noise"]), SearchOptions("mean", 2), selection=selection)
    assert not row.chosen and row.why.startswith("no better than chance: ")


# ---- what has no trained weights

CODE = """
import random as plain
import numpy as np
import torch
from torch import nn


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3))


def drawn():
    return net()


def by_numpy():
    model = net()
    for each in model.parameters():
        each.data = torch.from_numpy(np.random.normal(size=each.shape).astype(np.float32))
    return model


def by_python():
    model = known()
    model[3].bias.data = torch.tensor([plain.random() for _ in range(3)])
    return model


def known():
    model = net()
    numbers = torch.linspace(-1, 1, 36 * 4 + 4 + 12 + 3)
    nn.utils.vector_to_parameters(numbers, model.parameters())
    return model


def new_head():
    model = known()
    model[3] = nn.Linear(4, 3)
    return model


def fixed_seed():
    torch.manual_seed(3)
    return net()


def no_seed_at_all():
    return by_generator(np.random.default_rng())


def by_generator(generator):
    model = net()
    for each in model.parameters():
        each.data = torch.from_numpy(generator.normal(size=each.shape).astype(np.float32))
    return model


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.spare = known(), nn.Linear(7, 7)

    def forward(self, x):
        return self.body(x)


class Noisy(Unused):
    def forward(self, x):
        return self.body(x) + torch.randn(3)


class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = known()
        self.register_buffer("projection", torch.randn(36, 36))

    def forward(self, x):
        return self.body(x.flatten(1) @ self.projection)


def zeros():
    model = net()
    for each in model.parameters():
        each.data.zero_()
    return model
"""
SOME = "it is not trained, {} random"
UNTRAINED = {
    "drawn": "it is not trained, all of its weights are random",
    "by_numpy": "it is not trained, all of its weights are random",
    "by_python": SOME.format("'3.bias' is"),
    "new_head": SOME.format("'3.weight', '3.bias' are"),
    "no_seed_at_all": "it is not trained, all of its weights are random",
    "Buffered": SOME.format("'projection' is"),
    "known": None,
    "Unused": None,  # random, and no answer hangs on it
    "zeros": None,  # these two are for the test against chance
    "fixed_seed": None,
}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "nets.py").write_text(CODE)
    return folder


def reason(**source):
    source, example = ModelSource(**source), {"x": torch.from_numpy(tiny.samples("calibration")[0][:2])}
    candidate = load_candidate(source, 3, example, seed=5)
    return why_untrained(source, candidate, (example["x"],), lambda: load_candidate(source, 3, example, seed=6))


@pytest.mark.parametrize("name", UNTRAINED)
def test_own_code_needs_to_tell_nothing(code, name):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert reason(source="python", name=f"{code}/nets.py:{name}") == UNTRAINED[name]
    if name != "fixed_seed":
        assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002


def test_given_weights_are_trained_ones(code, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3))
    save_file(net.eval().state_dict(), tmp_path / "w.safetensors")
    assert reason(source="python", name=f"{code}/nets.py:drawn", weights=f"{tmp_path}/w.safetensors") is None
    onnx.save(export_part("x", net, ("x",), "logits", (torch.ones(2, 1, 6, 6),), [{}]).proto, tmp_path / "net.onnx")
    assert reason(source="onnx", name=f"{tmp_path}/net.onnx") is None


def test_timm_without_weights(tmp_path):
    arguments = {"num_classes": 3, "in_chans": 1}
    source = {"source": "timm", "name": "test_resnet", "arguments": arguments, "preprocessing": {"size": [64, 64]}}
    assert reason(**source) == "it is not trained, all of its weights are random"
    import timm

    save_file(timm.create_model("test_resnet", **arguments).state_dict(), tmp_path / "w.safetensors")
    assert reason(**source, weights=str(tmp_path / "w.safetensors")) is None


def test_transformers_without_a_head(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1], num_labels=3)
    ResNetModel(config).save_pretrained(tmp_path / "base")
    ResNetForImageClassification(config).save_pretrained(tmp_path / "whole")
    said = reason(source="transformers", name=str(tmp_path / "base"))
    assert said == SOME.format("'classifier.1.bias', 'classifier.1.weight' are")
    assert reason(source="transformers", name=str(tmp_path / "whole")) is None


# ---- the pool of a run


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, code):
    path = tiny.build(tmp_path_factory.mktemp("candidates"), dynamic_exit__early_exit=None, quantization=None)
    return path


def candidate(code, name, **more):
    return {"source": "python", "name": f"{code}/nets.py:{name}", **more}


def trained(recipe):
    return tiny.recipe()["dynamic_exit"]["tiny_saver"]["candidates"][0] | {
        "name": f"{recipe.parent}/models.py:saver",
        "weights": f"{recipe.parent}/saver2.safetensors",
    }


RANDOM = "it is not trained, all of its weights are random"
ADVICE = "give it `weights`, or `fine_tune` to `tiny_saver`"


def test_without_weights_it_is_left_out_and_said(recipe, code, tmp_path):
    trial = Trial(recipe, Cache(tmp_path), candidates=[candidate(code, "drawn"), trained(recipe)])
    assert list(trial.stages.savers) == ["saver2"]
    row = trial.rows["drawn"]
    assert (row.chosen, row.accuracy, row.why) == (False, None, f"left out: {RANDOM}")
    assert f"warning: candidate 'drawn' is left out: {RANDOM}" in trial.said
    assert trial.pool.notes == [f"candidate 'drawn' is left out: {RANDOM}; {ADVICE}"]


def test_a_recipe_of_nothing_else_is_refused(recipe, code):
    said = f"no candidate of `tiny_saver` can be used, 'drawn' is left out: {RANDOM}; {ADVICE}"
    with pytest.raises(ModelError) as refused:
        Trial(recipe, Cache(None), candidates=[candidate(code, "drawn"), candidate(code, "new_head")])
    assert str(refused.value) == said


@pytest.mark.parametrize("exits", [None, {"count": 1}])
def test_where_the_recipe_names_no_candidate_and_none_can_be_made_exits_do_without(tmp_path, exits):
    path = tiny.build(tmp_path, quantization=None, dynamic_exit__early_exit=exits)
    left_out = "'convnet_0.0001' is left out: no saver of maker 'convnet' fits 0.0001 of the backbone's cost"
    made = functools.partial(Trial, path, Cache(None), candidates=[{"make": "auto", "shares": [0.0001]}])
    if exits is None:
        with pytest.raises(ModelError, match=f"no candidate of `tiny_saver` can be used, {left_out}"):
            made()
        return
    trial = made()
    (note,) = trial.pool.notes
    assert note.startswith(f"there is no saver, exits alone: none that is made here suits, {left_out}")
    assert (list(trial.stages.savers), [row.chosen for row in trial.rows.values()]) == ([], [False])


@pytest.mark.parametrize(("selection", "name"), [("single", "zeros"), ("chain", "fixed_head")])
def test_what_random_weights_cannot_show_is_held_against_chance(recipe, code, tmp_path, selection, name):
    """All weights 0, and a head that is drawn under a seed of its own: the same class for every sample."""
    (code / "nets.py").write_text(
        CODE + "\n\ndef fixed_head():\n    model = zeros()\n    torch.manual_seed(1)\n"
        "    nn.init.normal_(model[3].bias)\n    return model\n"
    )
    trial = Trial(recipe, Cache(tmp_path), candidates=[candidate(code, name), trained(recipe)], selection=selection)
    assert list(trial.stages.savers) == ["saver2"]
    assert trial.rows[name].why.startswith("no better than chance: ")
    assert not trial.rows[name].chosen and trial.rows[name].accuracy < 0.5


TAUGHT = {"epochs": 12, "learning_rate": 0.02}


@pytest.mark.parametrize(
    ("name", "why"), [("drawn", f"{RANDOM}; see drawn:finetuned"), ("zeros_but_one", "no better than chance: ")]
)
def test_with_fine_tune_it_is_trained_first_and_judged_as_trained(recipe, code, tmp_path, name, why):
    """Also where another candidate would be chosen, and this one not, as it came."""
    (code / "nets.py").write_text(
        CODE + "\n\ndef zeros_but_one():\n    model = known()\n    model[3].weight.data.zero_()\n    return model\n"
    )
    candidates = [candidate(code, name), trained(recipe)]
    trial = Trial(recipe, Cache(tmp_path), candidates=candidates, fine_tune=TAUGHT, max_savers=2)
    assert trial.rows[name].why.startswith(why) and not trial.rows[name].chosen
    row = trial.rows[f"{name}:finetuned"]
    assert row.accuracy > 0.5 and row.saving_alone is not None
    (note,) = trial.pool.notes
    assert note.startswith(f"candidate '{name}' is trained before savers are chosen, as '{name}:finetuned': ")
    assert f"note: {note}" in trial.said
    # trained once, and never twice
    assert not any(stage.count(":finetuned") > 1 for stage in trial.rows)


def test_alone_it_is_trained_and_ships(recipe, code, tmp_path):
    trial = Trial(recipe, Cache(tmp_path), candidates=[candidate(code, "drawn")], fine_tune=TAUGHT)
    assert list(trial.stages.savers) == ["drawn:finetuned"]
    (stage,) = trial.stages.savers.values()
    inputs = torch.from_numpy(tiny.samples("test")[0])
    with torch.no_grad():
        torch.testing.assert_close(stage.session(inputs), stage.module(inputs), atol=1e-4, rtol=1e-4)


def test_training_that_fails_is_said(recipe, code, tmp_path):
    fine_tune = {"epochs": 1, "learning_rate": 1e30}
    said = "no candidate of `tiny_saver` can be used, 'drawn:finetuned' is left out: .*; give others"
    with pytest.raises(ModelError, match=said):
        Trial(recipe, Cache(tmp_path), candidates=[candidate(code, "drawn")], fine_tune=fine_tune)


def test_too_few_samples_to_tell_are_said(recipe, tmp_path):
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    values["data"]["splits"] |= {"calibration": "calibration[:2.5%]"}
    values["dynamic_exit"]["tiny_saver"]["candidates"] = [trained(recipe)]
    trial = Trial(tiny.write(recipe.parent, values, "few.yaml"), Cache(tmp_path))
    assert trial.pool.notes == ["4 calibration samples are too few to tell candidates from chance"]
    assert trial.rows["saver2"].accuracy is not None and "chance" not in trial.rows["saver2"].why


def test_validate_and_plan_say_it(recipe, code, tmp_path, command):
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    values["dynamic_exit"]["tiny_saver"]["candidates"] = [candidate(code, "drawn"), trained(recipe)]
    path = tiny.write(recipe.parent, values, "said.yaml")
    assert f"candidate 'drawn' is left out: {RANDOM}" in command("validate", path)[2]
    values["dynamic_exit"]["tiny_saver"]["fine_tune"] = TAUGHT
    err = command("validate", tiny.write(recipe.parent, values, "said.yaml"))[2]
    assert f"candidate 'drawn' is trained before savers are chosen, as 'drawn:finetuned': {RANDOM}" in err


# ---- in memory


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("drawn", f"no candidate can be used, candidate 'drawn' is left out: {RANDOM}; give others"),
        ("zeros", "none of zeros (no better than chance: "),
    ],
)
def test_in_memory_agreement_with_the_backbone_takes_the_labels_place(code, name, said):
    def calibrate(model):
        model(torch.from_numpy(tiny.samples("calibration")[0]))

    (code / "nets.py").write_text(CODE)
    with warnings.catch_warnings(), pytest.raises(PassError) as refused:
        warnings.simplefilter("ignore")
        quantize(tiny.backbone(), TinySaverConfig(candidates=[candidate(code, name)]), run_fn=calibrate)
    assert str(refused.value).startswith(f"pass 'tiny_saver': {said}")
