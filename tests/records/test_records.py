import numpy as np
import pytest

from dynamic_exit.errors import RecordsError
from dynamic_exit.records import Records, StageTable
from dynamic_exit.records.splits import FOLDS, folds

SAMPLES = 6


def arrays(**changes) -> dict:
    made = {
        "labels": np.arange(SAMPLES, dtype=np.int64) % 3,
        "stages": np.array(["small", "early", "final"]),
        "kinds": np.array(["saver", "exit", "final"]),
        "positions": np.array([-1, 0, 1], dtype=np.int64),
        "topk_classes": np.tile(np.array([2, 0], dtype=np.int32), (3, SAMPLES, 1)),
        "topk_probabilities": np.tile(np.array([0.7, 0.2], dtype=np.float32), (3, SAMPLES, 1)),
        "own_cost": np.array([10.0, 1.0, 0.0]),
        "prefix_cost": np.array([0.0, 40.0, 100.0]),
        "cost_unit": np.array("macs"),
    }
    return made | changes


def stored(tmp_path, **changes) -> Records:
    path = tmp_path / "records.npz"
    np.savez(path, **{name: array for name, array in arrays(**changes).items() if array is not None})
    return Records.read(path)


def changed(name: str, place, value) -> dict:
    array = arrays()[name].copy()
    array[place] = value
    return {name: array}


def same(a: Records, b: Records) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays())


