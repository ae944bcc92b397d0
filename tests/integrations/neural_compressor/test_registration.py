"""Passes of another distribution, installed into a folder and found by its entry points in a process of its own."""

import json
import os
from pathlib import Path

import fork_server
import pytest
import tiny

MODULE = '''
import torch
from pydantic import Field
from torch import nn

from dynamic_exit.passes import Stanza, StaticPass


class Rounding(Stanza):
    """Rounds weights."""

    digits: int = Field(2, ge=0, description="behind the point")
    log: str | None = Field(None, description="file to which the number of channels is added")


def apply(model, stanza, samples, seed):
    assert len(samples.inputs) == 1 and len(samples.inputs[0]) == len(samples.labels)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.round(decimals=stanza.digits))
    if stanza.log:
        channels = [part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)]
        with open(stanza.log, "a") as file:
            print(seed, samples.labels[:3].tolist(), channels, file=file)
    return model


def breaks(model, stanza, samples, seed):
    raise ValueError("no luck today")


def other_classes(model, stanza, samples, seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 7))


def three(model, stanza, samples):
    return model


ROUNDING = StaticPass(Rounding, apply)
BREAKS = StaticPass(Rounding, breaks)
OTHER = StaticPass(Rounding, other_classes)
NEW = StaticPass(Rounding, apply, version=2)
ZERO = StaticPass(Rounding, apply)
THREE = StaticPass(Rounding, three)
'''
ENTRIES = """[dynamic_exit.passes]
rounding = rounding_pass:ROUNDING
broken = rounding_pass:BREAKS
sevens = rounding_pass:OTHER
newer = rounding_pass:NEW
short = rounding_pass:THREE
early_exit = rounding_pass:ROUNDING
rtn = rounding_pass:ROUNDING
export = rounding_pass:ROUNDING
no-name = rounding_pass:ROUNDING
lost = no_such_module:PASS
odd = rounding_pass:Rounding
"""
REFUSED = {
    "rounding": "pass 'rounding' is already registered by rounding_pass; choose another name",
    "newer": "pass 'newer' is written for version 2 of passes, here is 1; update it",
    "short": "pass 'short' must take (model, stanza, samples, seed); its `apply` does not",
    "early_exit": "pass 'early_exit' is already registered by dynamic_exit.passes.early_exit.config; "
    "choose another name",
    "rtn": "Neural Compressor already has an algorithm 'rtn'; choose another name",
    "export": "a pass cannot be called 'export', which is a recipe's own key; choose another name",
    "no-name": "a pass must be named by an identifier; got 'no-name'",
    "lost": "ModuleNotFoundError: No module named 'no_such_module'",
    "odd": "pass 'odd' must be a StaticPass; got ModelMetaclass",
}
SCRIPT = """
import json, sys, warnings
from pathlib import Path

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import dynamic_exit.integrations.neural_compressor

import tiny, torch
from neural_compressor.common.base_config import config_registry
from neural_compressor.torch.quantization import quantize
from neural_compressor.torch.utils import algos_mapping

from log_lines import log_lines

from dynamic_exit.errors import DynamicExitError
from dynamic_exit.integrations.neural_compressor import describe_algorithms
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe

torch.set_num_threads(1)
folder, found = Path(sys.argv[1]), {}
found["warned"] = [str(each.message) for each in caught if " is left out: " in str(each.message)]
found["registered"] = ["rounding" in config_registry.get_cls_configs()["torch"], "rounding" in algos_mapping]
found["described"] = describe_algorithms()["rounding"]

model, inputs = tiny.backbone(), torch.from_numpy(tiny.samples("train")[0])
before = model.state_dict()["head.2.weight"].clone()
made = quantize(model, {"rounding": {"digits": 1}}, run_fn=lambda model: model(inputs))
found["rounded"] = torch.equal(made.state_dict()["head.2.weight"], before.round(decimals=1))
found["kept"] = torch.equal(model.state_dict()["head.2.weight"], before)
combined = dynamic_exit.DynamicExitConfig(
    rounding={"digits": 2}, pruning={"ratio": 0.5}, early_exit={"count": 1, "training": {"epochs": 2}}
)
found["dict"] = list(combined.to_dict())[:3]
found["again"] = type(combined).from_dict(json.loads(combined.to_json_string())) == combined
log = str(folder / "combined.log")
dynamic_exit.compress(model, [{"pruning": {"ratio": 0.5}}, {"rounding": {"log": log}}],
                      run_fn=lambda model: model(inputs))
found["in memory"] = Path(log).read_text()


def refused(act):
    try:
        act()
    except DynamicExitError as error:
        return str(error)


def recipe(name, passes, output):
    changes = {"dynamic_exit__tiny_saver": None, "dynamic_exit__tuning__points": []}
    values = tiny.recipe(quantization=None, export__directory=output, **changes)
    late = {key: values.pop(key) for key in ("dynamic_exit", "export")}
    return read_recipe(tiny.write(folder, {**values, **passes, **late}, name))


def attempt(name, passes):
    return refused(lambda: run(recipe(name, passes, name[0] + "_out")))


found["refused"] = [
    attempt("a.yaml", {"rounding": {"digts": 1}}),
    attempt("b.yaml", {"roundin": {"digits": 1}}),
    attempt("c.yaml", {"quantization": {"static_quant": {}}, "rounding": {}}),
    attempt("d.yaml", {"broken": {}}),
    attempt("e.yaml", {"sevens": {}}),
    attempt("f.yaml", {"newer": {}}),
    refused(lambda: quantize(model, {"rounding": {"digits": -1}}, run_fn=lambda model: model(inputs))),
]
log = str(folder / "order.log")
passes = {"rounding": {"digits": 3, "log": log}, "pruning": {"ratio": 0.5, "fine_tune": {"epochs": 1}}}
with log_lines() as said:
    run(recipe("g.yaml", passes, "first"))
run(recipe("h.yaml", dict(reversed(passes.items())), "second"))
found["said"] = said[:3]
found["order"] = Path(log).read_text()
found["resolved"] = [list(read_recipe(folder / name / "recipe.yaml").static_passes) for name in ("first", "second")]
print(json.dumps(found))
"""


