import numpy as np

from dynamic_exit.records import Records
from dynamic_exit.tuning.operating_point import Goal, OperatingPoints
from dynamic_exit.tuning.optimizer import tune_file


def test_a_file_of_records_becomes_a_file_of_points(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(4, size=200)
    logits = [3 * np.eye(4)[labels] * strength + random.standard_normal((200, 4)) for strength in (0.4, 0.7, 1.0)]
    records = Records.from_logits(
        labels, ["small", "exit", "final"], ["saver", "exit", "final"], [-1, 0, 1], logits, [5, 1, 0], [0, 40, 100]
    )
    records.write(tmp_path / "records.npz")
    points = tune_file(tmp_path / "records.npz", tmp_path / "points.json", max_accuracy_drops=[0, 0.05])
    assert OperatingPoints.read(tmp_path / "points.json") == points
    assert points.names == ("accuracy-drop-0%", "accuracy-drop-5%")
    assert points.points[1].goal == Goal(max_accuracy_drop=0.05)
    assert points.points[1].cost_ratio < 1
