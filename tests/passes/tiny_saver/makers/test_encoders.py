"""Makers whose networks are pre-trained: on which samples, for how long, and who refuses it."""

import time

import pytest
import torch
from log_lines import log_lines
from pydantic import ValidationError
from test_kinds import CLASSES, INPUTS, LABELS, make, teacher

from dynamic_exit.passes.stanza import explain
from dynamic_exit.passes.tiny_saver.makers import MAKERS, EncoderMaker, Teaching
from dynamic_exit.passes.tiny_saver.makers.encoders import train_masked
from dynamic_exit.passes.training import TrainingRun

PRETRAIN = {"epochs": 3, "segment": 4}
ABLE = [name for name, maker in MAKERS.items().items() if issubclass(maker, EncoderMaker)]
KINDS = {"convnet": "images", "series": "series"}


def fit(name, run=None, **options):
    inputs = INPUTS[KINDS[name]]
    maker = make(name, inputs, epochs=2, **options)
    run = run or TrainingRun(0, "a saver", f"{name}: ")
    return maker.fit(maker.architectures(0.5)[0], Teaching(inputs, LABELS, CLASSES, teacher), run).model


def test_the_makers_of_images_and_series_are_able():
    assert sorted(ABLE) == sorted(KINDS)


@pytest.mark.parametrize("name", ABLE)
def test_pre_training_comes_first_and_changes_what_is_made(name):
    with log_lines() as lines:
        once, again = (fit(name, pretrain=PRETRAIN).state_dict() for _ in range(2))
        plain = fit(name).state_dict()
    told = [line.partition(": loss")[0] for line in lines if "epoch " in line and "best" not in line]
    pretraining = [f"{name}: pre-training, epoch {epoch} of 3" for epoch in (1, 2, 3)]
    assert told[:5] == [*pretraining, f"{name}: epoch 1 of 2", f"{name}: epoch 2 of 2"]
    assert all(torch.equal(once[key], again[key]) for key in once)
    assert not all(torch.equal(once[key], plain[key]) for key in once)


@pytest.mark.parametrize("name", ABLE)
def test_the_encoder_is_all_but_the_head_and_gives_features_by_position(name):
    inputs = INPUTS[KINDS[name]]
    maker = make(name, inputs)
    model = maker.build(maker.architectures(0.5)[0])
    held = {id(parameter) for parameter in maker.encoder(model).parameters()}
    head = {id(parameter) for parameter in model.head.parameters()}
    assert held | head == {id(parameter) for parameter in model.parameters()}
    (samples,) = inputs.values()
    assert maker.encoder(model)(samples).dim() == samples.dim()


def test_what_selects_the_best_epoch_is_not_seen(monkeypatch):
    seen = []

    def look(encoder, samples, options, run):
        seen.append(len(samples))
        return train_masked(encoder, samples, options, run)

    monkeypatch.setattr("dynamic_exit.passes.tiny_saver.makers.encoders.train_masked", look)
    fit("series", pretrain=PRETRAIN, validation=0.25)
    assert seen == [72]


def test_pre_training_takes_at_most_half_of_the_time_that_is_left():
    with log_lines() as lines:
        run = TrainingRun(0, "a saver", "series: ", deadline=time.monotonic() + 2)
        fit("series", run, pretrain={**PRETRAIN, "epochs": 100_000})
    assert any(line.startswith("series: pre-training, epoch 1 of") for line in lines)
    assert not any("time is over after epoch 1" in line for line in lines if "pre-training" in line)
    assert any(line.startswith("series: epoch 1 of 2") for line in lines)


def test_steps_on_masked_samples_are_counted():
    plain, longer = (
        make("series", INPUTS["series"], epochs=10, pretrain=each).training_steps(96) for each in (None, {"epochs": 25})
    )
    assert longer == (plain[0] * 35 // 10, plain[1])


@pytest.mark.parametrize("name", sorted({"shallow", "resolution", "ngrams", "textcnn", "rocket"}))
def test_a_maker_without_an_encoder_does_not_know_the_key(name):
    with pytest.raises(ValidationError) as refused:
        MAKERS.find(name).Options.model_validate({"make": name, "pretrain": PRETRAIN})
    assert explain(refused.value, "candidates.0").startswith("unknown key 'candidates.0.pretrain'; ")
