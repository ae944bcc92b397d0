"""Every code block and command of README, docs and the other documents runs, as written, page by page.

The Python blocks of a page share one namespace, a block with a title becomes a file, and a shell line runs as the
command that it names. A block that cannot run here says so in a comment before it; `NOT_RUN` counts those.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import documents
import numpy as np
import pytest
import sentences
import tiny
import torch
import yaml
from documents import ROOT
from PIL import Image

from dynamic_exit.cli.main import main
from dynamic_exit.recipe import parse_recipe, read_recipe

#: Blocks that cannot run in a test, by page.
NOT_RUN = {
    "CONTRIBUTING.md": 1,
    "README.md": 1,
    "docs/how-to/deploy.md": 3,
    "docs/how-to/openvino.md": 2,
    "docs/how-to/other-runtimes.md": 1,
    "docs/how-to/trust.md": 2,
    "docs/how-to/predict.md": 1,
    "docs/how-to/pretraining.md": 1,
    "docs/how-to/report.md": 1,
    "docs/how-to/scale-out.md": 1,
    "docs/how-to/serving.md": 2,
    "docs/how-to/several-processes.md": 2,
    "docs/how-to/supply-chain.md": 4,
    "docs/results-breaking.md": 1,
    "docs/results.md": 1,
}
#: Where a fragment of a recipe is put in, to be checked.
BASE = {
    "model": {"source": "python", "name": "models.py:backbone"},
    "data": {"source": "npz", "path": "data", "splits": {"train": "a", "calibration": "b", "test": "c"}},
    "dynamic_exit": {"early_exit": {}},
    "export": {"directory": "out"},
}
TUTORIAL = "docs/tutorials/own-model.md"
TEXT = "docs/how-to/text.md"
PASSES = "docs/how-to/neural-compressor.md"
#: Runs in test_serve_page.py, against a server.
SERVE = "docs/how-to/serve.md"
#: Runs in tests/serving: its command on a cluster in test_ray.py, its file in test_deployment.py.
SCALE_OUT = "docs/how-to/scale-out.md"
#: Pages whose blocks run in other files, in a distribution of their own.
ELSEWHERE = {
    "docs/how-to/extend.md": "test_extend.py",
    "docs/how-to/maker.md": "test_extend.py",
    "docs/how-to/target.md": "test_extend.py",
    "docs/how-to/static-pass.md": "test_own_pass.py",
}


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory) -> Path:
    """The folder of the tutorial of one's own model, once all of its blocks have run."""
    folder = tmp_path_factory.mktemp("own_model")
    run_page(TUTORIAL, folder, {})
    return folder


@pytest.fixture
def world(tmp_path) -> Path:
    """A folder like the repository's root; what `make demo` writes lies elsewhere."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(tmp_path / "digit.png")
    return tmp_path


def source_of(name: str) -> str:
    """A test file that runs blocks of a page, too."""
    return (ROOT / "integration_tests" / name).read_text(encoding="utf-8")


def write_reviews(folder: Path) -> None:
    """What docs/how-to/text.md names: models, texts and weights."""
    sentences.build(folder)
    for name, kept in (("backbone", "my_bert"), ("small", "my_tiny_bert"), ("texts", "reviews")):
        (folder / name).rename(folder / kept)
    (folder / "my_models.py").write_text(sentences.MODELS + "\n\nbag_of_words = bag\n")


def passes_namespace() -> dict[str, object]:
    """What docs/how-to/neural-compressor.md takes for granted: a model, inputs, functions and candidates."""
    images, labels = map(torch.from_numpy, tiny.samples("calibration"))
    fresh, truth = map(torch.from_numpy, tiny.samples("test"))

    def accuracy(model) -> float:
        with torch.no_grad():
            answer = model(fresh)
        return float((getattr(answer, "logits", answer).argmax(1) == truth).float().mean())

    saver = {"source": "python", "name": "models.py:saver", "stage": "saver4", "weights": "saver4.safetensors"}
    return {
        "model": tiny.backbone(),
        "images": images,
        "calibrate": lambda model: model(images),
        "accuracy": accuracy,
        "savers": {"candidates": [{**saver, "arguments": {"width": 4}}]},
    }


def run_page(page: str, folder: Path, namespace: dict[str, object], demo: Path | None = None) -> None:
    """Run the blocks of a page in order, in a folder; `demo` stands in for build/quickstart."""
    with contextlib.chdir(folder):
        for block in documents.blocks(page):
            if block.not_run is None:
                code = block.code if demo is None else block.code.replace("build/quickstart", str(demo))
                run_block(replace(block, code=code), folder, namespace)


def run_block(block: documents.Block, folder: Path, namespace: dict[str, object]) -> None:
    """Run one block, or write the file that it shows."""
    where = f"{block.page}:{block.line}"
    if block.title:
        (folder / block.title).write_text(block.code, encoding="utf-8")
    elif block.language == "python":
        exec(compile(block.code, where, "exec"), namespace)  # noqa: S102  the project's own documents
    elif block.language == "sh":
        for line in block.code.splitlines():
            run_line(line.partition("   #")[0].strip(), folder, where)
    elif block.language == "yaml":
        check_recipe(yaml.safe_load(block.code), folder)
    else:
        assert block.language == "text", f"{where}: nobody runs {block.language}"


def run_line(line: str, folder: Path, where: str) -> None:
    """Run one line of a shell block, or check what cannot run inside a test for what it names."""
    program, *arguments = shlex.split(line)
    if program == "dynamic-exit":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                main(arguments)
            except SystemExit as ended:
                pytest.fail(f"{where}: '{line}' ended with {ended.code}: {printed.getvalue()}")
        assert printed.getvalue().strip(), f"{where}: '{line}' printed nothing"
    elif program == "python":
        done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{where}: {done.stderr}"
    elif program == "make":
        done = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, f"{where}: {done.stderr}"
    elif program == "pip":
        check_install(arguments, where)
    elif program == ".venv/bin/python" and arguments[:2] == ["-m", "pytest"]:
        paths = [each for each in arguments[2:] if "/" in each]
        assert paths and all((ROOT / each).exists() for each in paths), f"{where}: {line}"
    else:
        pytest.fail(f"{where}: nobody runs '{line}'")


def check_install(arguments: list[str], where: str) -> None:
    """Check what an installation names; nothing is installed."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments.pop(0) == "install", where
    if not {"-c", "-e", "--no-deps"}.intersection(arguments):
        listed = {"".join(each.split()) for each in known["optional-dependencies"]["runtime"]}
        assert {*arguments} == listed, f"{where}: the extra runtime holds {listed}"
        return
    for argument in arguments:
        path, _, extras = argument.rstrip("]").partition("[")
        assert argument in ("-c", "-e", "--no-deps") or (ROOT / path).exists(), f"{where}: {argument}"
        assert {each.strip() for each in extras.split(",") if each} <= {*known["optional-dependencies"]}, where


