"""Recipes that were downloaded name no code that is run."""

import os
import shutil

import pytest
import tiny
import yaml

from dynamic_exit.errors import RecipeError
from dynamic_exit.integrations.neural_compressor import compress
from dynamic_exit.modeling.export_pretrained import export_pretrained
from dynamic_exit.recipe import read_recipe
from dynamic_exit.trust.downloads import check_no_code, is_downloaded

NAMES = ("data.py:load", "os:system", "package.module:function", "../code/a b.py:f", "C:x")


def in_cache(folder):
    place = folder / "models--a--b" / "snapshots" / "abc"
    place.mkdir(parents=True)
    (place.parents[1] / "blobs").mkdir()
    return place


def in_local_folder(folder):
    (folder / ".cache" / "huggingface" / "download").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("place", [in_cache, in_local_folder])
def test_a_downloaded_recipe_that_names_code_is_refused_until_it_is_trusted(tmp_path, place):
    path = place(tmp_path) / "recipe.yaml"
    path.write_text(yaml.safe_dump({"data": {"source": "python", "path": "data.py:load"}}))
    with pytest.raises(RecipeError, match="was downloaded and names code, 'data.py:load', which is not run; read it"):
        read_recipe(path)
    with pytest.raises(RecipeError, match=r"^(?!.*downloaded)"):  # it is read, and lacks stanzas
        read_recipe(path, trust_remote_code=True)


@pytest.mark.parametrize("name", NAMES)
def test_code_is_found_wherever_it_is_named(tmp_path, name):
    path = in_cache(tmp_path) / "recipe.yaml"
    with pytest.raises(RecipeError, match="names code"):
        check_no_code(path, {"a": [{"b": name}]})
    check_no_code(path, {"a": ["https://example.org:80/x", "local-dir:../x", "train[:50%]", 3, None]})
    with pytest.raises(RecipeError, match="names code, 'trust_remote_code: true'"):
        check_no_code(path, {"model": {"arguments": {"trust_remote_code": True}}})
    own = tmp_path / "mine" / "recipe.yaml"
    assert not is_downloaded(own)
    check_no_code(own, {"a": [{"b": name}]})


def test_links_to_what_was_downloaded_are_followed(tmp_path):
    place = in_cache(tmp_path / "hub")
    blob = place.parents[1] / "blobs" / "123"
    blob.write_text("{}")
    (place / "recipe.yaml").symlink_to(os.path.relpath(blob, place))
    (tmp_path / "folder").symlink_to(place)
    (tmp_path / "recipe.yaml").symlink_to(place / "recipe.yaml")
    for path in ("folder/recipe.yaml", "recipe.yaml", "folder/../folder/recipe.yaml"):
        assert is_downloaded(tmp_path / path)
    (tmp_path / "mine.yaml").write_text("{}")
    (tmp_path / "snapshots").mkdir()  # without the other folder of the cache
    (tmp_path / "snapshots" / "mine.yaml").symlink_to(tmp_path / "mine.yaml")
    for path in ("mine.yaml", "snapshots/mine.yaml"):
        assert not is_downloaded(tmp_path / path)


@pytest.fixture
def downloaded(ran, tmp_path):
    """A written folder in the hub's cache, whose recipe names code that tells that it ran."""
    folder = in_cache(tmp_path) / "model"
    shutil.copytree(ran.folder, folder)
    shutil.copytree(ran.recipe.parent / "data", folder / "data")
    (folder / "samples.py").write_text(
        "import pathlib\nimport numpy as np\nHERE = pathlib.Path(__file__).parent\n(HERE / 'ran').touch()\n"
        "def load(split):\n    found = np.load(HERE / 'data' / f'{split}.npz')\n"
        "    return found['inputs'], found['labels']\n"
    )
    splits = {"train": "train", "calibration": "calibration", "test": "test"}
    values = tiny.recipe(data={"source": "python", "path": "samples.py:load", "splits": splits})
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.mark.parametrize("name", ["evaluate", "benchmark"])
def test_commands_run_code_of_a_downloaded_folder_where_it_is_trusted_alone(downloaded, command, name):
    rest = {"evaluate": ["--data", downloaded / "recipe.yaml"], "benchmark": ["--batch-size", 8]}[name]
    rest += ["--operating-point", "accuracy-drop-1%", "--json"]
    code, out, err = command(name, downloaded, *rest)
    assert (code, out) == (2, "") and "names code, 'samples.py:load', which is not run" in err
    assert "or --trust-remote-code to evaluate or benchmark" in err and not (downloaded / "ran").exists()
    code, out, err = command(name, downloaded, *rest, "--trust-remote-code")
    assert code == 0 and '"samples": 150' in out, err
    assert (downloaded / "ran").exists()


def test_samples_of_ones_own_run_no_code_of_a_downloaded_folder(downloaded, command):
    own = downloaded / "data" / "test.npz"
    code, out, err = command("evaluate", downloaded, "--data", own, "--operating-point", "backbone", "--json")
    assert code == 0 and '"samples": 150' in out, err
    assert not (downloaded / "ran").exists()


def test_downloaded_recipes_name_no_code_where_a_model_is_compressed(downloaded):
    path = downloaded / "recipe.yaml"
    with pytest.raises(RecipeError, match="names code"):
        export_pretrained("some/model", path, "image-classification")
    with pytest.raises(RecipeError, match="names code"):
        compress(tiny.backbone(), str(path))
    assert not (downloaded / "ran").exists()
