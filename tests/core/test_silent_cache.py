"""Whatever of the user's changes, what was made of it before is not found again; where nothing changes, it is."""

import os
import subprocess
import sys
import textwrap
import types

import numpy as np
import onnx
import pytest
import tiny
import torch
from candidate_trials import INT8, shipped_backbone
from log_lines import log_lines
from safetensors.torch import save_file
from torch import nn

from dynamic_exit.candidates.evaluation import select_candidates
from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.candidates.survey import survey_candidate
from dynamic_exit.core.cache import Cache
from dynamic_exit.core.model_fingerprint import classifier_fingerprint, function_fingerprint, module_fingerprint
from dynamic_exit.core.user_code import load_function
from dynamic_exit.graph import Classifier
from dynamic_exit.onnx.export import export_part
from dynamic_exit.passes.augment import make_augment
from dynamic_exit.passes.early_exit import FrozenBackbone
from dynamic_exit.passes.early_exit.features import CachedFeatures, LiveFeatures
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.pipeline.static_passes import apply_static_passes
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime.stages import StageSet

# what each row of the table below begins with: a candidate of 36 inputs and 3 classes, its code in several files
FILES = {
    "net.py": """
        import importlib
        import os

        import numpy as np
        import torch
        from torch import nn

        import near
        import kit.steps
        from . import beside
        from kit import LIMIT

        FACTOR = 2.0
        TABLE = [[1.0, 2.0], [3.0, 4.0]]

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(36, 3)
                self.options = {"power": (1, 2)}

            def forward(self, x):
                from late import last
                dynamic = importlib.import_module(".dynamic", __package__)
                x = near.scale(kit.steps.step(x.flatten(1))) * FACTOR + TABLE[1][1] * LIMIT
                return last(beside.turn(self.layer(x)) + dynamic.none()) ** self.options["power"][0]

        def make():
            return Net()
        """,
    "near.py": "import far\n\ndef scale(x):\n    return far.shift(x) * 1.0\n",
    "far.py": "AMOUNT = 1.0\n\ndef shift(x):\n    return x + AMOUNT\n",
    "beside.py": "from .below import half\n\ndef turn(x):\n    return half(x) * 1.0\n",
    "below.py": "def half(x):\n    return x / 2.0\n",
    "late.py": "def last(x):\n    import later\n    return later.last(x) * 1.0\n",
    "later.py": "def last(x):\n    return x * 1.0\n",
    "dynamic.py": "def none():\n    return 0.0\n",
    "kit/__init__.py": "LIMIT = 1.0\n",
    "kit/steps.py": "from .inner import number\n\ndef step(x):\n    return x + number()\n",
    "kit/inner.py": "def number():\n    return 3.0\n",
    "idle.py": "NOBODY = 1.0\n",
}
EDITS = {
    "the file itself": ("net.py", "FACTOR = 2.0", "FACTOR = 2.5"),
    "a constant in a list": ("net.py", "3.0, 4.0", "3.0, 4.5"),
    "an attribute in a dict": ("net.py", '"power": (1, 2)', '"power": (2, 2)'),
    "a forward, weights equal": ("net.py", ") * FACTOR", ") - FACTOR"),
    "a helper": ("near.py", "* 1.0", "* 1.5"),
    "a helper's helper": ("far.py", "AMOUNT = 1.0", "AMOUNT = 1.5"),
    "a relative helper": ("beside.py", "* 1.0", "* 1.5"),
    "a relative helper's helper": ("below.py", "2.0", "2.5"),
    "imported within forward": ("late.py", "* 1.0", "* 1.5"),
    "imported within that": ("later.py", "* 1.0", "* 1.5"),
    "imported by its name as a text": ("dynamic.py", "0.0", "0.5"),
    "a package": ("kit/__init__.py", "1.0", "1.5"),
    "a module of a package": ("kit/steps.py", "x + ", "x - "),
    "a relative module of a package": ("kit/inner.py", "3.0", "3.5"),
}


def write(folder, files=FILES):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
    return folder


def edit(path, before, after):
    """Change a file; its size and the time of its last change stay as they were."""
    kept, text = path.stat(), path.read_text()
    assert before in text and len(before) == len(after)
    path.write_text(text.replace(before, after))
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def answer(folder, name="net.py:make"):
    torch.manual_seed(0)
    with torch.no_grad():
        return load_function(f"{folder}/{name}")()(torch.ones(2, 1, 6, 6))


