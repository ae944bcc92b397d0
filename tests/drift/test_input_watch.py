import json

import numpy as np
import pytest

from dynamic_exit.drift import InputReference, InputWatch, read_inputs
from dynamic_exit.errors import MonitorError

BLOCK = 64


def draw(count, seed, smooth=0.0):
    """Noise of two channels, of which neighbours are mixed."""
    values = np.random.default_rng(seed).normal(size=(count, 2, 4, 16)).astype(np.float32)
    return values * (1 - smooth) + np.roll(values, 1, axis=-1) * smooth


@pytest.fixture(scope="module")
def references():
    return read_inputs({"x": draw(500, 0)}, {"x": draw(500, 0)})


def watch_of(references, level=0.01, seed=0):
    return InputWatch(references, level, seed, BLOCK)


def test_a_reference_counts_statistics_of_all_samples(references):
    (reference,) = references
    assert reference.kind == "signal" and len(reference.statistics) == 5
    for each in reference.statistics:
        assert sum(each.counts) == 500 and len(each.counts) == 64
    assert {each.name: each.mean for each in reference.statistics}["spread"] == pytest.approx(1, abs=0.05)


def test_samples_like_the_reference_seldom_fire(references):
    fired = 0
    for seed in range(20):
        own = read_inputs({"x": draw(200, (seed, 0))}, {})
        fired += watch_of(own, 0.1, seed).take({"x": draw(3000, (seed, 1))}, 3000)
    assert fired <= 20 * 0.1 + 2 * np.sqrt(20 * 0.1 * 0.9)


def test_a_shift_is_noticed_named_and_measured(references):
    watch = watch_of(references)
    assert not watch.take({"x": draw(3000, 1)}, 3000)
    assert watch.take({"x": draw(2000, 2, smooth=0.3)}, 2000)
    name, statistic, answers, before, after = watch.strongest()
    assert (name, statistic) == ("x", "roughness") and answers % BLOCK == 0 and after < 0.97 * before
    watch.restart(0.01)
    assert not watch.take({"x": draw(500, 3)}, 500)


def test_one_block_in_eight_is_looked_at_until_one_is_suspicious(references):
    watch = watch_of(references)
    watch.take({"x": draw(BLOCK - 1, 1)}, BLOCK - 1)
    assert watch.due
    watch.take({"x": draw(1, 2)}, 1)
    assert not watch.due
    watch.take(None, 7 * BLOCK - 1)
    assert not watch.due
    watch.take({}, 1)  # not looked at, whatever it is
    assert watch.due and not watch.take(None, 10_000) and watch.due
    watch.take({"x": draw(BLOCK, 3, smooth=0.04)}, BLOCK)
    assert 0.2 < watch.evidence < 1 and watch.due


def test_calls_of_any_size_and_restarts_give_the_same(references):
    values = draw(1500, 4, smooth=0.012)
    whole, parts = watch_of(references), watch_of(references)
    assert not whole.take({"x": values}, 1500)
    for start in range(0, 1500, 37):
        part = values[start : start + 37]
        parts.take({"x": part}, len(part))
        again = watch_of(references, seed=9)
        again.restore(json.loads(json.dumps(parts.to_dict())))
        parts = again
    assert parts.evidence == whole.evidence > 0 and parts.due == whole.due
    assert parts.to_dict() == whole.to_dict()


def texts(count, seed, longest=20, words=50):
    random = np.random.default_rng(seed)
    lengths = random.integers(5, longest, size=count)
    ids = np.minimum(random.geometric(0.1, size=(count, longest)), words)
    mask = np.arange(longest) < lengths[:, None]
    return {"input_ids": np.where(mask, ids, 0), "attention_mask": mask.astype(np.int64)}


def test_texts_of_another_vocabulary_or_length_are_noticed():
    references = read_inputs({**texts(500, 0), "token_type_ids": np.zeros((500, 20), int)}, texts(400, 1))
    assert [each.name for each in references] == ["input_ids"] and 5 < len(references[0].common) < 50
    rare = next(each for each in references[0].statistics if each.name == "rare_tokens")
    assert rare.mean == pytest.approx(0.05, abs=0.02), "95 % of tokens are common"
    for seed in range(3):
        same, (longer, other) = watch_of(references), (watch_of(references), watch_of(references))
        assert not same.take(texts(3000, (2, seed)), 3000)
        # padded to the longest of a call
        calls = [texts(200, (3, seed, call), longest=30 + call) for call in range(10)]
        assert any([longer.take(each, 200) for each in calls]) and longer.strongest()[1] == "length"
        moved = {**texts(2000, (4, seed)), "attention_mask": None}
        moved["input_ids"] = moved["input_ids"] + 30
        assert other.take({**texts(2000, (4, seed)), "input_ids": moved["input_ids"]}, 2000)
        assert other.strongest()[1] == "rare_tokens"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' is watched and missing; observe it too, or watch with inputs=False"),
        ({"x": np.zeros((4, 2, 4, 16))}, r"got 5 answers and input 'x' of shape \[4, 2, 4, 16\]; give what the model"),
        ({"x": np.zeros(5)}, r"got 5 answers and input 'x' of shape \[5\]"),
    ],
)
def test_inputs_of_another_model_are_refused(references, inputs, message):
    with pytest.raises(MonitorError, match=message):
        watch_of(references).take(inputs, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.update(name="x"), "the statistic 'x' of inputs is unknown to this version"),
        (lambda one: one.update(edges=one["edges"][1:]), "edges and counts of samples do not fit each other"),
        (lambda one: one.update(counts=[-1, *one["counts"][1:]]), "greater than or equal to 0"),
        (lambda one: one.update(mean=float("nan")), "finite number"),
        (lambda one: one.update(name="length"), "statistics of an input must be different ones for its kind"),
        (lambda one: one.update(name="mean"), "statistics of an input must be different ones for its kind"),
    ],
)
def test_references_that_are_not_whole_are_refused(references, change, message):
    values = references[0].model_dump()
    values["statistics"] = [dict(each) for each in values["statistics"]]
    change(values["statistics"][-1])
    with pytest.raises(ValueError, match=message):
        InputReference.model_validate(values)
