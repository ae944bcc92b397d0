"""Groups of samples by a column or array, from every source that has one."""

import csv
import json

import numpy as np
import pytest
import sentences
import tiny

from dynamic_exit.data import load_splits
from dynamic_exit.errors import DataError
from dynamic_exit.pipeline.run import run
from dynamic_exit.recipe import read_recipe
from dynamic_exit.recipe.data import DATA_SOURCES
from dynamic_exit.records import Records

SITES = np.asarray(["Zürich", "Basel", "Bern"])
SPLITS = {"train": "train", "calibration": "calibration", "test": "test"}


def drawn(seed: int, count: int = 12):
    """Inputs (N, 4), labels and sites of a split; all differ."""
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(count, 4)).astype(np.float32),
        random.integers(2, size=count),
        random.integers(3, size=count),
    )


def load(source, path, notes=None, **keys):
    stanza = DATA_SOURCES.find(source).stanza
    values = {"source": source, "path": str(path), "splits": SPLITS, "groups": "site", **keys}
    return load_splits(stanza.model_validate(values), seed=0, note=(notes if notes is not None else []).append)


def write_npz(path, as_names=True, name="site"):
    arrays = {}
    for seed, split in enumerate(SPLITS):
        inputs, labels, sites = drawn(seed)
        arrays |= {
            f"x_{split}": inputs,
            f"y_{split}": labels,
            f"{name}_{split}": SITES[sites] if as_names else sites + 7,
        }
    np.savez(path, **arrays)
    return path


def expected(seed):
    # in the order of the names: Basel, Bern, Zürich
    return np.asarray([2, 0, 1])[drawn(seed)[2]]


def test_an_array_of_a_file_is_groups_and_no_input(tmp_path):
    notes: list[str] = []
    splits = load("npz", write_npz(tmp_path / "all.npz"), notes)
    for seed, split in enumerate(splits.values()):
        assert [*split.inputs] == [""] and np.array_equal(split.inputs[""], drawn(seed)[0])
        assert split.groups.dtype == np.int64 and np.array_equal(split.groups, expected(seed))
    assert notes == ["3 groups of samples by 'site': 0 is 'Basel', 1 is 'Bern', 2 is 'Zürich'"]


def test_numbers_are_counted_from_0_in_all_splits_alike(tmp_path):
    splits = load("npz", write_npz(tmp_path / "all.npz", as_names=False))
    for seed, split in enumerate(splits.values()):
        assert np.array_equal(split.groups, drawn(seed)[2])


def test_slices_and_dropped_copies_keep_samples_and_groups_together(tmp_path):
    inputs, labels, sites = drawn(0, 40)
    inputs[:3] = inputs[20:23]
    np.savez(tmp_path / "all.npz", x_all=inputs, y_all=labels, site_all=sites)
    splits = {"train": "all[:40%]", "calibration": "all[40%:70%]", "test": "all[70%:]"}
    found = load("npz", tmp_path / "all.npz", splits=splits, duplicates="drop")
    for split in found.values():
        rows = [int(np.flatnonzero((inputs == row).all(1))[-1]) for row in split.inputs[""]]
        same = np.isin(rows, (20, 21, 22))  # of two copies either site may stand
        assert np.array_equal(split.groups[~same], sites[rows][~same])


@pytest.mark.parametrize("ending", ["table", "dict", "rows"])
def test_functions_give_groups_in_tables_dicts_and_rows(tmp_path, ending):
    form = {
        "dict": "{'x': inputs, 'labels': labels, 'site': sites}",
        "table": "pandas.DataFrame({'a': inputs[:, 0], 'b': inputs[:, 1], 'labels': labels, 'site': sites})",
        "rows": "[{'x': x, 'labels': y, 'site': s} for x, y, s in zip(inputs, labels, sites)]",
    }[ending]
    (tmp_path / "own.py").write_text(f"""
import numpy as np, pandas

def load(split):
    random = np.random.default_rng(["train", "calibration", "test"].index(split))
    inputs, labels = random.normal(size=(12, 4)).astype(np.float32), random.integers(2, size=12)
    sites = np.asarray(["Zürich", "Basel", "Bern"])[random.integers(3, size=12)]
    return {form}
""")
    for seed, split in enumerate(load("python", f"{tmp_path}/own.py:load").values()):
        wanted = drawn(seed)[0]
        assert [*split.inputs] == [""] and np.array_equal(
            split.inputs[""], wanted[:, :2] if ending == "table" else wanted
        )
        assert np.array_equal(split.groups, expected(seed))


