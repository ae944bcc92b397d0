"""The pool of candidates: what is run, what is found again, what is left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from candidate_trials import INT8, SAVERS, Trial
from log_lines import log_lines, log_to
from safetensors.torch import save_file
from torch import nn

from dynamic_exit.candidates import evaluation
from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.candidates.progress import ProgressLog
from dynamic_exit.candidates.recording import BATCHES, record
from dynamic_exit.core.batching import DEFAULT_BATCH_SIZE
from dynamic_exit.core.cache import Cache
from dynamic_exit.core.hashing import digest
from dynamic_exit.core.model_fingerprint import module_fingerprint
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.run import run
from dynamic_exit.points.operating_point import OperatingPoints
from dynamic_exit.recipe import read_recipe
from dynamic_exit.targets.onnxruntime import OnnxRuntimeTarget
from dynamic_exit.targets.stage_costs import stage_seconds


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """Two savers and no exits, in float."""
    return tiny.build(tmp_path_factory.mktemp("pool"), dynamic_exit__early_exit=None, quantization=None)


class Untouchable(OnnxRuntimeTarget):
    """Exports and quantizes nothing."""

    def export_saver(self, *arguments):
        raise AssertionError("a candidate was exported although it is in the cache")


def bits(stages):
    inputs = torch.from_numpy(tiny.samples("test")[0])
    return {name: stage.session(inputs).numpy().tobytes() for name, stage in stages.savers.items()}


@pytest.mark.parametrize("cost", ["macs", "latency"])
def test_a_second_run_makes_nothing_and_gives_the_same(recipe, tmp_path, monkeypatch, cost):
    first = Trial(recipe, Cache(tmp_path), cost=cost, quantization=INT8)
    monkeypatch.setattr(OnnxRuntimeTarget, "export_saver", Untouchable.export_saver)
    monkeypatch.setattr(evaluation, "select_savers", None)
    monkeypatch.setattr("dynamic_exit.candidates.recording.answer_batches", None)
    monkeypatch.setattr("dynamic_exit.targets.stage_costs.measure_latency", None)
    second = Trial(recipe, Cache(tmp_path), cost=cost, quantization=INT8)
    assert second.table == first.table
    assert len(first.stages.savers) == 1
    assert bits(second.stages) == bits(first.stages)
    assert sum("found in the cache" in line for line in second.said) == 3
    assert not any("found in the cache" in line for line in first.said)


def test_two_runs_give_the_same_points(recipe, tmp_path):
    """Byte for byte, whether candidates are run or found in the cache."""
    made, found = [], []
    for name in ("a", "b"):
        where = {"export.directory": str(tmp_path / name), "dynamic_exit.cache.directory": str(tmp_path / "cache")}
        with log_lines() as said:
            folder = run(read_recipe(recipe, where)).folder
        made.append([(folder / file).read_bytes() for file in ("operating_points.json", "records.npz", "model.onnx")])
        found.append(sum("found in the cache" in line for line in said))
    assert made[0] == made[1]
    assert found == [0, 3]


def test_int8_only_where_asked_for(recipe, tmp_path):
    for quantize in (True, False):
        trial = Trial(recipe, Cache(tmp_path), quantize=quantize, quantization=INT8)
        for stages, wanted in ((trial.stages.savers.values(), quantize), (trial.stages.segments, True)):
            assert stages
            for stage in stages:
                assert any(node.op_type == "QuantizeLinear" for node in stage.part.proto.graph.node) == wanted
                assert not any(node.op_type == "QuantizeLinear" for node in stage.float_part.proto.graph.node)


def test_an_entry_that_was_cut_short_or_changed_is_made_anew(recipe, tmp_path):
    first = Trial(recipe, Cache(tmp_path))
    entries = sorted(tmp_path.rglob("*.zip"))
    for number, entry in enumerate(entries):
        whole = entry.read_bytes()
        entry.write_bytes(whole[: len(whole) // 2] if number % 2 else whole[:-80] + bytes(80))
    second = Trial(recipe, Cache(tmp_path))
    assert second.table == first.table
    assert sum("was cut short or changed; it is made anew" in line for line in second.said) == len(entries)
    third = Trial(recipe, Cache(tmp_path))
    assert third.table == first.table
    assert not any("made anew" in line for line in third.said)


@pytest.mark.parametrize("stop", ["records of the backbone", "records of saver2", "records of saver4"])
def test_an_interrupted_run_goes_on_where_it_stopped(recipe, tmp_path, monkeypatch, stop):
    def interrupt(line):
        # the line that comes when they are done, not those on the way, which slow machines print
        if line.startswith(stop) and "of all, about" not in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), log_to(interrupt):
        Trial(recipe, Cache(tmp_path))
    exported = []
    export_saver = OnnxRuntimeTarget.export_saver
    monkeypatch.setattr(
        OnnxRuntimeTarget,
        "export_saver",
        lambda self, name, *rest: (exported.append(name), export_saver(self, name, *rest))[1],
    )
    again = Trial(recipe, Cache(tmp_path))
    done = ["records of the backbone", "records of saver2", "records of saver4"]
    done = done[: done.index(stop) + 1]
    assert [line.split(":")[0] for line in again.said if "found in the cache" in line] == done
    assert exported == [name for name in ("saver2", "saver4") if f"records of {name}" not in done]
    assert again.table == Trial(recipe, Cache(None)).table


@pytest.mark.parametrize("killed_at", [3, BATCHES, BATCHES + 5, 2 * BATCHES + 1])
def test_a_recording_goes_on_within_a_candidate(tmp_path, killed_at):
    batches = 2 * BATCHES + 3
    inputs = np.random.default_rng(0).normal(size=(batches * DEFAULT_BATCH_SIZE - 7, 5)).astype(np.float32)
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    class Model:
        def __init__(self, alive):
            self.calls, self.alive = 0, alive

        def __call__(self, x):
            if self.calls == self.alive:
                raise KeyboardInterrupt
            self.calls += 1
            return x @ weight

    whole = record(Cache(None), digest("x"), "s", Model(1000), [inputs])
    with pytest.raises(KeyboardInterrupt):
        record(Cache(tmp_path), digest("x"), "s", Model(killed_at), [inputs])
    shares, model = [], Model(1000)
    again = record(Cache(tmp_path), digest("x"), "s", model, [inputs], shares.append)
    assert model.calls == batches - killed_at // BATCHES * BATCHES
    assert (again.classes.tobytes(), again.probabilities.tobytes()) == (
        whole.classes.tobytes(),
        whole.probabilities.tobytes(),
    )
    assert shares == sorted(shares) and shares[-1] == 1.0
    # nothing unfinished is left, and a third time nothing is run
    assert len(list(tmp_path.rglob("*.zip"))) == 1
    record(Cache(tmp_path), digest("x"), "s", Model(0), [inputs])


def test_cheap_candidates_are_tried_first_and_the_rest_not_when_time_is_over(recipe, tmp_path):
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    values["dynamic_exit"]["tiny_saver"] |= {"time_limit": 1e-6, "max_savers": 2}
    values["dynamic_exit"]["tiny_saver"]["candidates"].reverse()
    path = tiny.write(recipe.parent, values, "reversed.yaml")
    # the survey too ends: only the first of the recipe is known
    trial = Trial(path, Cache(tmp_path))
    assert trial.rows["saver2"].why == "not tried, the time limit of 1e-06 s was over"
    assert trial.rows["saver2"].cost is None
    assert list(trial.stages.savers) == ["saver4"]
    values["dynamic_exit"]["tiny_saver"]["time_limit"] = 1e6
    trial = Trial(tiny.write(recipe.parent, values, "reversed.yaml"), Cache(tmp_path))
    # on a slow machine lines before say how far it is
    order = [line.split(":")[0] for line in trial.said if line.startswith("records of") and " right, " in line]
    assert order == ["records of the backbone", "records of saver2", "records of saver4"]


def test_single_does_not_run_what_cannot_win(recipe, tmp_path):
    """The backbone's own first blocks with a head of its own: dearer alone than the small saver with the backbone."""
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    candidates = values["dynamic_exit"]["tiny_saver"]["candidates"]
    save_file(tiny.module()["backbone"](7).state_dict(), recipe.parent / "dear.safetensors")
    dear = {"source": "python", "name": "models.py:backbone", "arguments": {"width": 7}, "stage": "dear"}
    candidates.append(dear | {"weights": "dear.safetensors"})
    values["dynamic_exit"]["tiny_saver"] |= {"selection": "single"}
    trial = Trial(tiny.write(recipe.parent, values, "single.yaml"), Cache(tmp_path))
    row = trial.rows["dear"]
    assert row.why.startswith("too expensive: it alone costs 0.8")
    assert (row.chosen, row.accuracy, row.cost) == (False, None, 36 * 9 * (2 + 8 + 28 + 49) + 4 * 7 * 3)
    assert not any(line.startswith("records of dear") for line in trial.said)
    # a chain may use it, so that it is run
    values["dynamic_exit"]["tiny_saver"] |= {"selection": "chain"}
    trial = Trial(tiny.write(recipe.parent, values, "single.yaml"), Cache(tmp_path))
    assert trial.rows["dear"].accuracy is not None


