"""What samples look like: pictures, texts and curves, and the file that keeps them."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from dynamic_exit.errors import ExportError
from dynamic_exit.report.examples import EXAMPLES_FILE, read_examples, show_samples, write_examples
from dynamic_exit.report.figures import ExampleFigures


def example(sample):
    return ExampleFigures(
        kind="early", sample=sample, label=0, answer=0, backbone_answer=0, stage="small", confidence=0.5
    )


def picture(shown):
    kind, _, content = shown["picture"].partition(";base64,")
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_small_pictures_keep_their_pixels_and_normalised_ones_are_stretched():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4), dtype=np.uint8)
    kind, found = picture(show_samples({"x": pixels}, [example(1)])[1])
    assert kind == "data:image/png" and (found == pixels[1].transpose(1, 2, 0)).all()
    gray = np.linspace(-2.0, 3.0, 12).reshape(1, 1, 3, 4)
    _, found = picture(show_samples({"x": gray}, [example(0)])[0])
    assert found.shape == (3, 4) and found.min() == 0 and found.max() == 255
    _, flat = picture(show_samples({"x": np.full((1, 4, 4, 1), 7.0)}, [example(0)])[0])
    assert (flat == 0).all()


def test_large_pictures_shrink():
    kind, found = picture(show_samples({"x": np.zeros((1, 3, 224, 448), np.uint8)}, [example(0)])[0])
    assert kind == "data:image/jpeg" and found.shape == (80, 160, 3)


def test_texts_are_decoded_and_cut():
    tokens = {"input_ids": np.array([[1, 2], [3, 4]]), "attention_mask": np.ones((2, 2), np.int64)}
    shown = show_samples(tokens, [example(1)], lambda ids: f"<b>\n {ids.tolist()} " + "x" * 500)
    assert shown[1]["text"].startswith("<b> [3, 4] xxx") and len(shown[1]["text"]) == 280
    assert show_samples(tokens, [example(1)]) == {}


@pytest.mark.parametrize(("shape", "curves"), [((2, 400), 1), ((2, 2, 400), 2), ((2, 12, 400), 3)])
def test_curves_are_thinned_and_scaled(shape, curves):
    series = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    series[0, ..., 5] = np.nan
    shown = show_samples({"x": series}, [example(0)])[0]["curves"]
    assert len(shown) == curves and {len(each) for each in shown} == {160}
    assert 0 <= np.min(shown) and np.max(shown) <= 1


def test_the_file_is_read_as_it_was_written(tmp_path):
    shown = {3: {"text": "čaj"}, 1: {"curves": [[0.0, 1.0]]}}
    write_examples(tmp_path / EXAMPLES_FILE, shown)
    assert read_examples(tmp_path / EXAMPLES_FILE) == shown
    assert read_examples(tmp_path / "none.json") == {}
    for text in ("{", "[]", json.dumps({"_type": "dynamic_exit.examples", "_version": 2, "samples": {}})):
        (tmp_path / EXAMPLES_FILE).write_text(text)
        with pytest.raises(ExportError, match="holds no examples; remove it, or export the folder anew"):
            read_examples(tmp_path / EXAMPLES_FILE)


def test_a_run_keeps_what_its_examples_look_like(ran):
    examples = ran.result.metrics.examples
    assert {each.kind for each in examples} >= {"early", "late"}
    assert read_examples(ran.folder / EXAMPLES_FILE).keys() == {each.sample for each in examples}