def fingerprint(folder, name="net.py:make"):
    torch.manual_seed(0)
    return module_fingerprint(load_function(f"{folder}/{name}")())


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_is_noticed_and_takes_effect(tmp_path, kind):
    write(tmp_path)
    before = fingerprint(tmp_path), function_fingerprint(f"{tmp_path}/net.py:make"), answer(tmp_path)
    file, *change = EDITS[kind]
    edit(tmp_path / file, *change)
    after = fingerprint(tmp_path), function_fingerprint(f"{tmp_path}/net.py:make"), answer(tmp_path)
    assert before[0] != after[0]
    assert before[1] != after[1]
    # not what was loaded, or compiled, before
    assert not torch.equal(before[2], after[2])
    edit(tmp_path / file, *reversed(change))
    assert fingerprint(tmp_path) == before[0]


def test_where_nothing_changes_all_is_found_again(tmp_path):
    write(tmp_path)
    before = fingerprint(tmp_path)
    edit(tmp_path / "idle.py", "1.0", "2.0")  # nobody imports it
    assert fingerprint(tmp_path) == before
    code = (
        "import torch\n"
        "from dynamic_exit.core.user_code import load_function\n"
        "from dynamic_exit.core.model_fingerprint import module_fingerprint\n"
        "torch.manual_seed(0)\n"
        f"print(module_fingerprint(load_function({str(tmp_path)!r} + '/net.py:make')()))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}  # another order of sets
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == before, found.stderr[-500:]


def in_memory(text, name="from_a_notebook"):
    """What a cell of a notebook, or `exec`, leaves: code without a file."""
    space = {"__name__": name}
    exec(compile(textwrap.dedent(text), f"<{name}>", "exec"), space)  # noqa: S102
    torch.manual_seed(0)
    return space["Net"]()


CELL = """
    from functools import cached_property, partial
    import torch
    from torch import nn
    from torch.nn import functional
    SHIFT = 1.0
    def power(x, by=2):
        return x ** by
    class Base(nn.Module):
        def ending(self, x):
            return x + SHIFT
    class Options:
        def __init__(self):
            self.scale = 3.0
    class Net(Base):
        limit = 4.0
        def __init__(self):
            super().__init__()
            self.layer, self.options, self.act = nn.Linear(2, 2), Options(), torch.tanh
            self.power = partial(power, by=2)
            self.late = lambda x: x * 5.0
        @property
        def factor(self):
            return 6.0
        @cached_property
        def once(self):
            return 7.0
        @staticmethod
        def plain(x):
            return x - 8.0
        def forward(self, x):
            return self.ending(self.plain(self.late(self.power(self.act(self.layer(x)) * self.options.scale))))
    """


@pytest.mark.parametrize(
    "change",
    [
        ("SHIFT = 1.0", "SHIFT = 1.5"),
        ("x ** by", "by ** x"),
        ("partial(power, by=2)", "partial(power, by=3)"),
        ("def power(x, by=2)", "def power(x, by=4)"),
        ("return x + SHIFT", "return x - SHIFT"),
        ("self.scale = 3.0", "self.scale = 3.5"),
        ("limit = 4.0", "limit = 4.5"),
        ("x * 5.0", "x * 5.5"),
        ("return 6.0", "return 6.5"),
        ("return 7.0", "return 7.5"),
        ("x - 8.0", "x - 8.5"),
        ("torch.tanh", "torch.relu"),
    ],
    ids=lambda change: change[1],
)
def test_code_that_stands_in_no_file_is_known_by_what_is_loaded(change):
    before = module_fingerprint(in_memory(CELL))
    assert module_fingerprint(in_memory(CELL)) == before
    assert change[0] in CELL
    assert module_fingerprint(in_memory(CELL.replace(*change))) != before


def script(body):
    class Net(nn.Module):
        def forward(self, x):
            return x * body

    return Net()


def hooked(number):
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda module, given, found: found + number)
    return module


def patched(number):
    module = nn.Linear(2, 2)
    module.forward = types.MethodType(lambda self, x: x * number, module)
    return module


def kept(value):
    module = nn.Linear(2, 2)
    module.kept = value
    return module


def parametrized(number):
    return nn.utils.parametrize.register_parametrization(nn.Linear(2, 2), "weight", script(number), unsafe=True)


