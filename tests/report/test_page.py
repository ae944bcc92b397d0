from html.parser import HTMLParser

import numpy as np
import pytest
import tiny

from dynamic_exit import load_runner
from dynamic_exit.card import model_card
from dynamic_exit.modeling import DynamicExitModelConfig
from dynamic_exit.points.operating_point import Baseline, OperatingPoint, OperatingPoints
from dynamic_exit.points.parts import Guarantee
from dynamic_exit.report.flow import flow_rows
from dynamic_exit.report.metrics import LatencyFigures, Metrics
from dynamic_exit.report.page import report_page
from dynamic_exit.report.summary import key_figures, verdict
from dynamic_exit.report.tables import candidates_table, class_table, metrics_table, percent


def row(name, accuracy, cost, median, spread, speed_up, rates):
    time = {"median": median, "low": median - spread, "high": median + spread, "rounds": 9}
    return {
        "name": name,
        "accuracy": accuracy,
        "cost_ratio": cost,
        "seconds_per_sample": {"1": time, "64": {**time, "median": median / 10}},
        "speed_up": {"1": speed_up, "64": 2 * speed_up},
        "exit_rates": rates,
    }


METRICS = {
    "rows": [
        row("backbone, float", 0.9876, 1.0, 1e-4, 2e-6, 1.0, {"saver": 0.0, "never": 0.0, "final": 1.0}),
        row("point", 0.98, 0.12345, 4e-5, 1e-6, 2.5, {"saver": 0.755, "never": 0.0, "final": 0.245}),
    ],
    "samples": {"train": 1, "calibration": 20, "test": 30},
    "timing": {"runtime": "onnxruntime 9", "threads": 1, "measure": "median"},
    "candidates": [],
    "numerics": [],
    "stages": [],
    "verification": {},
}


def test_table_by_hand():
    """A stage that no sample leaves at gets no column."""
    table = metrics_table(Metrics.model_validate(METRICS))
    times = ["µs/sample, batch 1", "speed-up", "µs/sample, batch 64", "speed-up"]
    assert table.header == ["", "accuracy", "cost", *times, "saver", "final"]
    assert table.rows == [
        ["backbone, float", "98.8%", "1.000", "100.0 ± 2.0", "1.0x", "10.0 ± 2.0", "2.0x", "0%", "100%"],
        ["point", "98.0%", "0.123", "40.0 ± 1.0", "2.5x", "4.0 ± 1.0", "5.0x", "76%", "24%"],
    ]


def test_one_round_of_timing_shows_no_spread():
    """Its quartiles are the round itself: `± 0.0` would claim a precision that nothing was measured of."""
    rows = [{**each, "seconds_per_sample": {}, "speed_up": {"1": 1.0}} for each in METRICS["rows"]]
    for each, rounds in zip(rows, (1, 2), strict=True):
        time = {"median": 2e-6, "low": 2e-6, "high": 2e-6, "rounds": rounds}
        each["seconds_per_sample"] = {"1": time}
    metrics = Metrics.model_validate({**METRICS, "rows": rows})
    assert [cells[3] for cells in metrics_table(metrics).rows] == ["2.0", "2.0 ± 0.0"]


def test_candidates_table_by_hand():
    """What was not measured is empty."""
    full = {
        "stage": "small",
        "accuracy": 0.9,
        "cost": 25.0,
        "answered": 0.6,
        "saving_alone": 0.35,
        "saving_in_chain": 0.125,
        "chosen": True,
        "why": "in the best chain",
    }
    empty = dict.fromkeys(full) | {"stage": "broken", "chosen": False, "why": "left out: it does not load"}
    table = candidates_table(Metrics.model_validate({**METRICS, "candidates": [full, empty], "baseline_cost": 100.0}))
    assert table.header == [
        "candidate", "accuracy", "cost", "answers", "saves alone", "saves in the chain", "chosen", "why"
    ]  # fmt: skip
    assert table.rows == [
        ["small", "90.0%", "0.2500", "60.0%", "35.0%", "12.5%", "yes", "in the best chain"],
        ["broken", "", "", "", "", "", "no", "left out: it does not load"],
    ]


