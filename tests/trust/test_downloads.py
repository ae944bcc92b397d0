"""Recipes that were downloaded name no code that is run."""

import pytest
import yaml

from dynamic_exit.errors import RecipeError
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
