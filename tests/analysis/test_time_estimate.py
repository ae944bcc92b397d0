"""About how long the steps of a run take, before it begins."""

import pytest
import tiny
import torch

from dynamic_exit.analysis.time_estimate import estimate_steps, keep_estimate
from dynamic_exit.candidates.making import plan_makings
from dynamic_exit.passes.tiny_saver.makers import choose_makers
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.steps import list_steps
from dynamic_exit.recipe import read_recipe


def loaded(folder, **changes):
    return load_run_inputs(read_recipe(tiny.build(folder, **changes)))


def test_what_was_planned_is_what_is_estimated(tmp_path):
    run_inputs = loaded(tmp_path, dynamic_exit__early_exit__training__epochs=31)
    steps = ["choose a quantization", "export the backbone", "try candidates", "make savers", "train exits"]
    steps += ["make records", "search thresholds", "prove and measure the file"]
    rows = [{"step": name, "seconds": 2.0**place} for place, name in enumerate(steps)]
    keep_estimate(run_inputs.recipe, rows, {"convnet_0.1": 5.0})
    found = estimate_steps(run_inputs)
    assert found.parts == {"savers": {"": 7.0, "convnet_0.1": 5.0}}
    assert found.steps == {
        "static passes": 0.0,
        "backbone": 3.0,
        "savers": 12.0,
        "exits": 16.0,
        "records": 32.0,
        "operating points": 64.0,
        "file": 64.0,
        "figures": 64.0,
    }


def test_what_was_not_planned_is_estimated_for_every_step_that_takes_time_and_changes_nothing(tmp_path):
    run_inputs = loaded(tmp_path, seed=77)
    state = torch.get_rng_state()
    found = estimate_steps(run_inputs).steps
    assert torch.equal(state, torch.get_rng_state())
    assert found.keys() == {*list_steps(run_inputs.recipe)} - {"model and data", "costs"}
    assert all(0 < seconds < 600 for seconds in found.values())


@pytest.mark.parametrize("step", ["savers", "exits"])
def test_longer_trainings_take_longer(tmp_path, step):
    found = []
    for epochs in (10, 10_000):
        maker = {"make": "convnet", "shares": [0.999], "epochs": epochs}
        changes = {"dynamic_exit__tiny_saver": {"candidates": [maker]}}
        run_inputs = loaded(tmp_path, seed=77, dynamic_exit__early_exit__training__epochs=epochs, **changes)
        found.append(estimate_steps(run_inputs).steps[step])
    assert found[1] > 10 * found[0]


def test_savers_of_makers_that_the_inputs_choose_are_trained_too(tmp_path):
    """A recipe that asks for any saver names no maker: what is made is found out from the inputs."""
    anything = {"candidates": [{"make": "auto", "shares": [0.999]}]}
    run_inputs = loaded(tmp_path, seed=77, dynamic_exit__tiny_saver=anything)
    makers = choose_makers(run_inputs.recipe.dynamic_exit.tiny_saver.makers, run_inputs.example)
    trained = [plan for plan in plan_makings(run_inputs, makers) if plan.steps[0]]
    found = estimate_steps(run_inputs)
    parts = found.parts["savers"]
    assert [*parts] == ["", *(plan.spec.name for plan in trained)] and len(parts) > 1
    assert sum(parts.values()) == pytest.approx(found.steps["savers"])
    assert all(parts[plan.spec.name] > 1e-5 * plan.steps[0] for plan in trained)


def test_a_search_over_static_choices_is_one_step(tmp_path):
    search = {"quantization": ["none", {"static_quant": {}}]}
    run_inputs = loaded(
        tmp_path, quantization=None, dynamic_exit__tuning__static_search=search, dynamic_exit__tuning__cost="latency"
    )
    found = estimate_steps(run_inputs).steps
    assert found.keys() == {"static search", "operating points", "file", "figures"}
    assert list_steps(run_inputs.recipe) == ["model and data", "static search", "operating points", "file", "figures"]
