"""The model card: what the hub reads of it, what a page shows of it, and the code that users paste."""

import re

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from dynamic_exit.artifact.manifest import TEXT, Manifest
from dynamic_exit.card import dataset_name, model_card
from dynamic_exit.cost.processor import instruction_set
from dynamic_exit.modeling import DynamicExitModelConfig
from dynamic_exit.passes import ModelSource
from dynamic_exit.points.parts import Guarantee
from dynamic_exit.sources.models.base import find_origin
from dynamic_exit.sources.models.origin import Origin


@pytest.fixture(scope="module")
def manifest(ran):
    return DynamicExitModelConfig.from_pretrained(ran.folder).manifest


def read_page(text):
    """Return headings, paragraphs and tables, each a list of rows of cells, of a card without its metadata."""
    found = {"h": [], "p": [], "tables": []}
    kind = ""
    for token in MarkdownIt("commonmark").enable("table").parse(text.split("\n---\n", 1)[1]):
        if token.type == "table_open":
            found["tables"].append([])
        elif token.type == "tr_open":
            found["tables"][-1].append([])
        elif token.type in ("heading_open", "paragraph_open", "th_open", "td_open"):
            kind = {"h": "h", "p": "p"}.get(token.tag[0], "cell")
        elif token.type == "inline":
            (found["tables"][-1][-1] if kind == "cell" else found[kind]).append(token.content)
    return found


def code_of(text):
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return code


def test_the_hub_reads_figures_licence_and_base_model(ran, manifest):
    origin = Origin(license="other", license_name="mine", license_link="LICENSE", base_model="someone/net")
    text = model_card("net", manifest, ran.result.points, ran.result.metrics, origin, "pictures")
    data = ModelCard(text).data
    assert (data.license, data.license_name, data.base_model) == ("other", "mine", "someone/net")
    assert (data.library_name, data.pipeline_tag) == ("dynamic_exit", "image-classification")
    assert data.model_name == "net, dynamic"
    found = {each.metric_name: each for each in data.eval_results}
    for row in ran.result.metrics.rows:
        result = found[f"Accuracy, {row.name}"]
        assert (result.metric_type, result.metric_value) == ("accuracy", round(row.accuracy, 4))
        assert (result.task_type, result.dataset_name, result.dataset_split) == (manifest.task, "pictures", "test")
    points = {name for name in found if name.startswith("Cost, ")}
    assert points == {f"Cost, {name}" for name in ran.result.points.names}


def test_what_is_not_known_is_left_out(ran):
    text = (ran.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n", 2)[1])
    assert front.keys() == {"library_name", "pipeline_tag", "tags", "metrics", "model-index"}
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "data"
    assert str(ran.folder.parent) not in text


def test_a_page_shows_every_table_whole(ran, manifest):
    rows = [
        row.model_copy(
            update={"exit_rates": {f"a|b{place}": rate for place, rate in enumerate(row.exit_rates.values())}}
        )
        for row in ran.result.metrics.rows
    ]
    names = ["a | b", "<i>c</i>\nd", "back\\slash `e"]
    metrics = ran.result.metrics.model_copy(update={"class_names": names, "rows": rows})
    page = read_page(model_card("net", manifest, ran.result.points, metrics))
    figures, leaving, classes = page["tables"]
    assert all(len(row) == len(table[0]) for table in page["tables"] for row in table)
    assert [row[0] for row in figures[1:]] == [row.name for row in metrics.rows]
    assert figures[0][-1] == "speed-up", "where samples leave has a table of its own"
    assert leaving[0] == ["stage", *ran.result.points.names]
    assert [cell.split(" (")[0] for cell in classes[0][1:]] == ["a | b", "&lt;i>c&lt;/i> d", "back\\\\slash `e"]
    assert page["h"] == ["net, dynamic", "Use", "Operating points", "Where samples leave", "Guarantee", "Limits"]
    assert not any("|" in paragraph for paragraph in page["p"])


def test_shares_of_stages_are_those_measured(ran):
    _, leaving, _ = read_page((ran.folder / "README.md").read_text())["tables"]
    shares = np.array([[float(cell.rstrip("%")) for cell in row[1:]] for row in leaving[1:]])
    assert np.abs(shares.sum(axis=0) - 100).max() <= len(shares), "rounded"
    point = ran.result.metrics.rows[-1]
    assert {row[0]: row[-1] for row in leaving[1:]} == {
        row[0]: f"{point.exit_rates[row[0]]:.0%}" for row in leaving[1:]
    }


@pytest.mark.parametrize("name", ["ran", "ran_segments", "ran_torch"])
def test_the_code_runs_in_the_folder(request, monkeypatch, capsys, name):
    folder = request.getfixturevalue(name).folder
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code_of((folder / "README.md").read_text()), names)  # noqa: S102  what the card says
    assert tuple(names["answer"].logits.shape) == (2, 3)
    assert re.match(r"\['(left|middle|right)', '(left|middle|right)'\] ", capsys.readouterr().out)