@pytest.mark.parametrize(
    "make",
    [
        lambda number: torch.jit.script(torch.jit.trace(script(number), torch.ones(2, 2))),
        lambda number: torch.fx.symbolic_trace(script(number)),
        lambda number: torch.export.export(script(number), (torch.ones(2, 2),)).module(),
        hooked,
        patched,
        parametrized,
        lambda number: kept(np.full(3, number)),
        lambda number: kept([torch.full((3,), number)]),
        lambda number: kept({"deep": {"er": [number]}}),
        lambda number: kept(types.SimpleNamespace(number=number)),
        lambda number: kept(np.float32(number)),
        lambda number: kept({1.0, number}),
        lambda number: kept(torch.float16 if number == 2.0 else torch.bfloat16),
        lambda number: kept([torch.relu, torch.tanh] if number == 2.0 else [torch.tanh, torch.relu]),
    ],
    ids=["torch script", "traced", "exported", "hook", "forward of one module", "parametrization"]
    + ["array", "tensor in a list", "nested dict", "namespace", "numpy number", "set", "dtype", "built-in functions"],
)
def test_all_that_a_module_runs_is_covered(make):
    found = []
    for number in (2.0, 2.0, 2.5):
        torch.manual_seed(0)
        found.append(module_fingerprint(make(number)))
    assert found[0] == found[1] != found[2]


class ReadsAFile(nn.Module):
    def __init__(self, path):
        super().__init__()
        self.path = str(path)

    def forward(self, x):
        return x.flatten(1)[:, :3] + torch.from_numpy(np.load(self.path))


def test_what_is_read_as_a_model_runs_is_noticed_by_its_answers(tmp_path):
    model, inputs, found = Classifier(ReadsAFile(tmp_path / "bias.npy")).eval(), (torch.ones(2, 1, 6, 6),), []
    for value in (1.0, 1.0, 2.0):
        np.save(tmp_path / "bias.npy", np.arange(3, dtype=np.float32) * value - 1)
        found.append(classifier_fingerprint(model, inputs))
    assert found[0] == found[1] != found[2]


def test_an_editable_package_of_the_users_counts_and_a_library_does_not(tmp_path, monkeypatch):
    """Outside of site-packages code is looked at; inside, the version and the class's own file."""
    net = "from torch import nn\nfrom .tool import by\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
    text = {"__init__.py": "", "nets.py": f"{net}        return by(x)\n", "tool.py": "def by(x):\n    return x * 1.0\n"}
    noticed = {}
    for place in ("src", "site-packages"):
        write(tmp_path / place / f"pack_{place[:3]}", text)
        monkeypatch.syspath_prepend(str(tmp_path / place))
        found = []
        for _ in range(2):
            for name in [name for name in sys.modules if name.startswith(f"pack_{place[:3]}")]:
                del sys.modules[name]
            module = __import__(f"pack_{place[:3]}.nets").nets.Net()
            found.append(module_fingerprint(module))
            (tmp_path / place / f"pack_{place[:3]}" / "tool.py").write_text("def by(x):\n    return x * 1.5\n")
        noticed[place] = found[0] != found[1]
    assert noticed == {"src": True, "site-packages": False}


