"""What `plan` says would run, against numbers by hand."""

import pytest
import tiny

from dynamic_exit.analysis.plan import plan
from dynamic_exit.analysis.plan_tables import duration, plan_lines, plan_tables
from dynamic_exit.recipe import read_recipe

# convolutions of 3 x 3 on 36 places, and the linear layer
MULTIPLY_ADDS = 36 * 9 * (1 * 2 + 2 * 4 + 4 * 8 + 8 * 8) + 4 * 8 * 3


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planned")
    return plan(read_recipe(tiny.build(folder, dynamic_exit__early_exit__training__epochs=30)))


def test_shapes_and_costs_are_those_by_hand(planned):
    assert planned["splits"] == tiny.SIZES and planned["static"] == [] and planned["quantization"] == ["static_quant"]
    backbone = planned["backbone"]
    assert backbone["multiply_adds"] == backbone["given_multiply_adds"] == MULTIPLY_ADDS
    assert backbone["parameters"] == sum(parameter.numel() for parameter in tiny.backbone().parameters())
    assert backbone["cuts_found"] == 3 and backbone["inputs"] == {"input": [1, 6, 6]}
    first, second = planned["positions"]
    assert (first["position"], first["shape"], second["shape"]) == ("block1", [2, 6, 6], [8, 6, 6])
    assert first["share"] == pytest.approx(36 * 9 * 2 / MULTIPLY_ADDS)
    assert first["heads"] == [{"head": "linear", "multiply_adds": 6, "share": pytest.approx(6 / MULTIPLY_ADDS)}]
    # a saver: a convolution of 3 x 3 on 9 places, and a linear layer
    costs = [(row["stage"], row["multiply_adds"]) for row in planned["candidates"]]
    assert costs == [(f"saver{width}", 9 * 9 * width + 9 * width * 3) for width in (2, 4)]
    assert planned["static_search"] is None
    assert planned["process"] > 1e8 and planned["disk"] == 0


def test_every_step_has_a_time(planned):
    steps = {row["step"]: row["seconds"] for row in planned["steps"]}
    assert list(steps) == [
        "export the backbone",
        "try candidates",
        "train exits",
        "make records",
        "search thresholds",
        "prove and measure the file",
    ]
    assert steps["export the backbone"] > 0
    assert planned["seconds"] == pytest.approx(sum(steps.values()), abs=0.5)


def test_training_of_savers_has_a_time_that_grows_with_it(tmp_path):
    times = []
    for epochs in (1, 400):
        path = tiny.build(
            tmp_path,
            quantization=None,
            dynamic_exit__early_exit=None,
            dynamic_exit__tiny_saver__fine_tune={"epochs": epochs},
        )
        steps = {row["step"]: row["seconds"] for row in plan(read_recipe(path))["steps"]}
        assert list(steps)[:3] == ["export the backbone", "try candidates", "fine-tune candidates"]
        times.append(steps["fine-tune candidates"])
    assert times[1] > times[0] + 0.2  # 400 epochs of three steps each


def test_savers_that_are_made_have_rows_time_and_memory(tmp_path):
    found = {}
    for epochs in (1, 400):
        maker = {"make": "convnet", "shares": [0.0001, 0.3], "stride": 2, "epochs": epochs, "views": 2}
        changes = {"dynamic_exit__early_exit": None, "dynamic_exit__tiny_saver": {"candidates": [maker]}}
        found[epochs] = plan(read_recipe(tiny.build(tmp_path, quantization=None, **changes)))
    steps = [{row["step"]: row["seconds"] for row in each["steps"]} for each in found.values()]
    assert list(steps[0])[:3] == ["export the backbone", "try candidates", "make savers"]
    assert steps[1]["make savers"] > steps[0]["make savers"] + 0.2
    row = found[400]["candidates"][-1]
    # stem 3 x 3 on 9 places from 1 to 4 channels, then blocks of 4, 8 and 16 channels on 9, 4 and 1 places
    blocks = 9 * 9 * (16 + 16), 4 * (9 * 32 + 9 * 64 + 32), 9 * 128 + 9 * 256 + 128
    assert row["stage"] == "convnet_0.3" and row["multiply_adds"] == 9 * 9 * 4 + sum(blocks) + 16 * 3
    assert [row["stage"] for row in found[400]["left_out"]] == ["convnet_0.0001"]
    samples = sum(tiny.samples(key)[0].nbytes for key in tiny.SIZES)
    assert found[400]["memory"] > samples + 2 * 4 * 3 * tiny.SIZES["train"]
    assert found[1]["memory"] < found[400]["memory"], "a single epoch sees a single view"


def test_pruning_is_done_without_training_and_each_choice_is_counted(tmp_path):
    search = {"pruning": [0, 0.5], "quantization": ["none", "static_quant"]}
    path = tiny.build(tmp_path)
    values = {"pruning": {"ratio": 0.5, "steps": 3, "fine_tune": {"epochs": 400}}, **tiny.recipe()}
    values["dynamic_exit"] = {
        "tiny_saver": values["dynamic_exit"]["tiny_saver"],
        "tuning": {"cost": "latency", "static_search": search},
    }
    tiny.write(tmp_path, values)
    before = tiny.tree(tmp_path)
    found = plan(read_recipe(path))
    assert tiny.tree(tmp_path) == before
    assert [row["pass"] for row in found["static"]] == ["pruning"]
    assert found["backbone"]["multiply_adds"] < 0.6 * MULTIPLY_ADDS == 0.6 * found["backbone"]["given_multiply_adds"]
    searched = found["static_search"]
    assert searched["variants"] == 4 and searched["choices"][0] == {"pruning": "none", "quantization": "none"}
    seconds = {row["step"]: row["seconds"] for row in searched["steps"]}
    (pruning,) = (value for step, value in seconds.items() if step.startswith("prune:"))
    assert pruning > 1
    # four backbones instead of one
    once = next(row["seconds"] for row in found["steps"] if row["step"] == "export the backbone")
    assert seconds["export the backbones"] == pytest.approx(4 * once, abs=0.3)
    assert any("unpruned: 34.44 k" in line for line in plan_lines(found))
    assert [table.title for table in plan_tables(found)][-1] == "estimated time, if no choice is skipped"


def test_durations_are_read_easily():
    assert [duration(seconds) for seconds in (0.4, 89, 120, 5399, 7200)] == ["0 s", "89 s", "2 min", "90 min", "2.0 h"]
