"""Savers that a run makes: what fits a share, what is found again, what is refused before any work."""

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import sentences
import tiny
import torch
from candidate_trials import shipped_backbone
from hypothesis import given, settings
from hypothesis import strategies as st
from log_lines import log_lines
from torch import nn

from dynamic_exit import load_runner
from dynamic_exit.candidates.evaluation import select_candidates
from dynamic_exit.candidates.making import Making, SaverMaking
from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.candidates.teacher import Teacher, TeacherAnswers, training_samples
from dynamic_exit.core.cache import Cache
from dynamic_exit.data.split import Split
from dynamic_exit.errors import DataError, PassError, RecipeError
from dynamic_exit.passes.tiny_saver.makers import MAKERS, MakerStanza
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime.stages import StageSet

CONVNET = {"make": "convnet", "shares": [0.3], "stride": 2, "epochs": 2, "views": 2}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.build(tmp_path_factory.mktemp("making"), dynamic_exit__early_exit=None, quantization=None)


def try_out(recipe, cache, candidates, **overrides):
    """Run the pass alone; returns the stages, the rows of the table by name, and the lines logged."""
    values = {"dynamic_exit.tiny_saver.candidates": candidates, **overrides}
    run_inputs = load_run_inputs(read_recipe(recipe, values))
    target, *backbone = shipped_backbone(quantized=False)
    stages = StageSet(*backbone)
    with log_lines() as lines:
        pool = CandidatePool(run_inputs, cache)
        stages, table = select_candidates(pool, stages, target)
    return stages, {row.stage: row for row in table}, lines


@settings(max_examples=60, deadline=None)
@given(costs=st.lists(st.integers(1, 100), min_size=1, max_size=9, unique=True), percent=st.integers(1, 99))
def test_the_most_expensive_that_fits_is_found(costs, percent):
    """Among all of a family, as a look at each one finds it; few are measured."""
    costs = sorted(costs)
    measured = []

    def cost_share(name, model, input_names, quantize):
        measured.append(model.model.cost)
        return model.model.cost / 100

    making = object.__new__(SaverMaking)
    making.seed, making.meter, making.cache = 0, Meter(cost_share), Cache(None)
    wanted = Making("saver", MakerStanza(make="convnet", shares=[percent / 100]), percent / 100)
    fitting = [cost for cost in costs if cost / 100 <= percent / 100]
    if fitting:
        assert making._widest(Family(costs), wanted, "key") == {"cost": max(fitting)}
    else:
        with pytest.raises(PassError) as refused:
            making._widest(Family(costs), wanted, "key")
        assert str(refused.value) == (
            f"no saver of maker 'convnet' fits {percent / 100:g} of the backbone's cost, the smallest costs "
            f"{costs[0] / 100:.3g}; give a larger share"
        )
    assert len(measured) <= 1 + np.log2(len(costs) + 1)


class Meter(NamedTuple):
    """Measures costs by a function."""

    cost_share: Callable[..., float]
    measured_by: str = "a function"


class Family:
    """A maker whose architectures are costs."""

    input_names = ("input",)

    def __init__(self, costs):
        self.costs = costs

    def architectures(self, share):
        return [{"cost": cost} for cost in self.costs]

    def build(self, architecture):
        model = nn.Identity()
        model.cost = architecture["cost"]
        return model


def saver_making(run_inputs, run, meter, cache):
    """A maker of savers whose teacher runs as given."""
    teacher = Teacher(run, "a teacher", ("input",))
    return SaverMaking(run_inputs, TeacherAnswers(teacher, training_samples(run_inputs), cache), meter, cache)


def test_a_second_run_trains_nothing_and_gives_the_same(recipe, tmp_path, monkeypatch):
    _, first, _ = try_out(recipe, Cache(tmp_path), [CONVNET])
    monkeypatch.setattr("dynamic_exit.passes.tiny_saver.makers.trained.train", None)
    _, second, lines = try_out(recipe, Cache(tmp_path), [CONVNET])
    assert first == second
    assert not any("view of the training split" in line for line in lines)


def test_a_share_that_nothing_fits_is_a_row_of_the_table(recipe, tmp_path):
    _, rows, _ = try_out(recipe, Cache(tmp_path), [{**CONVNET, "shares": [0.0001, 0.3], "epochs": 1}])
    assert rows["convnet_0.0001"].why.startswith(
        "left out: no saver of maker 'convnet' fits 0.0001 of the backbone's cost, the smallest costs 0."
    )
    assert rows["convnet_0.0001"].why.endswith("; give a larger share")
    assert rows["convnet_0.3"].accuracy is not None