def test_an_edit_after_the_import_does_not_pass_for_what_runs(tmp_path, monkeypatch):
    """A module on `sys.path` stays as it was loaded: what is made with it is kept under a key that nobody else has."""
    (tmp_path / "stale_net.py").write_text(
        "from torch import nn\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return x * 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import stale_net

    loaded = module_fingerprint(stale_net.Net())
    edit(tmp_path / "stale_net.py", "* 1.0", "* 1.5")
    stale = module_fingerprint(stale_net.Net())
    del sys.modules["stale_net"]
    for path in (tmp_path / "__pycache__").glob("*"):
        path.unlink()
    import stale_net as fresh

    assert len({loaded, stale, module_fingerprint(fresh.Net())}) == 3
    del sys.modules["stale_net"]


def test_helpers_of_two_folders_do_not_meet(tmp_path, monkeypatch):
    """Each file takes what stands beside it, whatever was imported before, and others never see it."""
    monkeypatch.syspath_prepend(str(tmp_path / "c"))
    for place, number in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        late = "" if place == "c" else f"def late():\n    return {number}\n"
        files = {
            "namesake.py": f"import deep\nNUMBER = {number}\n",
            "deep.py": f"NUMBER = {number}\n{late}",
            "own.py": "import namesake\n\ndef make():\n    from deep import late\n"
            "    return namesake.NUMBER, namesake.deep.NUMBER, late()\n",
        }
        write(tmp_path / place, files)
    import namesake

    before = [*sys.path], {name: module for name, module in sys.modules.items() if "dynamic_exit" not in name}
    one, other = (load_function(f"{tmp_path}/{place}/own.py:make") for place in "ab")
    assert (one(), other(), one()) == ((1.0,) * 3, (2.0,) * 3, (1.0,) * 3)
    assert namesake.NUMBER == sys.modules["namesake"].NUMBER == 3.0
    assert [*sys.path] == before[0]
    assert {name: module for name, module in sys.modules.items() if "dynamic_exit" not in name} == before[1]
    for name in ("namesake", "deep"):
        del sys.modules[name]


def test_a_library_is_not_hidden_by_what_stands_beside(tmp_path):
    write(tmp_path, {"random.py": "raise SystemError", "numpy.py": "raise SystemError", "torch/notes.txt": "",
                     "own.py": "import random, numpy, torch\n\ndef make():\n"
                     "    return random.random, numpy.ones, torch.ones\n"})  # fmt: skip
    import random

    assert load_function(f"{tmp_path}/own.py:make")() == (random.random, np.ones, torch.ones)


# ---- what a run keeps and finds


@pytest.fixture
def recipe(tmp_path):
    """One saver whose code is in two files, its weights in a third."""
    path = tiny.build(tmp_path, dynamic_exit__early_exit=None)
    (tmp_path / "models.py").write_text(
        "from torch import nn\nimport near\n" + tiny.MODELS + "\n\nclass Wrapped(nn.Module):\n"
        "    def __init__(self, width):\n        super().__init__()\n        self.inner = saver(width)\n\n"
        "    def forward(self, x):\n        return self.inner(near.scale(x))\n\n\ndef wrapped(width=2):\n"
        "    return Wrapped(width)\n"
    )
    (tmp_path / "near.py").write_text("def scale(x):\n    return x * 1.0\n")
    save_file({f"inner.{k}": v for k, v in tiny.saver(2).state_dict().items()}, tmp_path / "wrapped.safetensors")
    return path


def trial(path, cache, candidate, **overrides):
    """Which candidates' records were found in the cache."""
    run_inputs = load_run_inputs(read_recipe(path, {"dynamic_exit.tiny_saver.candidates": [candidate], **overrides}))
    target, *backbone = shipped_backbone(run_inputs.recipe.quantization is not None)
    stages = StageSet(*backbone)
    with log_lines() as said:
        stages, _ = select_candidates(CandidatePool(run_inputs, Cache(cache)), stages, target)
    found = [line.split(":")[0] for line in said if "found in the cache" in line]
    return "records of saver" in found, stages


@pytest.mark.parametrize("quantization", [None, INT8], ids=["float", "int8"])
def test_a_run_does_not_find_what_an_edited_helper_made(recipe, tmp_path, quantization):
    candidate = {"source": "python", "name": f"{tmp_path}/models.py:wrapped", "stage": "saver",
                 "weights": f"{tmp_path}/wrapped.safetensors"}  # fmt: skip
    settings = (recipe, tmp_path / "cache", candidate)
    inputs, shipped = torch.from_numpy(tiny.samples("test")[0][:4]), []
    steps = ((None, False), (("* 1.0", "* 0.5"), False), (("* 0.5", "* 1.0"), True))
    for change, found in steps if quantization else steps[:2]:
        if change:
            edit(tmp_path / "near.py", *change)
        again, stages = trial(*settings, quantization=quantization)
        assert again == found
        shipped.append([stage.session(inputs) for stage in stages.savers.values()])
        # what ships is what the code says now
        for stage in stages.savers.values():
            with torch.no_grad():
                torch.testing.assert_close(stage.session(inputs), stage.module(inputs), atol=0.5, rtol=0.2)
    assert not torch.equal(shipped[0][0], shipped[1][0])


def first_look(path, candidate):
    run_inputs = load_run_inputs(read_recipe(path, {"dynamic_exit.tiny_saver.candidates": [candidate]}))
    ((name, source),) = run_inputs.candidates.items()
    return survey_candidate(name, source, run_inputs, Cache(None)).fingerprint


@pytest.mark.parametrize("kind", ["weights", "onnx"])
def test_a_file_changed_in_place_is_noticed(recipe, tmp_path, kind):
    """Of the same size and with the same time."""
    files = [tmp_path / f"{kind}{number}" for number in range(2)]
    for number, file in enumerate(files):
        model = tiny.saver(2)
        with torch.no_grad():
            model[1].bias += number
        if kind == "weights":
            save_file(model.state_dict(), file)
        else:
            onnx.save(export_part("x", model, ("input",), "logits", (torch.ones(2, 1, 6, 6),), [{}]).proto, file)
    place = tmp_path / ("saver.safetensors" if kind == "weights" else "saver.onnx")
    candidate = {"source": "onnx", "name": str(place), "stage": "saver"}
    if kind == "weights":
        candidate = {"source": "python", "name": f"{tmp_path}/models.py:saver", "stage": "saver", "weights": str(place)}
    found = []
    for file in (files[0], files[0], files[1]):
        place.write_bytes(file.read_bytes())
        os.utime(place, ns=(0, 0))
        found.append(first_look(recipe, candidate))
    assert files[0].stat().st_size == files[1].stat().st_size
    assert found[0] == found[1] != found[2]


def test_what_another_data_function_gives_is_noticed(recipe, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nimport near_data\n\ndef load(split):\n"
        "    found = np.load(f'{near_data.PLACE}/{split}.npz')\n"
        "    return found['inputs'] * near_data.FACTOR, found['labels']\n"
    )
    (tmp_path / "near_data.py").write_text(f"PLACE = {str(tmp_path / 'data')!r}\nFACTOR = 1.0\n")
    candidate = {"source": "python", "name": f"{tmp_path}/models.py:saver", "stage": "saver",
                 "weights": f"{tmp_path}/saver2.safetensors"}  # fmt: skip
    data = {"data.source": "python", "data.path": f"{tmp_path}/mine.py:load", "quantization": None}
    found = []
    for change in (None, None, ("FACTOR = 1.0", "FACTOR = 0.5")):
        if change:
            edit(tmp_path / "near_data.py", *change)
        found.append(trial(recipe, tmp_path / "cache", candidate, **data)[0])
    assert found == [False, True, False]


AUGMENT = "import near_views\n\ndef view(sample, generator):\n    return near_views.view(sample)\n"


@pytest.mark.parametrize("what", ["pruning", "savers"])
def test_a_helper_of_an_augmentation_is_noticed(recipe, tmp_path, what):
    (tmp_path / "views.py").write_text(AUGMENT)
    (tmp_path / "near_views.py").write_text("def view(sample):\n    return sample * 1.0\n")
    candidate = {"source": "python", "name": f"{tmp_path}/models.py:saver", "stage": "saver",
                 "arguments": {"width": 2}}  # fmt: skip
    taught = {"epochs": 1, "augment": f"{tmp_path}/views.py:view"}
    cache, trained = tmp_path / "cache", []
    for change in (None, None, ("* 1.0", "* 0.5")):
        if change:
            edit(tmp_path / "near_views.py", *change)
        if what == "savers":
            tune = {"dynamic_exit.tiny_saver.fine_tune": taught, "quantization": None}
            before = {path.name for path in cache.rglob("*.zip")}
            trial(recipe, cache, candidate, **tune)
            trained.append(len({path.name for path in cache.rglob("*.zip")} - before) > 0)
        else:
            fine_tune = taught | {"distillation": 0.0}
            overrides = {"pruning": {"ratio": 0.3, "fine_tune": fine_tune}, "dynamic_exit.early_exit": {}}
            with log_lines() as said:
                apply_static_passes(load_run_inputs(read_recipe(recipe, overrides)), Cache(cache))
            trained.append(len(said) > 1)
    assert trained == [True, False, True]


class Doubled(nn.Module):
    input_names = ("x",)

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


@pytest.mark.parametrize(
    ("change", "expected"), [("nothing", 2.0), ("the code of a view", 3.0), ("the backbone, by little", 2.01)]
)
def test_features_of_an_interrupted_training_are_of_the_same_code(tmp_path, change, expected, log_lines):
    """A file of features is filled anew where a helper of the views or the backbone has changed since."""
    (tmp_path / "views.py").write_text(AUGMENT)
    (tmp_path / "near_views.py").write_text("def view(sample):\n    return sample * 1.0\n")

    def features(made_of, factor):
        augment = make_augment(f"{tmp_path}/views.py:view", 8, 0)
        backbone = FrozenBackbone([Doubled(factor)], [], 3)
        live = LiveFeatures(backbone, {}, {"x": torch.ones(8, 3)}, augment)
        live.made_of = made_of + live.made_of
        return CachedFeatures(live, tmp_path / "features.f16", limit=1e9).batch(torch.arange(8), 0)[1]

    features("one", 2.0)
    if change == "the code of a view":
        edit(tmp_path / "near_views.py", "* 1.0", "* 1.5")
    found = features("other", expected) if change.startswith("the backbone") else features("one", 2.0)
    assert any("taken from" in line for line in log_lines) == (change == "nothing")
    assert float(found[0, 0]) == pytest.approx(expected, abs=2e-3)