def test_stages_without_weights_are_the_same_each_time(recipe, tmp_path):
    """Random weights come from the recipe's seed: what is verified is what was recorded."""
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    del values["dynamic_exit"]["tiny_saver"]["candidates"][0]["weights"]
    values["dynamic_exit"]["tiny_saver"]["fine_tune"] = {}
    run_inputs = load_run_inputs(read_recipe(tiny.write(recipe.parent, values, "random.yaml")))
    (first, *_), (second, *_) = (CandidatePool(run_inputs, Cache(None)).specs for _ in range(2))
    assert first.untrained
    assert first.fingerprint == second.fingerprint
    assert module_fingerprint(first.load()) == module_fingerprint(first.load())


def test_latency_is_measured_once_on_a_machine(recipe, tmp_path, monkeypatch):
    trial = Trial(recipe, Cache(tmp_path), cost="latency")
    measured = stage_seconds(trial.stages, Cache(tmp_path))
    assert set(measured) == {"segment0", *trial.stages.savers}
    assert all(value > 0 for value in measured.values())
    for row in trial.table:
        if row.stage in measured:
            assert row.cost == measured[row.stage]
    monkeypatch.setattr("dynamic_exit.targets.stage_costs.measure_latency", None)
    assert stage_seconds(trial.stages, Cache(tmp_path)) == measured