class Tables(HTMLParser):
    """Collects the cells of all tables, and checks that every tag is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.open, self.title = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag in ("meta", "link", "br", "img", "input"):
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] == "h1":
            self.title += data


def test_the_report_of_a_run_holds_its_figures(ran):
    text = (ran.folder / "report.html").read_text()
    tables = Tables(text).tables
    table = metrics_table(ran.result.metrics)
    assert tables[0] == [table.header, *table.rows]
    assert [row[0] for row in tables[0][3:]] == list(ran.result.points.names)
    table = candidates_table(ran.result.metrics)
    assert [table.header, *table.rows] in tables
    assert [(row[0], *row[6:]) for row in table.rows] == [
        ("saver2", "yes", "in the best chain"),
        ("saver4", "no", "in no best chain"),
    ]
    alone = {row[0]: row[1] for row in tables[1][1:]}
    assert alone.keys() == {"saver2", "block1:linear", "block3:linear", "final"}
    assert f"{tiny.SIZES['test']} test samples" in text
    assert f"{tiny.SIZES['calibration']} calibration samples" in text


def test_savers_alone_stand_in_the_plots_of_times(ran):
    metrics = ran.result.metrics
    assert [*metrics.saver_seconds] == ["saver2"]
    assert metrics.saver_seconds["saver2"].keys() == metrics.rows[0].seconds_per_sample.keys()
    times = {
        size: LatencyFigures(median=seconds, low=0, high=0, rounds=1)
        for size, seconds in {"1": 1e-3, "64": 2e-4}.items()
    }
    (saver,) = [each for each in metrics.reliability if each.stage == "saver2"]
    alike = saver.model_copy(update={"accuracy": metrics.rows[0].accuracy})  # within what plots show, whatever it is
    page = changed(ran, saver_seconds={"saver2": times}, reliability=[alike])
    for seconds in ("1000.0", "200.0"):
        assert f"saver2 alone: accuracy {alike.accuracy:.1%} at {seconds} µs per sample" in page


def test_accuracies_by_class_are_in_metrics_report_and_card(ran):
    metrics = ran.result.metrics
    inputs, labels = tiny.samples("test")
    assert metrics.class_names == ["left", "middle", "right"]
    assert metrics.class_samples == np.bincount(labels).tolist()
    for row in metrics.rows[2:]:
        correct = load_runner(ran.folder, row.name)(inputs).logits.argmax(1) == labels
        assert row.class_accuracy == [correct[labels == each].mean() for each in range(3)]
    assert all(len(row.class_accuracy) == 3 for row in metrics.rows)
    table = class_table(metrics)
    assert table.header == ["", *(f"{name} ({(labels == i).sum()})" for i, name in enumerate(metrics.class_names))]
    shown = [each for each in Tables((ran.folder / "report.html").read_text()).tables if each[0][0] == "class"]
    assert [each[0][3] for each in shown] == list(ran.result.points.names)
    for (_, *rows), row in zip(shown, metrics.rows[2:], strict=True):
        found = {cells[0]: cells[3] for cells in rows}
        assert found == {n: percent(share) for n, share in zip(metrics.class_names, row.class_accuracy, strict=True)}
    _, card = (ran.folder / "README.md").read_text().split("\nAccuracy by class, with the number of test samples:\n")
    assert card.count("\n| ") == 2 + len(table.rows)


def test_of_many_classes_those_that_lose_most_are_shown(ran):
    names, before, after = [f"c|{i}" for i in range(30)], [0.9] * 30, [0.9 - i / 100 for i in range(30)]
    first, point = ran.result.metrics.rows[0], ran.result.metrics.rows[-1]
    before[3], after[3] = None, None
    rows = [first.model_copy(update={"class_accuracy": before}), point.model_copy(update={"class_accuracy": after})]
    update = {"rows": rows, "class_names": names, "class_samples": [0 if i == 3 else 7 for i in range(30)]}
    metrics = ran.result.metrics.model_copy(update=update)
    table = class_table(metrics)
    assert table.header[1:] == [f"c|{i} (7)" for i in range(20, 30)]
    assert table.title.endswith("those of 29 classes that lose most")
    manifest = DynamicExitModelConfig.from_pretrained(ran.folder).manifest
    assert "c\\|20 (7)" in model_card("net", manifest, ran.result.points, metrics)


def test_the_report_asks_nothing_of_the_network_and_names_no_place(ran):
    for name in ("report.html", "README.md", "config.json", "metrics.json", "operating_points.json"):
        text = (ran.folder / name).read_text()
        assert str(ran.folder.parent) not in text, name
        assert "http://" not in text and "https://" not in text, name


def test_names_are_escaped():
    points = OperatingPoints(cost_unit="macs", baseline=Baseline(accuracy=1, cost=1), points=())
    metrics = {**METRICS, "rows": [{**METRICS["rows"][0], "name": "<b>&"}]}
    page = Tables(report_page("<script>alert(1)</script>", points, Metrics.model_validate(metrics)))
    assert page.title == "<script>alert(1)</script>, dynamic"
    assert page.tables[0][1][0] == "<b>&"


def changed(ran, points=None, **updates):
    """The page of the run with other metrics, and perhaps without points."""
    points = ran.result.points if points is None else ran.result.points.model_copy(update={"points": points})
    metrics = ran.result.metrics
    if not points.points:
        updates = {"rows": metrics.rows[:1], "answers": [], "examples": [], **updates}
    return report_page("net", points, metrics.model_copy(update=updates))


def test_a_run_in_which_nothing_pays_has_a_page(ran):
    alone = OperatingPoint(
        name="strict", accuracy=1, accuracy_drop=0, cost=1, cost_ratio=1, exit_rates={"final": 1.0}, samples=150
    )
    rates = {**dict.fromkeys(ran.result.metrics.rows[0].exit_rates, 0.0), "final": 1.0}
    row = ran.result.metrics.rows[-1].model_copy(update={"name": "strict", "cost_ratio": 1.0, "exit_rates": rates})
    rows = [*ran.result.metrics.rows[:1], row]
    page = changed(ran, (alone,), rows=rows, answers=[], front=[], candidates=[], notes=[], examples=[], stages=[])
    assert "Nothing saves anything at strict: every input runs through the whole backbone" in page
    Tables(page)
    assert "There are no operating points" in changed(ran, ())


@pytest.mark.parametrize("classes", [0, 1, 40])
def test_of_any_number_of_classes_there_is_a_page(ran, classes):
    """Of many, twelve are shown at once, and all in a fold."""
    rows = [row.model_copy(update={"class_accuracy": [0.5] * classes}) for row in ran.result.metrics.rows]
    names = [f"<i>{index}</i>" for index in range(classes)]
    page = changed(ran, rows=rows, class_names=names, class_samples=[3] * classes, answers=[], examples=[])
    tables = [each for each in Tables(page).tables if each[0][0] == "class"]
    points = len(ran.result.points.names)
    assert [len(each) - 1 for each in tables] == [min(classes, 12)] * points * (classes > 0) + [40] * (classes == 40)
    assert "<i>" not in page.replace('<i style="', "")


def test_samples_are_shown_as_they_are_answered(ran):
    example = ran.result.metrics.examples[0].model_copy(update={"kind": "lost", "label": 0, "answer": 1, "sample": 9})
    metrics = ran.result.metrics.model_copy(update={"examples": [example]})
    shown = {9: {"text": "<script>alert(1)</script> 犬"}}
    page = report_page("net", ran.result.points, metrics, shown=shown)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 犬" in page and "Lost by leaving early" in page
    assert "Left early" not in page
    curves = report_page("net", ran.result.points, metrics, shown={9: {"curves": [[0.0, 1.0]]}})
    assert '<polyline points="0.0,64.0 200.0,4.0"/>' in curves
    assert "Some samples" not in report_page("net", ran.result.points, metrics)


def test_the_verdict_says_what_may_be_lost(ran):
    point, metrics = ran.result.points.points[0], ran.result.metrics
    row = metrics.rows[-1].model_copy(
        update={
            "name": point.name,
            "accuracy": 0.9,
            "accuracy_drop": 0.01,
            "accuracy_drop_standard_error": 0.002,
            "cost_ratio": 0.25,
            "exit_rates": {"saver2": 0.5, "final": 0.5},
            "speed_up": {"1": 2.0, "64": 3.0},
            "goal": None,
        }
    )
    metrics = metrics.model_copy(update={"rows": [metrics.rows[0].model_copy(update={"accuracy": 0.91}), row]})
    expected = (
        "50% of inputs leave early, at 25% of the backbone's cost and 3.0× its speed at batch 64; 90% of answers are "
        "right, 1.0 ± 0.2 points below the backbone's 91.0%; "
    )
    plain = point.model_copy(update={"guarantee": None})
    assert verdict(plain, metrics).replace("90.0%", "90%") == (
        f"{expected}nothing is guaranteed: within two standard errors it may lose 1.4 points."
    )
    surer = row.model_copy(update={"accuracy_drop_standard_error": 0.0001})
    nearly = metrics.model_copy(update={"rows": [metrics.rows[0], surer]})
    assert verdict(plain, nearly).endswith("may lose 1 point."), "one as it is shown, 1.02 in full"
    kept = Guarantee(max_accuracy_drop=0.01, probability=0.95, samples=80)
    promised = point.model_copy(update={"guarantee": kept})
    assert verdict(promised, metrics).endswith("; with probability 0.95 it loses at most 1 point.")
    differ = metrics.model_copy(update={"samples_differ": True})
    assert "nothing is guaranteed" in verdict(promised, differ)
    assert [each.value for each in key_figures(point, ran.result.points, metrics)] == ["4×", "3.0×", "90.0%"]


def test_the_flow_keeps_every_sample(ran):
    for row in ran.result.metrics.rows[2:]:
        rows = flow_rows(row, ran.result.metrics)
        assert sum(each.left for each in rows) == pytest.approx(1) and rows[0].reached == 1
        for before, after in zip(rows, rows[1:], strict=False):
            assert after.reached == pytest.approx(before.reached - before.left, abs=1e-8)