def test_what_is_written_is_read(tmp_path):
    records = stored(tmp_path)
    records.write(tmp_path / "again.npz")
    for mmap in (True, False):
        again = Records.read(tmp_path / "again.npz", mmap=mmap)
        assert same(records, again)
        assert isinstance(again.topk_probabilities, np.memmap) == mmap
    assert again.stages == ("small", "early", "final") and again.cost_unit == "macs"
    again.write(tmp_path / "third.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "third.npz").read_bytes()


def test_a_compressed_file_is_read_too(tmp_path):
    np.savez_compressed(tmp_path / "records.npz", **arrays())
    assert same(Records.read(tmp_path / "records.npz"), stored(tmp_path))


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    records = stored(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    with pytest.raises(RecordsError, match="cannot write the records to"):
        records.write(tmp_path / "folder")
    with pytest.raises(RecordsError, match="cannot write the records to"):
        records.write(tmp_path / "nowhere" / "records.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "records.npz"]


MALFORMED = [
    *(({name: None}, f"lacks the array '{name}'; a records file holds labels, stages, kinds,") for name in arrays()),
    ({"labels": np.zeros(SAMPLES)}, "'labels' must be an array of int64; got float64"),
    ({"labels": np.zeros((SAMPLES, 1), dtype=np.int64)}, "'labels' must be of 1 dimension; got shape (6, 1)"),
    (
        {"labels": np.zeros(5, dtype=np.int64)},
        "'topk_classes' must be of shape (stages, samples, kept classes) = (3, 5,",
    ),
    ({"labels": np.full(SAMPLES, -2)}, "'labels' must be classes from 0, or -1 where unknown; got -2"),
    ({"stages": np.array(["a", "a", "final"])}, "the stage name 'a' comes twice; names must be unique"),
    ({"stages": np.array(["", "a", "final"])}, "a stage has an empty name; give every stage one"),
    ({"stages": np.array([1, 2, 3])}, "'stages' must be a list of strings; got int64 of shape (3,)"),
    ({"stages": np.array("final")}, "'stages' must be a list of strings; got <U5 of shape ()"),
    ({"stages": np.array(["a", None], dtype=object)}, "is not a records file"),
    ({"kinds": np.array(["saver", "final"])}, "'kinds' must name one kind per stage; got 2 for 3 stages"),
    ({"kinds": np.array(["savr", "exit", "final"])}, "stage 'small' is of kind 'savr'; did you mean 'saver'?"),
    ({"kinds": np.array(["saver", "exit", "exit"])}, "exactly one stage must be of kind 'final', and be the last; got"),
    ({"kinds": np.array(["saver", "final", "final"])}, "exactly one stage must be of kind 'final', and be the last;"),
    (
        {"kinds": np.array(["exit", "saver", "final"])},
        "stages must come in chain order, savers, exits, final; got kinds",
    ),
    ({"positions": np.array([-1, 0, 0])}, "the final's position must be above the last exit's, 0; got 0"),
    ({"positions": np.array([0, 0, 1])}, "'positions' must be -1 for the saver 'small'; got 0"),
    ({"positions": np.array([-1, -1, 1])}, "'positions' must be 0 or more for the exit 'early'; got -1"),
    ({"positions": np.array([-1, 0])}, "'positions' must be of shape (3,), one per stage; got shape (2,)"),
    ({"positions": np.array([-1.0, 0, 1])}, "'positions' must be an array of int64; got float64"),
    ({"topk_classes": np.zeros((3, SAMPLES, 2))}, "'topk_classes' must be an array of int32; got float64"),
    (
        {"topk_classes": np.zeros((3, SAMPLES), dtype=np.int32)},
        "'topk_classes' must be of 3 dimensions; got shape (3, 6)",
    ),
    (
        changed("topk_classes", (1, 2, 0), -1),
        "'topk_classes' of 'early', sample 2, must be classes from 0; got [-1, 0]",
    ),
    (
        changed("topk_classes", (1, 2, 0), 0),
        "'topk_classes' of 'early', sample 2, names a class twice: [0, 0]; keep each",
    ),
    (
        {"topk_probabilities": np.zeros((3, SAMPLES, 3), dtype=np.float32)},
        "'topk_probabilities' must be of shape (stages, samples, kept classes) = (3, 6, K >= 1); got (3, 6, 3)",
    ),
    (
        {"topk_probabilities": np.zeros((3, SAMPLES, 2))},
        "'topk_probabilities' must be an array of float32; got float64",
    ),
    (
        changed("topk_probabilities", (2, 3, 0), 1.5),
        "'topk_probabilities' of 'final', sample 3, must be within 0 and 1; got 1.5",
    ),
    (
        changed("topk_probabilities", (2, 3, 1), -0.5),
        "'topk_probabilities' of 'final', sample 3, must be within 0 and 1; got -0.5",
    ),
    (
        changed("topk_probabilities", (0, 0, 0), np.nan),
        "'topk_probabilities' of 'small', sample 0, must be within 0 and 1; got nan",
    ),
    (
        changed("topk_probabilities", (0, 4, 1), 0.875),
        "'topk_probabilities' of 'small', sample 4, must not rise, most probable first; got [",
    ),
    (changed("own_cost", 0, -1), "'own_cost' of 'small' must be a number of 0 or more; got -1.0"),
    (changed("own_cost", 1, np.nan), "'own_cost' of 'early' must be a number of 0 or more; got nan"),
    (changed("own_cost", 2, 5), "'own_cost' of the final must be 0, its cost is the backbone's prefix; got 5.0"),
    (changed("prefix_cost", 1, np.inf), "'prefix_cost' of 'early' must be a number of 0 or more; got inf"),
    (changed("prefix_cost", 0, 5), "'prefix_cost' of the saver 'small' must be 0, it needs no backbone; got 5.0"),
    (changed("prefix_cost", 2, 0), "'prefix_cost' of the final must be above 0, it is the whole backbone; got 0"),
    ({"own_cost": np.zeros(3, dtype=np.float32)}, "'own_cost' must be an array of float64; got float32"),
    ({"cost_unit": np.array("mac")}, "'cost_unit' is 'mac'; did you mean 'macs'?"),
    ({"cost_unit": np.array(["macs"])}, "'cost_unit' must be one string; got <U4 of shape (1,)"),
]


@pytest.mark.parametrize(("changes", "message"), MALFORMED, ids=[message[:40] for _, message in MALFORMED])
def test_malformed_arrays_are_named(tmp_path, changes, message):
    with pytest.raises(RecordsError) as error:
        stored(tmp_path, **changes)
    assert message in str(error.value)


def test_files_that_are_no_records(tmp_path):
    with pytest.raises(RecordsError, match="there is no records file '.*nowhere.npz'; check the path"):
        Records.read(tmp_path / "nowhere.npz")
    for content in (b"", b"PK\x03\x04 not a zip", b"{}"):
        (tmp_path / "other.npz").write_bytes(content)
        with pytest.raises(RecordsError, match="is not a records file"):
            Records.read(tmp_path / "other.npz")
    records = stored(tmp_path)
    whole = (tmp_path / "records.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordsError, match="is not a records file"):
        Records.read(tmp_path / "half.npz")
    assert len(records) == SAMPLES


def test_from_probabilities_keeps_the_most_probable_and_the_lowest_class_among_equals():
    probabilities = np.array([[0.25, 0.25, 0.5], [0.4, 0.2, 0.4], [0.2, 0.4, 0.4]])
    records = Records.from_probabilities(
        [2, 0, 1], StageTable.of(["final"], ["final"], [0], [0], [1]), [probabilities], k=2
    )
    assert records.topk_classes[0].tolist() == [[2, 0], [0, 2], [1, 2]]
    assert records.topk_probabilities.dtype == np.float32 and records.kept == 2
    assert (records.topk_probabilities[0, :, 0] == np.float32([0.5, 0.4, 0.4])).all()


def test_from_logits_is_a_softmax():
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 0.0]])
    records = Records.from_logits([1, 0], StageTable.of(["final"], ["final"], [0], [0], [1]), [logits])
    assert records.kept == 2
    assert np.allclose(records.topk_probabilities[0], [[0.75, 0.25], [1, 0]])
    with pytest.raises(RecordsError, match="every stage's probabilities must have one shape"):
        Records.from_logits(
            [1, 0], StageTable.of(["a", "f"], ["exit", "final"], [0, 1], [0, 0], [1, 1]), [logits, logits[:1]]
        )
    with pytest.raises(RecordsError, match="must be within 0 and 1; got nan"):
        Records.from_logits([1, 0], StageTable.of(["final"], ["final"], [0], [0], [1]), [logits * np.nan])


def test_taking_and_selecting(tmp_path):
    records = stored(tmp_path)
    some = records.take(np.array([4, 1]))
    assert some.labels.tolist() == [1, 1] and some.topk_classes.shape == (3, 2, 2)
    assert len(records.take(records.labels == 2)) == 2
    assert len(records.take(slice(1, 4))) == 3
    with pytest.raises(RecordsError, match="the selection of samples is empty; take at least one"):
        records.take(slice(0, 0))
    assert records.select(["early"]).stages == ("early", "final")
    assert records.select([]).stages == ("final",)
    with pytest.raises(RecordsError, match="the records hold no stage 'smal'; did you mean 'small'?"):
        records.select(["smal"])


def test_joining(tmp_path):
    records = stored(tmp_path)
    assert same(Records.join([records.take(slice(0, 2)), records.take(slice(2, 6))], along="samples"), records)
    assert same(Records.join([records.select(["early"]), records.select(["small"])], along="stages"), records)
    with pytest.raises(RecordsError, match="only records of the same stages"):
        Records.join([records, records.select(["early"])], along="samples")
    with pytest.raises(RecordsError, match="only records of the same samples"):
        Records.join([records, records.take(np.array([5, 4, 3, 2, 1, 0]))], along="stages")
    with pytest.raises(RecordsError, match="join at least one part along 'samples' or 'stages'"):
        Records.join([records], along="rows")


def test_unknown_labels(tmp_path):
    records = stored(tmp_path, labels=np.array([-1, 0, 1, 2, -1, 0]))
    assert not records.labelled
    assert records.truth.tolist() == [2, 0, 1, 2, 2, 0]


@pytest.mark.parametrize("samples, rounds", [(10, 3), (5_000, 3), (5_001, 2), (20_000, 2), (20_001, 1)])
def test_every_sample_is_held_out_once_a_round_of_folds(samples, rounds):
    found = [*folds(samples, seed=1)]
    assert len(found) == FOLDS * rounds
    assert all((searched != held_out).all() for searched, held_out in found)
    assert (np.sum([held_out for _, held_out in found], axis=0) == rounds).all()
