"""A Hugging Face text classifier, compressed into segments while it is loaded, in transformers' own pipeline."""

import documents
import numpy as np
import sentences  # noqa: E402  (the world of words lies beside the other tests)
import tiny  # noqa: E402
from transformers import pipeline

from dynamic_exit import DynamicExitModelForSequenceClassification


def test_text_goes_in_and_the_measured_accuracy_comes_out(tmp_path):
    sentences.build(tmp_path)
    stanzas = sentences.recipe(export__layout="segments")
    del stanzas["model"], stanzas["export"]["directory"]
    recipe = tiny.write(tmp_path, stanzas, "without_model.yaml")
    model = DynamicExitModelForSequenceClassification.from_pretrained(tmp_path / "backbone", export=True, recipe=recipe)
    model.save_pretrained(tmp_path / "kept")
    model = DynamicExitModelForSequenceClassification.from_pretrained(tmp_path / "kept")
    texts, labels = zip(*sentences.lines("dev"), strict=True)
    exits = set()
    for point in (*model.operating_points.points, model.operating_points.backbone):
        model.set_operating_point(point.name)
        classify = pipeline("text-classification", model=model, tokenizer=str(tmp_path / "kept"), device="cpu")
        found = classify(list(texts), batch_size=16)
        # half of these texts are the test split that the point was measured on, the other half it was tuned on
        assert np.mean([each["label"] for each in found] == np.array(labels)) >= point.accuracy - 0.05
        exits.update(model(**sentences.tokenizer()(list(texts), padding=True, return_tensors="np")).exit_index)
    assert exits == set(range(len(model.stages) + 1)), "every stage answers some text at some point"
    (served,) = (block.code for block in documents.blocks("docs/how-to/text.md") if block.language == "python")
    exec(served.replace("build/text", str(tmp_path / "kept")), {})  # noqa: S102  the page's own code
