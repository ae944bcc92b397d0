"""A recipe with every pass and option that the others leave at its default."""

import json

import pytest
import tiny  # noqa: E402  (the tiny world lies beside the other tests)

from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.records import Records


def test_pruned_quantized_guaranteed_and_in_seconds(tmp_path):
    """Every pass of a recipe at once, into an empty folder that is there already."""
    changes = {
        "dynamic_exit__tuning__cost": "latency",
        "dynamic_exit__tuning__guarantee": 0.9,
        "dynamic_exit__tuning__points": [],
        "dynamic_exit__early_exit__heads": ["mlp", "linear"],
        "dynamic_exit__tiny_saver__max_savers": 2,
    }
    recipe = tiny.build(tmp_path, **changes)
    quantization = {"quantization": {"static_quant": {"w_granularity": "per_tensor", "act_sym": True}}}
    values = {key: value for key, value in tiny.recipe(**changes).items() if key != "quantization"}
    tiny.write(tmp_path, {**values, "pruning": {"ratio": 0.25, "fine_tune": {"epochs": 5}}, **quantization})
    (tmp_path / "out").mkdir()
    result = run(read_recipe(recipe))
    assert not (tmp_path / "out.partial").exists()
    records = Records.read(tmp_path / "out" / "records.npz")
    assert records.cost_unit == result.points.cost_unit == "seconds"
    assert 0 < records.baseline_cost < 0.01
    assert {"block1:mlp", "block1:linear", "block3:mlp", "block3:linear"} <= set(records.stages)
    (point,) = result.points.points
    assert point.guarantee is None or point.guarantee.max_accuracy_drop == 0.01
    assert point.accuracy > 0.8
    assert result.metrics.verification["shipped"].exits_apart == 0


def test_points_may_use_other_heads_on_one_cut(tmp_path):
    """Each point takes at most one head of a cut; the file holds all that some point takes."""
    for seed in range(3, 8):  # whether both heads of a cut are in use hangs on their training
        changes = {"dynamic_exit__early_exit__heads": ["linear", "mlp"], "quantization": None, "seed": seed}
        result = run(read_recipe(tiny.build(tmp_path / str(seed), **changes)))
        for point in result.points.points:
            cuts = [stage.stage.partition(":")[0] for stage in point.stages]
            assert len(set(cuts)) == len(cuts)
        used = {stage.stage for point in result.points.points for stage in point.stages}
        chain = json.loads((result.folder / "config.json").read_text())["chain"]
        assert used == {stage["name"] for stage in chain["stages"]}
        assert result.metrics.verification["shipped"].exits_apart == 0
        if any({f"{cut}:linear", f"{cut}:mlp"} <= used for cut in ("block1", "block3")):
            return
    pytest.fail("no training of five led to points with other heads on one cut: this test tells nothing")
