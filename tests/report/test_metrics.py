"""`metrics.json`: typed, versioned, read as it was written, and described by a schema."""

import json

import pytest

from dynamic_exit.errors import ExportError
from dynamic_exit.pipeline import Metrics, metrics_schema


def test_what_a_run_wrote_is_read_as_it_was(ran, tmp_path):
    text = (ran.folder / "metrics.json").read_text()
    Metrics.read(ran.folder / "metrics.json").write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == text
    assert list(json.loads(text))[:2] == ["_type", "_version"]


def test_what_has_no_drop_is_written_without_one(ran):
    backbone, *_, point = json.loads((ran.folder / "metrics.json").read_text())["rows"]
    assert "accuracy_drop" not in backbone and "contradicted" not in backbone
    assert {"accuracy_drop", "accuracy_drop_standard_error", "allowed_drop", "contradicted"} <= point.keys()


def test_an_older_file_is_read_without_what_it_lacks(ran, tmp_path):
    content = json.loads((ran.folder / "metrics.json").read_text())
    rows = [{key: value for key, value in row.items() if "error" not in key} for row in content["rows"]]
    older = {key: content[key] for key in ("samples", "timing")} | {"rows": rows}
    (tmp_path / "metrics.json").write_text(json.dumps(older))
    metrics = Metrics.read(tmp_path / "metrics.json")
    assert metrics.rows[0].accuracy_standard_error is None and metrics.static_search is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds no metrics; export the folder anew"),
        ("{", "holds no metrics; export the folder anew"),
        ('{"rows": 3}', "holds no metrics; export the folder anew"),
        ('{"_version": 7}', "is of version 7, this program reads version 1; use a newer dynamic_exit"),
    ],
)
def test_what_holds_no_metrics_is_refused(text, message, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ExportError, match=message):
        Metrics.read(tmp_path / "metrics.json")


def test_the_schema_names_every_key_that_a_run_writes(ran, ran_float):
    schema = metrics_schema()
    for each in (ran, ran_float):
        content = json.loads((each.folder / "metrics.json").read_text())
        assert content.keys() <= schema["properties"].keys()
        assert set(schema["required"]) <= content.keys()
        for row in content["rows"]:
            assert row.keys() <= schema["$defs"]["PointFigures"]["properties"].keys()