def check_recipe(values: dict, folder: Path) -> None:
    """Check a recipe, or a fragment within a recipe that holds the rest."""
    dynamic = values.get("dynamic_exit", {})
    if {"tiny_saver", "early_exit"}.isdisjoint(dynamic):
        dynamic = {**BASE["dynamic_exit"], **dynamic}
    parse_recipe({**BASE, **values, "dynamic_exit": dynamic}, folder)


PLAIN = [
    page
    for page in documents.WRITTEN
    if page not in {TUTORIAL, TEXT, PASSES, SERVE, SCALE_OUT, *ELSEWHERE, "README.md"}
]


@pytest.mark.parametrize("page", [page for page in PLAIN if documents.blocks(page)])
def test_the_blocks_of_a_page_run(page, world, demo):
    run_page(page, world, {}, demo.folder)


def test_the_tutorial_of_a_model_of_ones_own_saves_cost(tutorial):
    model_card = (tutorial / "out" / "README.md").read_text()
    assert "accuracy-drop-0.5%" in model_card
    recipe = read_recipe(tutorial / "recipe.yaml")
    assert recipe.dynamic_exit.tuning.max_accuracy_drop == 0.005


def test_the_blocks_of_the_readme_run(world, demo):
    namespace: dict[str, object] = {}
    run_page("README.md", world, namespace, demo.folder)
    assert namespace["answer"].logits.shape == (3, 10)


def test_the_readme_shows_the_recipe_of_the_tutorial():
    (shown,) = (block.code for block in documents.blocks("README.md") if block.language == "yaml")
    (written,) = (block.code for block in documents.blocks(TUTORIAL) if block.title == "recipe.yaml")
    assert shown == written


def test_models_and_data_of_the_text_page_are_valid(tmp_path):
    """Such a recipe is run, and the block that serves the result with it, in test_text_served.py."""
    write_reviews(tmp_path)
    recipe, served = documents.blocks(TEXT)
    (tmp_path / "recipe.yaml").write_text(recipe.code)
    with contextlib.chdir(tmp_path):
        run_line("dynamic-exit validate recipe.yaml", tmp_path, TEXT)
    assert served.language == "python" and "docs/how-to/text.md" in source_of("test_text_served.py")


def test_the_page_on_neural_compressor_runs(tmp_path):
    tiny.build(tmp_path)
    namespace = passes_namespace()
    run_page(PASSES, tmp_path, namespace)
    assert namespace["best"] is not None and (tmp_path / "my_model").is_dir()


def test_blocks_that_run_elsewhere_are_run_there():
    for page, file in ELSEWHERE.items():
        for block in documents.blocks(page):
            assert (block.language, block.title is not None) in {("python", True), ("toml", False), ("yaml", False)}
        assert page in source_of(file)


def test_the_page_of_the_server_is_run_with_one():
    assert SERVE in source_of("test_serve_page.py")
    for name in ("test_ray.py", "test_deployment.py"):
        assert SCALE_OUT in source_of(f"../tests/serving/{name}")


def test_only_known_blocks_are_not_run():
    found = {page: sum(block.not_run is not None for block in documents.blocks(page)) for page in documents.WRITTEN}
    assert {page: count for page, count in found.items() if count} == NOT_RUN


def test_commands_in_sentences_name_what_is_there():
    """Benchmarks take minutes; that their files and options are there is all that can be said here."""
    for page in documents.WRITTEN:
        for span in documents.spans(page):
            path = re.match(r"python ([\w/.]+\.py)", span)
            if path is None:
                continue
            source = ROOT / path[1]
            assert source.is_file(), f"{page}: {span}"
            for option in re.findall(r"--[\w-]+", span):
                assert f'"{option}"' in source.read_text(), f"{page}: {span} has no {option}"
