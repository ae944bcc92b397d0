"""What documents say of the project is there: links, names of files and modules, generated pages, and the site."""

import importlib
import json
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path

import documents
import pytest
import yaml
from documents import ROOT
from test_architecture import FLOORS

from dynamic_exit.recipe import Recipe

PACKAGE = ROOT / "plugin" / "dynamic_exit"
#: Paths in documents begin with one of these.
FOLDERS = ("plugin", "tests", "integration_tests", "docs", "recipes", "requirements", ".github")
OUTLINE = [
    "Install", "Sixty seconds", "Use the model", "Your own model", "How it works", "Works with", "What always holds",
    "Documentation", "Contribute, cite, license",
]  # fmt: skip


def test_the_readme_is_one_page():
    readme = documents.text_of("README.md")
    assert len(readme.encode()) <= 6_000
    assert re.findall(r"^## (.+)$", readme, re.MULTILINE) == OUTLINE


@pytest.mark.parametrize("page", documents.PAGES)
def test_links_lead_somewhere(page):
    for target, anchor in documents.links(page):
        if "://" in target:
            assert re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[\w./~%#-]*)?", target), f"{page}: {target}"
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            linked = str(path.resolve().relative_to(ROOT))
            assert anchor in documents.anchors(linked), f"{page}: {target}#{anchor}"


@pytest.mark.parametrize("page", documents.WRITTEN)
def test_names_of_files_and_modules_are_there(page):
    for span in documents.spans(page):
        if re.fullmatch(rf"({'|'.join(map(re.escape, FOLDERS))})/[\w./-]*", span):
            assert (ROOT / span).exists(), f"{page}: {span}"
        elif re.fullmatch(r"dynamic_exit(\.\w+)+", span):
            assert is_module_or_name(span) or is_key(span), f"{page}: {span}"
        elif re.fullmatch(r"\w+/", span) and page == "ARCHITECTURE.md":
            assert (PACKAGE / span).is_dir() or (ROOT / span).is_dir(), f"{page}: {span}"


def is_module_or_name(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    try:
        importlib.import_module(name)
        return True
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return hasattr(importlib.import_module(module), attribute) if is_module_or_name(module) else False


def is_key(name: str) -> bool:
    """Whether a dotted name is a key of a recipe."""
    schema = Recipe.model_json_schema()
    known = {"": schema, **schema["$defs"]}
    holders = {""}
    for step in name.split("."):
        fields = [
            known[holder]["properties"][step] for holder in holders if step in known[holder].get("properties", {})
        ]
        if not fields:
            return False
        holders = set(re.findall(r"#/\$defs/(\w+)", json.dumps(fields)))
    return True


def test_the_architecture_lists_the_rooms_in_the_order_of_imports():
    table = documents.text_of("ARCHITECTURE.md").partition("## The floors")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)(?:/|\.py)` \|", table, re.MULTILINE)) == FLOORS


def test_ten_questions_are_answered_one_step_from_the_readme():
    text = documents.text_of("ARCHITECTURE.md").partition("## Ten questions")[2]
    answers = re.findall(r"^\d+\. \*\*(.+?)\*\* (.+?)(?=^\d+\. |\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(answers) == 10
    assert all("`" in answer or "](" in answer for _, answer in answers)
    assert "ARCHITECTURE.md" in [target for target, _ in documents.links("README.md")]


@pytest.mark.parametrize("page", [page for page in documents.PAGES if page.startswith("docs/")])
def test_a_page_has_one_title_and_begins_with_what_it_is_for(page):
    lines = documents.text_of(page).splitlines()
    assert lines[0].startswith("# ") and sum(line.startswith("# ") for line in documents.prose(page).splitlines()) == 1
    assert len(lines[2]) > 40 and lines[2][0].isupper()
    assert len(lines) <= 200 or page in documents.GENERATED, "a page that long is two pages"


def load(name: str):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_pages_are_what_the_code_says():
    for path, text in load("generate").pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale; run `make docs`"


def test_the_recipe_reference_has_every_key():
    text = documents.text_of("docs/reference/recipe.md")
    for model in (Recipe.model_json_schema(), *Recipe.model_json_schema()["$defs"].values()):
        for key, field in model["properties"].items():
            assert f"| `{key}` |" in text
            assert field.get("description") or "$ref" in field, f"{model['title']}.{key} has no meaning"


def test_the_picture_is_the_same_for_the_same_figures():
    draw = load("make_figures").chain_svg
    rates = {"saver": 0.9, "layer1:linear": 0.06, "final": 0.04}
    assert draw(rates) == draw(dict(rates))
    assert [f"{share}% leave" in draw(rates) for share in ("90.0", "6.0", "4.0")] == [True] * 3


def test_the_hooks_before_a_commit_are_the_commands_of_make_check():
    makefile = (ROOT / "Makefile").read_text().partition("\ncheck: setup\n")[2].partition("\n\n")[0]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in makefile.splitlines()]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [" ".join([hook["entry"], *hook.get("args", ())]) for hook in repository["hooks"]]
    assert hooks == commands


def test_every_page_is_in_the_site(tmp_path):
    """Strict: a page that is in no menu, or a link that leads nowhere in the site, ends the build."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    entries = reduce(lambda found, entry: found + _pages(entry), menu, [])
    in_docs = {page.removeprefix("docs/") for page in documents.PAGES if page.startswith("docs/")}
    assert sorted(entries) == sorted(in_docs | {"ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"})
    for page in tmp_path.rglob("*.html"):
        check_offline(page)


def _pages(entry) -> list[str]:
    ((_, value),) = entry.items()
    return [value] if isinstance(value, str) else [page for each in value for page in _pages(each)]


def check_offline(page: Path) -> None:
    """Nothing that a browser loads by itself comes from another server."""
    loaded = re.findall(r"<(?:script|img|iframe)[^>]+src=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
    loaded += re.findall(r"<link[^>]+rel=\"(?:stylesheet|preconnect|icon)\"[^>]+href=\"([^\"]+)\"", page.read_text())
    assert not [each for each in loaded if each.startswith(("http", "//"))], page
