"""Pictures in folders, answered through the folder's own processor (texts: integration_tests/test_text_served.py)."""

import shutil

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from dynamic_exit import load_runner
from dynamic_exit.artifact.image_processor import write_image_processor
from dynamic_exit.errors import DataError
from dynamic_exit.images import ImageFormat
from dynamic_exit.prediction import PredictionOptions, predict


@pytest.fixture(scope="module")
def folder(ran, tmp_path_factory):
    """A folder with an image processor: pixels from 0 to 255."""
    folder = tmp_path_factory.mktemp("pictures") / "tiny"
    shutil.copytree(ran.folder, folder)
    assert write_image_processor(folder, np.full((1, 1, 6, 6), 255, np.float32), None, ImageFormat(1))
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Nested pictures by their keys, with what is none among them."""
    generator, pixels = np.random.default_rng(5), {}
    for key in ("a.png", "b/c.png", "b/d/e.png", "b.png", "z z/ü.png"):
        pixels[key] = generator.integers(0, 256, (6, 6), np.uint8)
        path = tmp_path / "data" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[key]).save(path)
    data = tmp_path / "data"
    (data / "labels.csv").write_text("a,b\n")
    for hidden in (".thumbs", "@eaDir"):
        (data / hidden).mkdir()
        shutil.copy(data / "a.png", data / hidden)
    shutil.copy(data / "a.png", data / ".a.png")
    (data / "b" / "up").symlink_to(data)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(data / "b.png", tmp_path / "elsewhere" / "f.png")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    pixels["linked/f.png"] = pixels["b.png"]
    return data, pixels


def test_nested_pictures_are_answered_as_their_pixels_are(folder, pictures, tmp_path, command):
    data, pixels = pictures
    code, _, err = command("predict", folder, data, "--output", tmp_path / "out.parquet")
    assert code == 0, err
    assert f"note: left out is '{data}/labels.csv', which is no picture" in err
    found = parquet.ParquetFile(tmp_path / "out.parquet").read().to_pydict()
    assert found["key"] == ["a.png", "b/c.png", "b/d/e.png", "b.png", "linked/f.png", "z z/ü.png"]
    runner = load_runner(folder)
    logits, exit_index, confidence = runner(np.stack([pixels[key][None] for key in found["key"]]).astype(np.float32))
    assert found["label_index"] == logits.argmax(axis=1).tolist()
    assert found["stage"] == [(*runner.stages, "final")[index] for index in exit_index]
    np.testing.assert_allclose(found["confidence"], confidence, rtol=1e-5)


def test_a_broken_picture_is_named_and_may_be_left_without_an_answer(folder, pictures, tmp_path):
    data, pixels = pictures
    (data / "b" / "c.png").write_bytes((data / "b" / "c.png").read_bytes()[:-30])
    (data / "gone.png").symlink_to("nowhere.png")
    options = PredictionOptions(batch_size=2, shard_rows=4)
    with pytest.raises(DataError, match=r"^image '.*/b/c.png' cannot be read: .*; --max-bad allows bad rows$"):
        predict(folder, data, tmp_path / "out.parquet", options)
    summary = predict(folder, data, tmp_path / "out.parquet", PredictionOptions(batch_size=2, max_bad=2))
    assert (summary.rows, summary.bad) == (7, 2)
    found = parquet.ParquetFile(tmp_path / "out.parquet").read().to_pydict()
    faults = {key: error for key, error in zip(found["key"], found["error"], strict=True) if error}
    assert {*faults} == {"b/c.png", "gone.png"} and all("cannot be read" in error for error in faults.values())
    expected = load_runner(folder)(np.stack([pixels[key][None] for key in pixels]).astype(np.float32)).logits.argmax(1)
    answers = dict(zip(found["key"], found["label_index"], strict=True))
    assert {key: answers[key] for key in pixels if key not in faults} == {
        key: index for key, index in zip(pixels, expected.tolist(), strict=True) if key not in faults
    }


def test_a_folder_without_pictures_is_refused(folder, tmp_path):
    (tmp_path / "data" / "empty").mkdir(parents=True)
    (tmp_path / "data" / "a.txt").write_text("none")
    with pytest.raises(DataError, match=r"^folder '.*/data' holds no pictures; check the path$"):
        predict(folder, tmp_path / "data", tmp_path / "out.parquet")
