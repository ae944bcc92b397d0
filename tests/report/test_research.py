"""Risk against coverage, reliability, data frames, and what objects show of themselves."""

import numpy as np
import pytest

from dynamic_exit.errors import RecordsError
from dynamic_exit.modeling import DynamicExitModelForImageClassification
from dynamic_exit.records import Records, StageTable
from dynamic_exit.report import calibration_error, plot_reliability, plot_risk_coverage, reliability, risk_coverage


@pytest.fixture(scope="module")
def records():
    """300 samples of 4 classes, of which every tenth has no label; probabilities are uneven."""
    drawn = np.random.default_rng(0)
    labels = drawn.integers(4, size=300)
    logits = [drawn.normal(size=(300, 4)) + skill * np.eye(4)[labels] for skill in (1, 3)]
    labels[::10] = -1
    table = StageTable.of(["saver", "final"], ["saver", "final"], [-1, 0], [0.1, 0], [0, 1])
    return Records.from_logits(labels, table, logits)


def test_risk_at_a_coverage_is_the_share_of_errors_among_the_surest(records):
    coverage, risk = risk_coverage(records, "saver")
    known = records.labels >= 0
    pairs = sorted(
        zip(
            records.topk_probabilities[0, known, 0],
            records.topk_classes[0, known, 0] != records.labels[known],
            strict=True,
        ),
        key=lambda pair: -pair[0],
    )
    assert len(coverage) == known.sum() == 270 and coverage[-1] == 1
    for count in (1, 10, 135, 270):
        assert risk[count - 1] == pytest.approx(np.mean([wrong for _, wrong in pairs[:count]]))
        assert coverage[count - 1] == count / 270
    assert risk_coverage(records, "final")[1].mean() < risk.mean(), "the better stage has the smaller area"


def test_a_confidence_of_ones_own_is_judged_likewise(records):
    perfect = (records.topk_classes[0, :, 0] == records.labels).astype(float)
    risk = risk_coverage(records, "saver", perfect)[1]
    errors = int((perfect[records.labels >= 0] == 0).sum())
    assert (risk[: 270 - errors] == 0).all() and risk[-1] == errors / 270
    with pytest.raises(RecordsError, match=r"confidences must be 300, one a sample; got shape \[270\]"):
        risk_coverage(records, "saver", np.ones(270))


def test_reliability_is_accuracy_by_confidence(records):
    means, shares, counts = reliability(records, "final", bins=5)
    known = records.labels >= 0
    confidence = records.topk_probabilities[1, known, 0]
    correct = records.topk_classes[1, known, 0] == records.labels[known]
    for place, (low, high) in enumerate(zip(np.arange(0, 1, 0.2), np.arange(0.2, 1.1, 0.2), strict=True)):
        inside = (confidence >= low) & ((confidence < high) | (place == 4))
        assert counts[place] == inside.sum()
        if inside.any():
            assert (means[place], shares[place]) == pytest.approx((confidence[inside].mean(), correct[inside].mean()))
    error = sum(abs(m - s) * n for m, s, n in zip(means, shares, counts, strict=True) if n) / counts.sum()
    assert calibration_error(records, "final", bins=5) == pytest.approx(error)


def test_a_confidence_of_one_is_in_the_last_bin():
    table = StageTable.of(["final"], ["final"], [0], [0], [1])
    sure = Records.from_probabilities([0, 1], table, [np.array([[1.0, 0.0], [1.0, 0.0]])])
    assert reliability(sure, "final", bins=3)[2].tolist() == [0, 0, 2]
    assert calibration_error(sure, "final") == 0.5


def test_plots_take_one_call_and_are_written(records, tmp_path):
    for plot in (plot_risk_coverage, plot_reliability):
        figure = plot(records)
        labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert [label.partition(":")[0] for label in labels] == ["saver", "final"]
        figure.savefig(tmp_path / "plot.svg")
        assert (tmp_path / "plot.svg").stat().st_size > 5_000
        assert len(plot(records, ["final"]).axes[0].get_legend().get_texts()) == 1


def test_what_cannot_be_plotted_is_refused(records):
    unlabelled = records.take(slice(0, None, 10))
    with pytest.raises(RecordsError, match="records hold no labels, so that nothing tells right from wrong"):
        plot_reliability(unlabelled)
    with pytest.raises(RecordsError, match="savr"):
        risk_coverage(records, "savr")


def test_a_data_frame_has_a_row_for_each_sample_and_stage(records):
    frame = records.to_dataframe()
    assert len(frame) == 600
    row = frame[(frame["sample"] == 7) & (frame.stage == "final")].iloc[0]
    assert (row.label, row.prediction, row.kind) == (records.labels[7], records.topk_classes[1, 7, 0], "final")
    assert (row.confidence, row.own_cost, row.prefix_cost) == (records.topk_probabilities[1, 7, 0], 0, 1)
    known = frame[frame.label >= 0].groupby("stage").correct.mean()
    labels = records.labels >= 0
    assert known["saver"] == pytest.approx((records.topk_classes[0, labels, 0] == records.labels[labels]).mean())


def test_objects_show_a_line_in_a_console_and_a_table_in_a_notebook(ran, records):
    model = DynamicExitModelForImageClassification.from_pretrained(ran.folder)
    shown = [records, ran.result.points, ran.result.metrics, ran.result, model]
    for each in shown:
        assert len(repr(each)) < 400 and "\n" not in repr(each)
        assert each._repr_html_().count("<table>") == 1
    assert repr(records) == "Records(300 samples, 4 kept classes, stages saver, final, costs in macs)"
    assert repr(model).endswith("stages saver2, block1:linear, block3:linear, final, at accuracy-drop-1%)")
    assert repr(ran.result.points).startswith("OperatingPoints(accuracy-drop-1%: 0.")
    assert "<td>saver</td><td>saver</td>" in records._repr_html_()