def in_a_process(folder, script):
    """Run a script where the distribution is installed; return what it printed last, and what it complained of."""
    place = os.pathsep.join([str(folder / "site"), str(Path(tiny.__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": place}
    done = fork_server.run(script, folder, environment=environment, imports=fork_server.LIBRARIES)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1], done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("external")
    site = folder / "site"
    info = site / "rounding_pass-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rounding-pass\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    (site / "rounding_pass.py").write_text(MODULE)
    second = site / "rounding_again-1.0.dist-info"
    second.mkdir()
    (second / "METADATA").write_text("Metadata-Version: 2.1\nName: rounding-again\nVersion: 1.0\n")
    (second / "entry_points.txt").write_text("[dynamic_exit.passes]\nrounding = rounding_pass:ZERO\n")
    return folder


@pytest.fixture(scope="module")
def found(installed):
    tiny.build(installed)
    return json.loads(in_a_process(installed, SCRIPT)[0])


def test_a_recipe_may_name_it_before_anything_imports_neural_compressor(installed):
    script = """
import sys, warnings
from pathlib import Path
import tiny
from dynamic_exit.recipe.yaml_io import parse_recipe
assert "neural_compressor" not in sys.modules
warnings.simplefilter("ignore")
values = tiny.recipe(quantization=None)
late = {key: values.pop(key) for key in ("dynamic_exit", "export")}
print(parse_recipe({**values, "rounding": {"digits": 3}, **late}, Path.cwd()).static_passes["rounding"])
"""
    assert in_a_process(installed, script)[0] == "digits=3 log=None"


def test_a_pass_whose_module_comes_first_is_registered(installed):
    script = """
import rounding_pass, dynamic_exit, neural_compressor.torch.quantization
from dynamic_exit.passes import registered_passes
print(registered_passes()["rounding"].name)
"""
    assert in_a_process(installed, script)[0] == "rounding"


def test_a_pass_that_is_imported_between_the_two_is_told_what_to_do(installed):
    script = "import neural_compressor.torch.quantization, rounding_pass, dynamic_exit; print('fine')"
    said, complaints = in_a_process(installed, script)
    assert said == "fine"
    assert (
        "pass 'rounding' of 'rounding-pass' is left out: 'rounding_pass' was imported first; import dynamic_exit "
        "before it" in complaints
    )


def test_it_is_registered_beside_the_others(found):
    assert found["registered"] == [True, True]
    assert found["described"]["from"] == "rounding-pass"
    assert found["described"]["parameters"][0] == {
        "name": "digits", "default": "2", "range": "≥ 0", "meaning": "behind the point"
    }  # fmt: skip


def test_what_cannot_be_registered_is_left_out_with_the_reason(found):
    told = {line.split("'")[1]: line.split(" is left out: ")[1] for line in found["warned"]}
    assert told == REFUSED


def test_neural_compressor_runs_it(found):
    assert found["rounded"] and found["kept"]


def test_it_stands_in_combinations_where_it_was_written(found):
    assert found["dict"] == ["rounding", "pruning", "quantization"]
    assert found["again"]
    assert found["in memory"] == "0 [-1, -1, -1] [1, 2, 4, 4]\n"


def test_recipes_run_it_in_the_written_order(found):
    labels = tiny.samples("train")[1][:3].tolist()
    assert found["said"][0].startswith("model and data: ")
    assert found["said"][1:] == ["rounding: done", "pruning, step 1 of 1: 25.5% of the multiply-adds remain"]
    assert found["order"] == f"3 {labels} [2, 4, 8, 8]\n3 {labels} [1, 2, 4, 4]\n"
    assert found["resolved"] == [["rounding", "pruning"], ["pruning", "rounding"]]


def test_refusals(found):
    assert found["refused"] == [
        "unknown key 'rounding.digts'; did you mean 'digits'?",
        "unknown key 'roundin'; did you mean 'rounding'?",
        "the recipe runs `rounding` after it quantizes; write `rounding` before `quantization`",
        "pass 'broken' failed with ValueError: no luck today",
        "pass 'sevens' made a model of 7 classes from one of 3; mend it",
        f"pass 'newer' could not be loaded: {REFUSED['newer']}",
        "key 'rounding.digits' must be greater than or equal to 0; got -1",
    ]