def test_a_saver_that_cannot_win_is_not_made(recipe, tmp_path):
    """With one saver wanted, a network that alone costs more than the best pair so far is not trained."""
    given = [
        source.model_dump(mode="json", exclude_unset=True)
        for source in read_recipe(recipe).dynamic_exit.tiny_saver.candidates
    ]
    single = {"dynamic_exit.tiny_saver.selection": "single"}
    dear = {**CONVNET, "shares": [0.99], "depth": 2}
    _, rows, lines = try_out(recipe, Cache(tmp_path), [*given, dear], **single)
    row = rows["convnet_0.99"]
    assert row.why.startswith("too expensive: it alone costs 0.") and row.accuracy is None and row.cost > 0
    assert not any(line.startswith("convnet_0.99: ") for line in lines)


def test_two_shares_that_one_network_fits_make_it_once(recipe, tmp_path):
    _, rows, _ = try_out(recipe, Cache(tmp_path), [{**CONVNET, "shares": [0.3, 0.31], "epochs": 1}])
    assert rows["convnet_0.3"].accuracy is not None
    assert rows["convnet_0.31"].why == (
        "left out: it would be the same as 'convnet_0.3', which fits a smaller share; give a larger one"
    )


def test_time_that_is_over_leaves_the_best_epoch_so_far(recipe, tmp_path):
    candidates = [{**CONVNET, "epochs": 4000, "patience": 4000, "validation": 0.2}]
    _, rows, lines = try_out(recipe, Cache(tmp_path), candidates, **{"dynamic_exit.tiny_saver.time_limit": 3.0})
    assert any(
        "time is over after epoch " in line and line.endswith("; the best epoch so far is used") for line in lines
    )
    assert rows["convnet_0.3"].accuracy is not None or "the time limit of 3 s was over" in rows["convnet_0.3"].why


def test_a_maker_that_does_not_suit_is_refused_before_any_work(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("dynamic_exit.passes.tiny_saver.makers.kinds.convnet.ConvNetMaker.suits", lambda inputs: False)
    run_inputs = load_run_inputs(read_recipe(recipe, {"dynamic_exit.tiny_saver.candidates": [CONVNET]}))
    with pytest.raises(PassError) as refused:
        CandidatePool(run_inputs, Cache(tmp_path))
    shape = list(run_inputs.example["input"].shape[1:])
    assert str(refused.value).startswith(
        f"maker 'convnet' takes one input of images, 4 x 4 pixels or more, not 'input' {shape} float32; those that "
        "suit it: "
    )


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        ({"make": "convnt"}, "key 'dynamic_exit.tiny_saver.candidates.0.make' must be 'auto'"),
        (
            {"make": "convnet", "epoch": 3},
            "unknown key 'dynamic_exit.tiny_saver.candidates.0.epoch'; did",
        ),
        (
            {"make": "convnet", "shares": [0.1, 1.5]},
            "key 'dynamic_exit.tiny_saver.candidates.0.shares' must hold shares of the backbone's cost between 0 and "
            "1; got 1.5",
        ),
        (
            {"make": "convnet", "shares": [0.1, 0.1]},
            "key 'dynamic_exit.tiny_saver.candidates.0.shares' holds 0.1 twice; name it once",
        ),
        ({"make": "convnet", "shares": []}, "key 'dynamic_exit.tiny_saver.candidates.0.shares' "),
    ],
)
def test_wrong_options_are_refused(recipe, candidate, message):
    with pytest.raises(RecipeError) as refused:
        read_recipe(recipe, {"dynamic_exit.tiny_saver.candidates": [candidate]})
    assert message in str(refused.value)


def test_what_fits_is_found_anew_when_costs_are_measured_otherwise(recipe, tmp_path):
    run_inputs, fits = load_run_inputs(read_recipe(recipe)), []
    for measured_by, cost in (("one way", 0.1), ("one way", 0.9), ("another", 0.9)):
        meter = Meter(lambda *_, cost=cost: cost, measured_by)
        making = saver_making(run_inputs, None, meter, Cache(tmp_path))
        try:
            made = Making("made", MAKERS.find("convnet").Options(**{**CONVNET, "views": 1}), 0.3)
            making.make(made, making.fit(made), None)
        except PassError as error:
            fits.append(str(error))
        except TypeError:  # this teacher cannot be called: something fitted
            fits.append("fits")
    assert fits[:2] == ["fits", "fits"], "what was measured before is known"
    assert "the smallest costs 0.9" in fits[2]


def test_two_entries_of_one_maker_and_share_are_refused(recipe):
    with pytest.raises(RecipeError, match="has two candidates called 'convnet_0.3'"):
        read_recipe(recipe, {"dynamic_exit.tiny_saver.candidates": [CONVNET, CONVNET]})


HALVES = {"data.splits.train": "train[:50%]", "data.splits.unlabelled": "train[50%:]"}