@pytest.fixture(scope="module")
def spoilt(recipe):
    """A recipe of one saver, which was better before noise came into its weights."""
    state, generator = tiny.saver(2).state_dict(), torch.Generator().manual_seed(0)
    state["4.weight"] = state["4.weight"] + torch.randn(state["4.weight"].shape, generator=generator)
    save_file(state, recipe.parent / "spoilt.safetensors")
    values = tiny.recipe(dynamic_exit__early_exit=None, quantization=None)
    candidates = values["dynamic_exit"]["tiny_saver"]["candidates"]
    candidates[:] = [candidates[0] | {"weights": "spoilt.safetensors"}]
    return tiny.write(recipe.parent, values, "spoilt.yaml")


def test_a_saver_is_trained_for_its_role_and_kept_where_the_chain_gains(spoilt, tmp_path, monkeypatch):
    taught = {"epochs": 10, "learning_rate": 0.02}
    plain = Trial(spoilt, Cache(tmp_path))
    first = Trial(spoilt, Cache(tmp_path), fine_tune=taught)
    chosen = [row.stage for row in plain.table if row.chosen]
    assert [row.stage for row in first.table if row.chosen] == [f"{name}:finetuned" for name in chosen]
    (line,) = (line for line in first.said if line.startswith("savers fine-tuned"))
    after, before = (float(line.split()[place]) for place in (5, 9))
    assert after < before and line.endswith("kept") and not line.endswith("not kept")
    (name,) = first.stages.savers
    inputs = torch.from_numpy(tiny.samples("test")[0])
    stage, untaught = first.stages.savers[name], plain.stages.savers[chosen[0]]
    with torch.no_grad():
        torch.testing.assert_close(stage.session(inputs), stage.module(inputs), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(stage.module(inputs), untaught.module(inputs), atol=0.1)
    # once more: nothing is trained, and the same comes out
    monkeypatch.setattr("dynamic_exit.candidates.fine_tuning.fine_tune", None)
    second = Trial(spoilt, Cache(tmp_path), fine_tune=taught)
    assert second.table == first.table
    assert bits(second.stages) == bits(first.stages)


def test_a_trained_saver_that_is_no_better_is_not_kept(recipe, tmp_path):
    plain = Trial(recipe, Cache(tmp_path))
    worse = Trial(recipe, Cache(tmp_path), fine_tune={"epochs": 1, "learning_rate": 10.0})
    assert worse.table[: len(plain.table)] == plain.table
    (row,) = worse.table[len(plain.table) :]
    assert (row.stage, row.chosen, row.saving_in_chain) == ("saver2:finetuned", False, 0.0)
    assert row.why == "the chain gets no better with it"
    assert row.accuracy < worse.rows["saver2"].accuracy
    assert bits(worse.stages) == bits(plain.stages)


def test_a_run_ships_a_trained_saver(spoilt, tmp_path):
    taught = {f"{SAVERS}.fine_tune": {"epochs": 10, "learning_rate": 0.02}, "export.directory": str(tmp_path / "out")}
    folder = run(read_recipe(spoilt, taught)).folder
    config = json.loads((folder / "config.json").read_text())
    (stage,) = [each["name"] for each in config["chain"]["stages"]]
    assert stage.endswith(":finetuned")
    assert set(config["preprocessing"]) == {"final", stage}
    assert read_recipe(folder / "recipe.yaml").dynamic_exit.tiny_saver.fine_tune.epochs == 10


class Scaled(nn.Module):
    def __init__(self, factor=1.0, shift=0.0):
        super().__init__()
        self.factor, self.layer = factor, nn.Linear(2, 2)
        self.register_buffer("shift", torch.tensor(shift), persistent=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(2))
            self.layer.bias.zero_()

    def forward(self, x):
        return self.layer(x) * self.factor + self.shift


def test_fingerprints_cover_weights_buffers_and_plain_attributes():
    same = module_fingerprint(Scaled())
    assert module_fingerprint(Scaled()) == same
    weights = Scaled()
    with torch.no_grad():
        weights.layer.weight[0, 1] = 1e-7
    wider = Scaled().double()
    others = [weights, wider, Scaled(factor=2.0), Scaled(shift=0.5), nn.Sequential(Scaled())]
    found = [module_fingerprint(each) for each in others]
    assert len({same, *found}) == len(others) + 1


def test_fingerprints_cover_the_code(tmp_path):
    found = []
    for text in (tiny.MODELS, tiny.MODELS.replace("self.left(x.flatten(1)) *", "self.left(x.flatten(1)) +")):
        tiny.build(tmp_path, model={"source": "python", "name": "models.py:branches"})
        (tmp_path / "models.py").write_text(text)
        torch.manual_seed(0)
        run_inputs = load_run_inputs(read_recipe(tmp_path / "recipe.yaml", {"dynamic_exit.early_exit": None}))
        found.append(module_fingerprint(run_inputs.backbone))
    assert found[0] != found[1]


def test_the_progress_log_estimates_the_time_left(log_lines):
    now = [0.0]
    progress = ProgressLog(clock=lambda: now[0])
    for now[0], share in ((0.0, 0.0), (5.0, 0.1), (10.0, 0.2), (12.0, 0.25), (30.0, 0.5)):
        progress("records of x", share)
    assert log_lines == ["records of x: 20% of all, about 40 s left", "records of x: 50% of all, about 30 s left"]


def test_the_table_is_printed_and_kept(recipe, tmp_path, command):
    out = tmp_path / "out"
    code, printed, err = command("run", recipe, "--output", out)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0].split() == "candidate accuracy cost answers saves alone saves in the chain chosen why".split()
    kept = json.loads((out / "metrics.json").read_text())
    assert (
        [line.split()[0] for line in lines[1:3]] == [row["stage"] for row in kept["candidates"]] == ["saver2", "saver4"]
    )
    assert lines[1].endswith("in the best chain")
    assert lines[2].endswith("in no best chain")
    assert 0 < kept["candidates_seconds"] < kept["seconds"]
    assert OperatingPoints.read(out / "operating_points.json").points[0].exit_rates.keys() == {"saver2", "final"}
