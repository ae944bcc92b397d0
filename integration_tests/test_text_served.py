"""A Hugging Face text classifier, compressed into segments while it is loaded, in transformers' own pipeline."""

import documents
import numpy as np
import pytest
import sentences  # noqa: E402  (the world of words lies beside the other tests)
import tiny  # noqa: E402
from http_server import running
from pyarrow import parquet
from transformers import pipeline

from dynamic_exit import DynamicExitModelForSequenceClassification, load_runner
from dynamic_exit.errors import DataError
from dynamic_exit.prediction import PredictionOptions, predict
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
    check_predictions(tmp_path, tmp_path / "kept", texts)


def check_predictions(path, folder, texts):
    """Texts in files are answered as those in memory; files that cannot be used are refused with nothing written."""
    output, alone = path / "out.parquet", load_runner(folder)
    summary = predict(folder, path / "texts" / "dev.jsonl", output, PredictionOptions(shard_rows=100, batch_size=100))
    found = parquet.ParquetFile(output).read().to_pydict()
    labels, stages = [], []
    for start in range(0, len(texts), 100):
        encoded = sentences.tokenizer()(list(texts[start : start + 100]), padding=True, return_tensors="np")
        answers = alone(**{name: encoded[name] for name in alone.input_names})
        labels += answers.logits.argmax(1).tolist()
        stages += [(*alone.stages, "final")[index] for index in answers.exit_index]
    assert (summary.rows, found["key"]) == (len(texts), list(range(len(texts))))
    assert (found["label_index"], found["stage"]) == (labels, stages)
    (path / "plain.csv").write_text("\n".join(texts[:7]) + "\n")
    options = PredictionOptions(columns=(0,), overwrite=True)
    assert predict(folder, path / "plain.csv", output, options).rows == 7
    assert parquet.ParquetFile(output).read()["label_index"].to_pylist() == labels[:7]
    (path / "long.jsonl").write_text(f'{{"sentence": "{"nice " * 500}"}}\n')
    assert predict(folder, path / "long.jsonl", output, PredictionOptions(overwrite=True)).rows == 1, "it is cut"
    (path / "workbook.csv").write_bytes(b"PK\x03\x04rest")
    (path / "empty.csv").write_text("sentence\n")
    (path / "null.jsonl").write_text('{"sentence": "nice"}\n{"sentence": null}\n')
    tokens = {name: np.full((2, 5), 1 + 998 * (name == "input_ids")) for name in alone.input_names}
    np.savez(path / "tokens.npz", **tokens)
    for name, columns, said in (
        ("tokens.npz", None, "^the model cannot take the values of rows 0 to 1: "),
        ("workbook.csv", None, "it is a ZIP archive, as Excel workbooks are; save it as CSV in UTF-8$"),
        ("empty.csv", None, "^the data hold no rows; there is nothing to answer$"),
        ("null.jsonl", None, "has null as 'sentence' in line 2, which is no text; leave the line out$"),
        ("null.jsonl", ("review",), r"has no column 'review' in line 1 \(there: sentence\); set --column$"),
    ):
        with pytest.raises(DataError, match=said):
            predict(folder, path / name, path / "none", PredictionOptions(columns=columns))
        assert not (path / "none").exists()
