"""Every registry, and every item that is built in: they keep one contract."""

import pytest

from dynamic_exit.chain.evidence.registry import RULES
from dynamic_exit.core import registry as registry_module
from dynamic_exit.core.registry import Registry
from dynamic_exit.errors import DynamicExitError
from dynamic_exit.passes import MODEL_SOURCES, Stanza, explain
from dynamic_exit.passes.early_exit.heads.base import HEADS
from dynamic_exit.passes.registry import PASSES
from dynamic_exit.passes.tiny_saver.makers import MAKERS
from dynamic_exit.recipe import DATA_SOURCES, TARGETS

#: A registry, and how the stanza of an item is found.
REGISTRIES = [
    (PASSES, lambda item: item.stanza),
    (HEADS, lambda item: item.Options),
    (DATA_SOURCES, lambda item: item.stanza),
    (MODEL_SOURCES, lambda item: item.stanza),
    (TARGETS, lambda item: item.stanza),
    (RULES, lambda item: None),
    (MAKERS, lambda item: item.Options),
]


BUILT_IN = [
    pytest.param(registry, name, item, stanza(item), id=f"{registry.kind}-{name}")
    for registry, stanza in REGISTRIES
    for name, item in registry.registered().items()
]


def same_kind(registry):
    return pytest.param(registry, id=registry.kind)


@pytest.mark.parametrize("registry", [same_kind(each) for each, _ in REGISTRIES])
def test_a_registry_has_an_error_and_a_group_of_its_own(registry):
    assert isinstance(registry, Registry)
    assert issubclass(registry.error, DynamicExitError)
    assert registry.group.startswith("dynamic_exit.")
    assert [each.group for each, _ in REGISTRIES].count(registry.group) == 1
    assert registry.registered()


@pytest.mark.parametrize("registry", [same_kind(each) for each, _ in REGISTRIES])
def test_a_misspelt_name_is_refused_with_the_nearest(registry):
    name = next(iter(registry.registered()))
    with pytest.raises(registry.error) as refused:
        registry.find(f"{name}x")
    assert str(refused.value) == f"unknown {registry.kind} '{name}x'; did you mean '{name}'?"


@pytest.mark.parametrize(("registry", "name", "item", "stanza"), BUILT_IN)
def test_an_item_has_a_name_of_its_own(registry, name, item, stanza):
    assert registry.find(name) is item
    assert name.isidentifier()
    with pytest.raises(registry.error, match=f"^{registry.kind} '{name}' is already registered by dynamic_exit"):
        registry.add(name, item)


@pytest.mark.parametrize(("registry", "name", "item", "stanza"), BUILT_IN)
def test_an_item_says_in_one_line_what_it_is(registry, name, item, stanza):
    line = (item if isinstance(item, type) else stanza).__doc__.strip().splitlines()[0]
    assert line.endswith((".", ":")) and line != name


@pytest.mark.parametrize(("registry", "name", "item", "stanza"), [each for each in BUILT_IN if each.values[3]])
def test_a_stanza_refuses_an_unknown_key(registry, name, item, stanza):
    assert issubclass(stanza, Stanza)
    with pytest.raises(ValueError) as refused:
        stanza.model_validate({"no_such_key_here": 1})
    assert explain(refused.value).startswith("unknown key 'no_such_key_here'; ")


def test_a_source_is_built_in_by_its_file_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(registry_module, "_PACKAGE", tmp_path)
    (tmp_path / "sources" / "models").mkdir(parents=True)
    for name in ("zoo_source", "onnx_source", "loading", "attic_source"):
        (tmp_path / "sources" / "models" / f"{name}.py").touch()
    found = registry_module.find_built_in("sources/models", "_source", first=("timm", "onnx"))
    assert list(found) == ["timm", "onnx", "attic", "zoo"], "those that come first in messages, then all others"
    assert found["zoo"] == "dynamic_exit.sources.models.zoo_source:KIND"