def test_unlabelled_samples_are_taught_without_their_labels(recipe, tmp_path):
    run_inputs = load_run_inputs(read_recipe(recipe, HALVES))
    extra = run_inputs.splits["unlabelled"]
    assert len(extra) == tiny.SIZES["train"] // 2 and set(extra.labels) == {-1}
    both = training_samples(run_inputs)
    assert len(both) == tiny.SIZES["train"]
    assert np.array_equal(both.inputs["input"][len(run_inputs.splits["train"]) :], extra.inputs["input"])
    asked = []

    def teach(*inputs):
        asked.append(len(inputs[0]))
        return torch.zeros(len(inputs[0]), 3)

    def size(name, model, *_):  # so that the smallest fits
        return sum(each.numel() for each in model.parameters()) / 50_000

    making = saver_making(run_inputs, teach, Meter(size), Cache(tmp_path))
    made = Making("made", MAKERS.find("convnet").Options(**{**CONVNET, "views": 1}), 0.3)
    making.make(made, making.fit(made), None)
    assert sum(asked) == len(both)


def test_unlabelled_samples_of_another_shape_or_of_another_split_are_refused(recipe, tmp_path):
    with pytest.raises(DataError, match="^splits 'unlabelled' and 'train' overlap in 192 samples"):
        load_run_inputs(read_recipe(recipe, {"data.splits.unlabelled": "train"}))
    splits = {key: Split(key, {"input": tiny.samples(key)[0]}, tiny.samples(key)[1]) for key in tiny.SIZES}
    splits["unlabelled"] = Split("unlabelled", {"input": np.zeros((4, 1, 5, 5), np.float32)}, np.full(4, -1))
    with pytest.raises(DataError) as refused:
        load_run_inputs(read_recipe(recipe), splits=splits)
    assert str(refused.value) == (
        "split 'unlabelled' holds samples of input float32 [1, 5, 5] and split 'train' of input float32 [1, 6, 6]; "
        "give all splits one shape and type"
    )


def test_an_empty_stanza_runs_from_start_to_folder(recipe, tmp_path):
    """`tiny_saver: {}`: savers are made, written, and answer in the folder as in the report."""
    values = {
        "dynamic_exit.tiny_saver": {"candidates": [{"make": "auto", "shares": [0.995]}]},
        "dynamic_exit.tuning.points": [{"max_accuracy_drop": 0.0}, {"max_accuracy_drop": 0.05}],
        "export.directory": str(tmp_path / "made"),
    }
    result = run(read_recipe(recipe, values))
    made = [row.stage for row in result.metrics.candidates]
    assert "convnet_0.995" in made
    runner = load_runner(result.folder)
    inputs, labels = tiny.samples("test")
    for row in result.metrics.rows:
        if row.name in [point.name for point in result.points.points]:
            runner.set_operating_point(row.name)
            answered = runner(inputs).logits.argmax(axis=1)
            assert np.mean(answered == labels) == pytest.approx(row.accuracy, abs=1e-9)
    used = {stage.stage for point in result.points.points for stage in point.stages}
    config = json.loads((result.folder / "config.json").read_text())
    assert used & set(made) <= set(config["preprocessing"])


def test_savers_for_text_answer_in_the_folder_as_in_the_report(tmp_path):
    """Of any length: padding changes no answer."""
    candidates = [
        {"make": make, "shares": [0.9], "buckets": 256, "batch_size": 16, "word_dropout": 0.1}
        for make in ("ngrams", "textcnn")
    ]
    overrides = {
        "dynamic_exit.tiny_saver": {"candidates": candidates},
        "dynamic_exit.early_exit": None,
        "dynamic_exit.tuning.points": [{"max_accuracy_drop": 0.2}],
    }
    recipe = read_recipe(sentences.build(tmp_path), overrides)
    result = run(recipe)
    rows = {row.stage: row for row in result.metrics.candidates}
    assert {"ngrams_0.9", "textcnn_0.9"} <= set(rows)
    assert all(rows[made].accuracy > 0.6 for made in ("ngrams_0.9", "textcnn_0.9")), "words tell two thirds of them"

    runner = load_runner(result.folder)
    used = {stage.stage for point in result.points.points for stage in point.stages}
    assert used & set(rows), "some point has a made saver"
    test = load_run_inputs(recipe).splits["test"]
    for row in result.metrics.rows:
        if row.name not in [point.name for point in result.points.points]:
            continue
        runner.set_operating_point(row.name)
        for more in (0, 5):
            padded = {name: np.pad(array, ((0, 0), (0, more))) for name, array in test.inputs.items()}
            right = runner(**padded).logits.argmax(axis=1) == test.labels
            assert np.mean(right) == pytest.approx(row.accuracy, abs=1e-9)