def test_columns_of_datasets_are_groups(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, of the extra dev")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow with parquet, of the extra dev")
    for seed, split in enumerate(SPLITS):
        inputs, labels, sites = drawn(seed)
        columns = {"signal": inputs.tolist(), "label": labels, "site": SITES[sites]}
        parquet.write_table(arrow.table(columns), tmp_path / f"{split}.parquet")
    for seed, split in enumerate(load("datasets", tmp_path).values()):
        assert [*split.inputs] == [""] and np.array_equal(split.groups, expected(seed))


@pytest.mark.parametrize("numbered", [False, True])
def test_columns_of_text_files_are_groups(tmp_path, numbered):
    sentences.build(tmp_path / "models")
    for seed, name in enumerate(SPLITS):
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            if not numbered:
                rows.writerow(["text", "label", "site"])
            for row, site in enumerate(drawn(seed)[2]):
                rows.writerow([f"{sentences.FILLERS[row]} {sentences.FILLERS[seed]}", row % 2, SITES[site]])
    columns = {"text": 0, "label": 1} if numbered else {}
    text = {"tokenizer": str(tmp_path / "models" / "backbone"), "max_length": 8, "columns": columns}
    splits = load("text", tmp_path, text=text, groups=2 if numbered else "site")
    for seed, split in enumerate(splits.values()):
        assert "site" not in split.inputs and "2" not in split.inputs
        assert np.array_equal(split.groups, expected(seed))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5] * 12, "has 0.5 in sample 0; groups are names or whole numbers"),
        (["a"] * 11 + [""], "has nothing in sample 11; groups are names or whole numbers"),
        (["a"] * 11, "must hold one group for each sample; got \\[11\\]"),
        (np.zeros((12, 2), np.int64), "must hold one group for each sample; got \\[12, 2\\]"),
    ],
    ids=["fractions", "empty", "short", "table"],
)
def test_values_that_are_no_groups_are_refused(tmp_path, values, message):
    arrays = dict(np.load(write_npz(tmp_path / "all.npz")))
    np.savez(tmp_path / "all.npz", **{**arrays, "site_test": np.asarray(values)})
    with pytest.raises(DataError, match=f"'site' of split 'test' {message}"):
        load("npz", tmp_path / "all.npz")


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="split 'train' has no column or array 'site' of groups; name another in"):
        load("npz", write_npz(tmp_path / "all.npz", name="place"))


def test_folders_of_images_have_no_columns(tmp_path):
    with pytest.raises(DataError, match="samples of `source: imagefolder` have no columns; give them by a function"):
        load("imagefolder", tmp_path)


def test_a_run_keeps_groups_in_its_records_and_limits_them(tmp_path):
    path = tiny.build(
        tmp_path,
        data__groups="site",
        data__splits__unlabelled="unlabelled",
        quantization=None,
        dynamic_exit__early_exit=None,
        dynamic_exit__tuning={"max_accuracy_drop": 0.1, "max_class_drop": 0.1},
    )
    for split in SPLITS:
        inputs, labels = tiny.samples(split)
        site = np.where(np.arange(len(labels)) % 3, "day", "night")
        np.savez(tmp_path / "data" / f"{split}.npz", inputs=inputs, labels=labels, site=site)
    inputs, labels = tiny.draw(90, 7)
    np.savez(tmp_path / "data" / "unlabelled.npz", inputs=inputs, labels=labels, site=np.full(90, "day"))
    run(read_recipe(path))
    records = Records.read(tmp_path / "out" / "records.npz")
    assert np.array_equal(records.groups, (np.arange(len(records)) % 3 == 0).astype(np.int64))
    said = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "groups of samples by &#39;site&#39;: 0 is &#39;day&#39;, 1 is &#39;night&#39;" in said
    assert "the 90 samples without labels take no part in the search: what classes or groups lose is counted" in said
    goal = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"][-1]["goal"]
    lost = f"{goal['limited']}: {100 * goal['limited_drop']:.1f} ± {100 * goal['limited_drop_standard_error']:.1f} %"
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert all("lost most" in page and lost in page for page in (said, card))
    assert (
        goal["limited"].startswith("group ") and goal["limited_drop"] <= 0.1 + 2 * goal["limited_drop_standard_error"]
    )
