"""`report` makes the page again; `compare` sets runs side by side and says what keeps them from being comparable."""

import json
import shutil

import pytest

from dynamic_exit.report.compare import ComparedRun, comparison_notes, comparison_page, comparison_table


@pytest.fixture
def copy(ran, tmp_path):
    """Copy the folder of a run and change its metrics."""

    def make(name, **changes):
        folder = tmp_path / name
        shutil.copytree(ran.folder, folder)
        content = json.loads((folder / "metrics.json").read_text()) | changes
        (folder / "metrics.json").write_text(
            json.dumps({key: each for key, each in content.items() if each is not None})
        )
        return folder

    return make


def test_the_page_is_made_again_as_it_was(copy, command):
    folder = copy("again")
    page = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    code, out, _ = command("report", folder)
    assert code == 0 and out.endswith("again/report.html\n")
    assert (folder / "report.html").read_text() == page


def test_a_folder_without_recipe_examples_and_newer_figures_has_a_page(copy, command):
    newer = dict.fromkeys(["front", "answers", "reliability", "examples", "environment", "test", "data_notes"])
    folder = copy("older", **newer)
    for name in ("recipe.yaml", "examples.json"):
        (folder / name).unlink()
    assert command("report", folder)[0] == 0
    page = (folder / "report.html").read_text()
    assert "<h1>older, dynamic</h1>" in page and "Where samples leave" in page and "Some samples" not in page


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (None, "does not exist; give a folder that `dynamic-exit run` wrote"),
        ([], "has no operating_points.json; give a folder that `dynamic-exit run` wrote"),
        (["operating_points.json"], "has no metrics.json; give a folder that `dynamic-exit run` wrote"),
    ],
)
@pytest.mark.parametrize("name", ["report", "compare"])
def test_what_is_no_run_is_refused(name, kept, message, ran, tmp_path, command):
    folder = tmp_path / "none"
    if kept is not None:
        folder.mkdir()
        for each in kept:
            shutil.copy(ran.folder / each, folder)
    others = [ran.folder] if name == "compare" else []
    code, out, err = command(name, *others, folder)
    assert (code, out) == (2, "") and err.endswith(f"none' {message}\n")


def test_compare_takes_two_folders_each_once(ran, command):
    assert command("compare", ran.folder)[2] == "dynamic-exit: compare takes two folders or more; got one\n"
    said = command("compare", ran.folder, f"{ran.folder}/../out")[2]
    assert said.startswith("dynamic-exit: compare takes each folder once; '") and said.endswith("' comes twice\n")


def test_runs_stand_side_by_side(copy, command, tmp_path):
    one, two = copy("one"), copy("two")
    code, out, err = command("compare", one, two, "--output", tmp_path / "both.html")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()].count("one") == 5
    page = (tmp_path / "both.html").read_text()
    assert "2 runs compared" in page and "measured on the same test samples" in page
    code, out, _ = command("compare", one, two, "--json")
    found = json.loads(out)
    assert found["notes"] == [] and {row["run"] for row in found["rows"]} == {"one", "two"}


def test_folders_of_one_name_are_told_apart(copy, command):
    code, out, _ = command("compare", copy("a/out"), copy("b/out"), "--json")
    assert code == 0 and {row["run"] for row in json.loads(out)["rows"]} == {"a/out", "b/out"}


def test_a_page_that_cannot_be_written_is_refused(copy, command, tmp_path):
    code, out, err = command("compare", copy("one"), copy("two"), "--output", tmp_path / "none" / "page.html")
    assert (code, out) == (2, "") and "cannot write" in err


CHANGES = [
    ({"test": {"labels": "x", "inputs": "y"}}, "'a' and 'b' were measured on different data (other labels or classes)"),
    ({"samples": {"test": 7}}, "'a' and 'b' were measured on different data (150 and 7 test samples)"),
    ({"class_names": ["x", "y", "z"]}, "'a' and 'b' were measured on different data (other labels or classes)"),
    ({"test": None}, "whether 'a' and 'b' have the same test samples is unknown"),
    ({"baseline_cost": 3e6}, "costs are over each run's own backbone, and the backbones differ in multiply-adds: 'a' "),
    (
        {"timing": {"runtime": "other 1", "threads": 1, "measure": "m"}},
        "times were taken with different processors and",
    ),
]


@pytest.mark.parametrize(("changes", "said"), CHANGES, ids=range(len(CHANGES)))
def test_what_cannot_be_compared_is_said(changes, said, ran):
    points, metrics = ran.result.points, ran.result.metrics
    other = type(metrics).model_validate(metrics.to_dict() | changes)
    notes = comparison_notes([ComparedRun("a", points, metrics), ComparedRun("b", points, other)])
    assert len(notes) == 1 and notes[0].startswith(said)


def test_runs_of_other_costs_inputs_and_names_are_compared_all_the_same(ran):
    points, metrics = ran.result.points, ran.result.metrics
    inputs = metrics.model_copy(update={"test": metrics.test.model_copy(update={"inputs": "other"})})
    seconds = points.model_copy(update={"cost_unit": "seconds"})
    runs = [ComparedRun("<b>", points, metrics), ComparedRun("$x^{$", seconds, inputs)]
    assert [note.partition(":")[0] for note in comparison_notes(runs)] == [
        "'<b>' and '$x^{$' have the same labels, but other inputs",
        "some runs count multiply-adds and some measure seconds",
    ]
    page = comparison_page(runs)
    assert "<b>" not in page and "&lt;b&gt;" in page
    table = comparison_table(runs)
    assert {row[0] for row in table.rows} == {"<b>", "$x^{$"} and sorted(table.importance) == list(
        range(len(table.header))
    )
