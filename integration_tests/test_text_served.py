"""A Hugging Face text classifier, compressed into segments while it is loaded, in transformers' own pipeline."""

import documents
import numpy as np
import sentences  # noqa: E402  (the world of words lies beside the other tests)
import tiny  # noqa: E402
from http_server import running
from transformers import pipeline

from dynamic_exit import DynamicExitModelForSequenceClassification, load_runner
from dynamic_exit.serving import ServedFolder


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
    with running(ServedFolder(tmp_path / "kept", "text")) as server:
        for body, kind in ((texts[0], "text/plain"), (list(texts[:5]), "application/json")):
            reply = server.client.call("POST", "/classify", body, {"Content-Type": kind})
            alone = load_runner(tmp_path / "kept")
            given = [body] if isinstance(body, str) else body
            encoded = sentences.tokenizer()(given, padding=True, return_tensors="np")
            answers = alone(**{name: encoded[name] for name in alone.input_names})
            found = [(each["index"], each["stage"]) for each in reply.json["predictions"]]
            stages = (*alone.stages, "final")
            expected = zip(answers.logits.argmax(1), answers.exit_index, strict=True)
            assert found == [(index, stages[place]) for index, place in expected]
        for body, kind, status in (
            ("[1]", "application/json", 400),
            ("[]", "application/json", 400),
            (b"x", "image/png", 415),
        ):
            assert server.client.call("POST", "/classify", body, {"Content-Type": kind}).status == status
