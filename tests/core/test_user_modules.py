import json
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import dynamic_exit
from dynamic_exit.core.model_fingerprint import function_fingerprint
from dynamic_exit.core.user_code import load_function
from dynamic_exit.core.user_modules import is_user_file


def test_what_a_user_wrote_is_told_from_libraries_and_this_package(tmp_path):
    own = sorted(Path(dynamic_exit.__file__).parent.rglob("*.py"))
    assert len(own) > 100
    assert not [path for path in own if is_user_file(str(path))]
    assert not is_user_file(json.__file__) and not is_user_file(np.__file__) and not is_user_file(pytest.__file__)
    assert is_user_file(str(tmp_path / "model.py"))


# how a file reaches another one: the file that a recipe names, the text of its function, and the file with the value
WAYS = {
    "import_module": ("m.py", "import importlib\nVALUE = importlib.import_module('other').VALUE", "other.py"),
    "import_module, by name": (
        "m.py", "from importlib import import_module\nVALUE = import_module('other').VALUE", "other.py"),
    "import_module within": (
        "m.py", "import importlib as i\ndef f():\n    return i.import_module('a.other').VALUE", "a/other.py"),
    "import_module, relative": (
        "m.py", "import importlib\nVALUE = importlib.import_module('.other', __package__).VALUE", "other.py"),
    "__import__": ("m.py", "VALUE = __import__('other').VALUE", "other.py"),
    "importlib.util beside": ("m.py", "import importlib.util\nimport other\nVALUE = other.VALUE", "other.py"),
    "two dots": ("p/models/m.py", "from ..other import VALUE", "p/other.py"),
    "two dots, no packages": ("q/models/m.py", "from ..other import VALUE", "q/other.py"),
    "two dots, a package": ("p/models/m.py", "from ..layers.other import VALUE", "p/layers/other.py"),
    "three dots": ("p/models/deep/m.py", "from ...other import VALUE", "p/other.py"),
    "beside, in a package": ("p/models/m.py", "import other\nVALUE = other.VALUE", "p/models/other.py"),
    "one dot, in a package": ("p/models/m.py", "from . import other\nVALUE = other.VALUE", "p/models/other.py"),
    "from the top": ("p/models/m.py", "from p.other import VALUE", "p/other.py"),
    "from the top, whole": ("p/models/m.py", "import p.other\nVALUE = p.other.VALUE", "p/other.py"),
    "run_path": (
        "m.py", "import runpy\nVALUE = runpy.run_path(__file__.replace('m.py', '') + 'other.py')['VALUE']", "other.py"),
    "run_module": ("m.py", "import runpy\nVALUE = runpy.run_module('other')['VALUE']", "other.py"),
    "run_module, by name": ("m.py", "from runpy import run_module\nVALUE = run_module('other')['VALUE']", "other.py"),
    "run_module within": (
        "m.py", "import runpy\ndef f():\n    return runpy.run_module('a.other')['VALUE']", "a/other.py"),
    "run_module, by keyword": ("m.py", "import runpy\nVALUE = runpy.run_module(mod_name='other')['VALUE']", "other.py"),
    "exec": ("m.py", "from pathlib import Path\nexec(Path(__file__).with_name('other.py').read_text())", "other.py"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_files_that_are_reached_are_loaded_and_covered(tmp_path, way):
    """Once more in another folder, whose files of the same names hold something else."""
    file, text, other = WAYS[way]
    known, path = set(sys.modules), list(sys.path)
    for value, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        for name in ("p/__init__.py", "p/models/__init__.py", "p/models/deep/__init__.py", "p/layers/__init__.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        for name in (file, other):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_text(f"VALUE = {value}\n")
        answer = "" if "def f" in text else "\ndef f():\n    return VALUE\n"
        (folder / file).write_text(textwrap.dedent(text) + answer)
        function = f"{folder / file}:f"
        assert load_function(function)() == value
        before = function_fingerprint(function)
        (folder / other).write_text(f"VALUE = {value + 5}\n")
        assert load_function(function)() == value + 5
        assert function_fingerprint(function) != before
        (folder / other).write_text(f"VALUE = {value}\n")
        assert function_fingerprint(function) == before
    assert sys.path == path
    added = {name for name in set(sys.modules) - known if not name.startswith("dynamic_exit_recipe_")}
    assert not added & {"other", "p", "m"}
