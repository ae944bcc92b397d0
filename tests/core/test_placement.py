"""What is not on the CPU is refused in one sentence, or works; the device ``meta`` stands for a GPU."""

import copy

import pytest
import tiny
import torch
from torch import nn

import dynamic_exit
from dynamic_exit.core.placement import check_on_cpu, device_of, is_fast_in_bfloat16, repeatable_on
from dynamic_exit.errors import CaptureError, ModelError
from dynamic_exit.graph import Classifier, capture
from dynamic_exit.passes import ModelSource
from dynamic_exit.passes.early_exit import (
    EarlyExitStanza,
    ExitTraining,
    FrozenBackbone,
    TrainingSamples,
    attach_exits,
)
from dynamic_exit.sources.models.loading import load_model

INPUTS, LABELS = (torch.from_numpy(array) for array in tiny.samples("train"))
ELSEWHERE = " is on meta, and only training moves to a GPU, by itself; give it on the CPU, with .to('cpu')"


def test_where_a_module_is():
    assert device_of(nn.Linear(2, 2).to("meta")).type == "meta"
    assert device_of(nn.ReLU()).type == device_of(lambda x: x).type == "cpu"


@pytest.mark.parametrize(
    ("kernels", "amx", "fast"), [("AVX512", True, True), ("AVX512", False, False), ("AVX2", True, False)]
)
def test_a_processor_is_fast_in_bfloat16_with_amx_unless_held_to_older_kernels(kernels, amx, fast, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kernels)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": amx})
    assert is_fast_in_bfloat16(torch.device("cpu")) is fast


def test_one_part_elsewhere_is_enough():
    check_on_cpu(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "it")
    with pytest.raises(ModelError) as refused:
        check_on_cpu(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).to("meta")), "it")
    assert str(refused.value) == f"it{ELSEWHERE}"


@pytest.mark.parametrize("recipe", [False, True])
def test_compress_refuses_a_model_elsewhere(recipe, tmp_path):
    passes = {"early_exit": {"count": 1}}
    called = []
    if recipe:
        passes = {"dynamic_exit": passes, "export": {"directory": str(tmp_path / "out")}}
    with pytest.raises(ModelError) as refused:
        dynamic_exit.compress(tiny.backbone().to("meta"), passes, run_fn=None if recipe else called.append)
    assert str(refused.value) == f"the model{ELSEWHERE}"
    assert not called and not list(tmp_path.iterdir())


def test_a_recipe_refuses_a_model_that_its_function_puts_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "m.py").write_text("from torch import nn\ndef net():\n    return nn.Linear(2, 3).to('meta')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as refused:
        load_model(ModelSource.model_validate({"source": "python", "name": "m.py:net"}, context={"base": "."}))
    assert str(refused.value).endswith(ELSEWHERE)


@pytest.mark.parametrize("what", ["the backbone", "'x'", "'labels'"])
def test_exits_refuse_what_is_elsewhere(what):
    segments = [nn.Linear(2, 2).to("meta" if what == "the backbone" else "cpu")]
    inputs, labels = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    samples = TrainingSamples(
        {"x": inputs.to("meta") if what == "'x'" else inputs}, labels.to("meta") if what == "'labels'" else labels
    )
    with pytest.raises(ModelError) as refused:
        attach_exits(FrozenBackbone(segments, [], 2), samples, ExitTraining(EarlyExitStanza()))
    assert str(refused.value) == f"{what}{ELSEWHERE}"


def test_a_capture_refuses_inputs_that_are_not_where_the_model_is():
    with pytest.raises(CaptureError) as refused:
        capture(Classifier(copy.deepcopy(tiny.backbone()).to("meta")), (INPUTS[:2],))
    assert str(refused.value) == "Sequential is on meta and an example input on cpu; move one to the other"


def test_sums_repeat_within_the_context_alone():
    def flags():
        filled = torch.utils.deterministic.fill_uninitialized_memory
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            filled,
        )

    before = flags()
    with repeatable_on(torch.device("cpu")):
        assert flags() == before
    with pytest.raises(ZeroDivisionError), repeatable_on(torch.device("meta")):
        assert flags() == (True, True, False)
        raise ZeroDivisionError
    assert flags() == before