def test_code_for_texts_calls_their_tokenizer_and_without_one_gives_indices(ran):
    inputs = [{"name": name, "dtype": "int64", "shape": ["length"]} for name in ("input_ids", "attention_mask")]
    bare = Manifest(task=TEXT, inputs=inputs, chain=None, stages=(), layout="segments", target="onnxruntime")
    text = model_card("words", bare, ran.result.points, ran.result.metrics)
    assert "\npipeline_tag: text-classification\n" in text
    assert "input_ids = torch.zeros(2, 8, dtype=torch.int64)" in code_of(text)
    assert "model(input_ids=input_ids, attention_mask=attention_mask)" in code_of(text)
    assert "half the distance of the quartiles; times are those of the same stages in one file.\n" in text
    tokenized = bare.model_copy(update={"tokenizer_files": ("tokenizer.json",)})
    code = code_of(model_card("words", tokenized, ran.result.points, ran.result.metrics))
    assert "AutoTokenizer.from_pretrained(folder)" in code and "model(**inputs)" in code
    compile(code, "card", "exec")


def test_guarantees_are_told_with_their_samples_and_their_absence_too(ran, manifest):
    points = ran.result.points
    assert "None of the operating points has a guarantee" in model_card("net", manifest, points, ran.result.metrics)
    held = Guarantee(max_accuracy_drop=0.005, max_class_drop=0.02, probability=0.95, samples=1200)
    first = points.points[0].model_copy(update={"guarantee": held})
    points = points.model_copy(update={"points": (first, *points.points[1:])})
    text = model_card("net", manifest, points, ran.result.metrics)
    assert (
        f"- `{first.name}`: accuracy drops by at most 0.5 points and the accuracy of every class drops by at most 2 "
        "points, with a probability of 0.95, tested on 1200 samples\n"
    ) in text
    assert "None of the operating points" not in text


def test_limits_name_data_runtime_and_processor(ran, manifest):
    metrics = ran.result.metrics
    assert metrics.timing.oldest_runtime == "1.18" and metrics.timing.instruction_set == instruction_set()

    def limits(numerics, **timing):
        changed = metrics.model_copy(update={"timing": metrics.timing.model_copy(update=timing), "notes": ["a note"]})
        text = model_card(
            "net", manifest.model_copy(update={"numerics": numerics}), ran.result.points, changed, None, "x"
        )
        return [line for line in text.split("## Limits\n")[1].splitlines() if line.startswith("- ")]

    known = {"machine": "x86_64", "instruction_set": "AVX2", "oldest_runtime": "1.18"}
    data, runtime, processor, bits, note = limits("int8", **known)
    assert data.startswith("- It was tuned on 160 samples of x (input 1 x 6 x 6) and has 3 classes: ")
    assert runtime == "- It needs onnxruntime 1.18 or newer."
    assert processor.startswith(
        "- The processor was x86_64 with AVX2: on another one times differ, and int8 may answer"
    )
    assert "keep to 7 bits" in bits and note == "- a note"
    assert "export.reduce_range: true" in limits("int8", **{**known, "instruction_set": "AVX-512 VNNI"})[3]
    assert len(limits("float", **known)) == 4 and "int8" not in str(limits("float", **known))
    assert len(limits("int8", machine="x86_64", instruction_set="", oldest_runtime="")) == 2


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/b/pictures", "pictures"), ("/a/data.py:load", "data.py"), ("owner/cats", "cats"), ("/a/x.npz", "x.npz")],
)
def test_data_are_called_by_their_name_without_their_place(path, name):
    assert dataset_name(path) == name


def origin_of(**stanza):
    return find_origin(ModelSource(**stanza))


def test_a_folder_passes_on_what_its_card_says(tmp_path):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=16)
    ViTForImageClassification(config).save_pretrained(tmp_path)
    assert origin_of(source="transformers", name=str(tmp_path)) == Origin()
    card = tmp_path / "README.md"
    card.write_text("---\nlicense: cc-by-4.0\nbase_model: google/vit\n---\n# ViT\n")
    assert origin_of(source="transformers", name=str(tmp_path)) == Origin(license="cc-by-4.0")
    for broken in ("---\n: [\n---\n", "---\n", "# no metadata", "---\n- a list\n---\n", "---\nlicense: [a, b]\n---\n"):
        card.write_text(broken)
        assert origin_of(source="transformers", name=str(tmp_path)) == Origin(), broken


def test_timm_passes_on_the_licence_of_weights_that_it_brings():
    assert origin_of(source="timm", name="resnet18", arguments={"pretrained": True}) == Origin(
        license="apache-2.0", base_model="timm/resnet18.a1_in1k"
    )
    assert origin_of(source="timm", name="resnet18") == Origin()
    own = {"source": "timm", "name": "resnet18", "arguments": {"pretrained": True}, "weights": "own.safetensors"}
    assert origin_of(**own) == Origin(), "own weights have a licence of their own"
    assert (
        origin_of(source="timm", name="hf-hub:owner/name-that-is-not-here").base_model == "owner/name-that-is-not-here"
    )
