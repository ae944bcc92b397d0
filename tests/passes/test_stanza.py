import subprocess
import sys

import pytest
import torch
from pydantic import Field, ValidationError

from dynamic_exit.errors import PassError
from dynamic_exit.passes import (
    ModelSource,
    PruningStanza,
    Samples,
    Stanza,
    TinySaverStanza,
    apply_static,
    explain,
    register_pass,
    registered_passes,
)


def test_the_projects_own_passes_are_registered():
    assert {name: info.stanza.__name__ for name, info in registered_passes().items() if name != "of_a_test"} == {
        "early_exit": "EarlyExitStanza",
        "pruning": "PruningStanza",
        "tiny_saver": "TinySaverStanza",
    }


class Sharpening(Stanza):
    """Sharpens what is dull.

    And this is not the summary.
    """

    amount: float = Field(1.0, gt=0, description="how much")


def test_a_pass_of_ones_own_registers_once():
    assert register_pass("of_a_test")(Sharpening) is Sharpening
    info = registered_passes()["of_a_test"]
    assert (info.stanza, info.summary) == (Sharpening, "Sharpens what is dull.")
    with pytest.raises(PassError) as refused:
        register_pass("of_a_test")(Sharpening)
    assert str(refused.value) == f"pass 'of_a_test' is already registered by {__name__}; choose another name"


def test_a_copy_of_the_registry_is_given_out():
    registered_passes().clear()
    assert "early_exit" in registered_passes()


def test_the_passes_are_imported_without_the_libraries_that_they_run():
    heavy = "torch_pruning", "timm", "transformers", "neural_compressor"
    code = f"import sys, dynamic_exit.passes; print(*({set(heavy)!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_built_in_pass_is_not_applied_as_one_of_another_distribution():
    samples = Samples((torch.zeros(2, 1),), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(PassError) as refused:
        apply_static(registered_passes()["pruning"], torch.nn.Linear(1, 2), PruningStanza(), samples, 0)
    assert str(refused.value) == "pass 'pruning' is built in and has no `apply`; give a pass of another distribution"


@pytest.mark.parametrize(
    ("name", "stanza", "message"),
    [
        ("early_exit", Sharpening, "pass 'early_exit' is already registered by "),
        ("not-a-name", Sharpening, "a pass must be named by an identifier; got 'not-a-name'"),
        ("", Sharpening, "a pass must be named by an identifier; got ''"),
        ("dull", dict, "pass 'dull' must be described by a subclass of Stanza; got <class 'dict'>"),
        ("dull", Sharpening(), "pass 'dull' must be described by a subclass of Stanza; got Sharpening(amount=1.0)"),
    ],
)
def test_registration_refuses(name, stanza, message):
    before = registered_passes()
    with pytest.raises(PassError) as refused:
        register_pass(name)(stanza)
    assert str(refused.value).startswith(message)
    assert registered_passes() == before


class Inner(Stanza):
    depth: int = Field(1, ge=1, le=9)


class Outer(Stanza):
    inner: Inner = Inner()
    several: list[Inner] = []
    needed: str


@pytest.mark.parametrize(
    ("values", "root", "sentence"),
    [
        ({"needed": "x", "iner": {}}, "", "unknown key 'iner'; did you mean 'inner'?"),
        ({"needed": "x", "inner": {"dept": 1}}, "", "unknown key 'inner.dept'; did you mean 'depth'?"),
        ({"needed": "x", "inner": {"dept": 1}}, "a.b", "unknown key 'a.b.inner.dept'; did you mean 'depth'?"),
        ({"needed": "x", "several": [{}, {"zzz": 1}]}, "", "unknown key 'several.1.zzz'; known are: depth"),
        ({}, "a", "key 'a.needed' is missing; add it to the recipe"),
        (
            {"needed": "x", "inner": {"depth": 10}},
            "",
            "key 'inner.depth' must be less than or equal to 9; got 10",
        ),
        ({"needed": "x", "inner": {"depth": 0.5}}, "",
         "key 'inner.depth' must be a valid integer, got a number with a fractional part; got 0.5"),
        ({"needed": 3}, "", "key 'needed' must be a valid string; got 3; put quotes around it"),
        ({"needed": False}, "", "key 'needed' must be a valid string; got False; put quotes around it"),
        ({"needed": None}, "", "key 'needed' must be a valid string; got None"),
        ({"needed": ["a"]}, "", "key 'needed' must be a valid string; got ['a']"),
    ],
)  # fmt: skip
def test_explain_says_where_and_what(values, root, sentence):
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(values)
    assert explain(refused.value, root) == sentence


def test_stanzas_do_not_change():
    with pytest.raises(ValidationError):
        Inner().depth = 2


@pytest.mark.parametrize(
    ("source", "stage"),
    [
        ({"source": "timm", "name": "resnet18.a1_in1k"}, "resnet18.a1_in1k"),
        ({"source": "transformers", "name": "google/vit-base"}, "vit-base"),
        ({"source": "python", "name": "dir/models.py:tiny"}, "tiny"),
        ({"source": "python", "name": "package.models:tiny"}, "tiny"),
        ({"source": "timm", "name": "resnet18", "stage": "small"}, "small"),
    ],
)
def test_a_stage_is_named_after_its_model(source, stage):
    assert ModelSource.model_validate(source).stage_name == stage


def test_two_candidates_need_two_names():
    twice = [{"source": "timm", "name": "resnet18"}, {"source": "timm", "name": "resnet18"}]
    with pytest.raises(ValidationError) as refused:
        TinySaverStanza.model_validate({"candidates": twice})
    assert explain(refused.value, "tiny_saver") == (
        "key 'tiny_saver' has two candidates called 'resnet18'; give each its own `stage`"
    )
