"""Keys of the cache change with the code that made a result, and with no other."""

from pathlib import Path

import pytest

import dynamic_exit
from dynamic_exit.core import model_fingerprint

PACKAGE = Path(dynamic_exit.__file__).parent


def write(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_code_is_followed_through_rooms_files_and_functions(tmp_path):
    write(
        tmp_path,
        {
            "pipeline/run.py": "from ..search.solver import solve\n\ndef run():\n    from .. import errors\n",
            "pipeline/steps/first.py": "from ...graph import cut\n",
            "search/solver.py": "",
            "search/table.py": "from ..core.files import write\n",
            "core/files.py": "",
            "graph/__init__.py": "",
            "graph/cuts.py": "",
            "errors.py": "",
            "cli/main.py": "from ..pipeline.run import run\n",
            "report/page.py": "from ..errors import Bad\n",
        },
    )
    found = {str(path.relative_to(tmp_path)) for path in model_fingerprint.code_behind(["pipeline"], tmp_path)}
    assert found == {
        *("pipeline/run.py", "pipeline/steps/first.py", "search/solver.py", "search/table.py", "core/files.py"),
        *("graph/__init__.py", "graph/cuts.py", "errors.py"),
    }
    assert {path.name for path in model_fingerprint.code_behind(["search"], tmp_path)} == {
        *("solver.py", "table.py", "files.py")
    }


@pytest.mark.parametrize(
    ("place", "inside", "outside"),
    [
        ("pipeline", {"graph", "onnx", "passes", "runtime", "sources", "targets"}, {"analysis", "cli", "modeling"}),
        ("passes", {"graph", "onnx", "search"}, {"pipeline", "recipe", "report", "sources", "targets", "cli"}),
    ],
)
def test_what_a_result_depends_on_is_in_its_key_and_the_rooms_above_are_not(place, inside, outside):
    rooms = {path.relative_to(PACKAGE).parts[0] for path in model_fingerprint.code_behind([place])}
    assert inside <= rooms and not outside & rooms and "integrations" not in rooms


def test_a_key_changes_with_a_file_behind_it_alone(tmp_path, monkeypatch):
    write(tmp_path, {"search/solver.py": "x = 1\n", "cli/main.py": "from ..search.solver import x\n"})
    monkeypatch.setattr(model_fingerprint.code_behind, "__defaults__", (tmp_path,))
    monkeypatch.setattr(model_fingerprint, "_PACKAGE", tmp_path)

    def key():
        model_fingerprint.environment_fingerprint.cache_clear()
        return model_fingerprint.environment_fingerprint("search")

    before = key()
    write(tmp_path, {"cli/main.py": "from ..search.solver import x  # edited\n"})
    assert key() == before
    write(tmp_path, {"search/solver.py": "x = 2\n"})
    assert key() != before
    model_fingerprint.environment_fingerprint.cache_clear()
