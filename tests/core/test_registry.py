"""Registries: names, doubles, misspelt names, and items of other distributions."""

import sys
import warnings

import pytest
from distributions import install

from dynamic_exit.core.registry import Registry
from dynamic_exit.errors import DataError

GROUP = "dynamic_exit.things_of_a_test"


def refuse_numbers(name, item):
    if isinstance(item, int):
        raise DataError(f"thing '{name}' must be no number; got {item}")


def make(**options):
    return Registry("thing", DataError, GROUP, check=refuse_numbers, **options)


def first():
    """The first."""


def second():
    """The second."""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with an entry that works and four that do not."""
    module = "def works(): ...\ndef also(): ...\nNUMBER = 3\n"
    entries = {
        "zebra": "things_module:works",
        "apple": "things_module:also",
        "number": "things_module:NUMBER",
        "lost": "no_such_module_of_things:THING",
        "first": "things_module:works",
        "no-name": "things_module:works",
    }
    install(tmp_path / "site", "my-things", {"things_module": module}, {GROUP: entries})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    sys.modules.pop("things_module", None)


def test_items_are_found_by_name_in_order_of_registration():
    registry = make()
    assert registry.register("zulu")(first) is first
    registry.add("alpha", second)
    assert registry.find("zulu") is first
    assert registry.names() == ("zulu", "alpha")
    assert "alpha" in registry
    assert "beta" not in registry


@pytest.mark.parametrize("name", ["", "no-name", "two words", "2"])
def test_a_name_is_an_identifier(name):
    with pytest.raises(DataError, match=f"^a thing must be named by an identifier; got '{name}'$"):
        make().add(name, first)


def test_a_kind_has_its_article():
    with pytest.raises(DataError, match="^an item must be named by an identifier; got ''$"):
        Registry("item", DataError).add("", first)


def test_a_doubled_name_is_refused_by_the_name_of_who_has_it():
    registry = make(reserved={"mine": "the house"})
    registry.add("zulu", first)
    registry.add("alpha", {}, "the alphabet")
    for name, owner in (("zulu", __name__), ("alpha", "the alphabet"), ("mine", "the house")):
        with pytest.raises(DataError) as refused:
            registry.add(name, second)
        assert str(refused.value) == f"thing '{name}' is already registered by {owner}; choose another name"
    assert registry.find("zulu") is first


def test_what_is_of_another_kind_is_refused():
    registry = make()
    with pytest.raises(DataError, match="^thing 'three' must be no number; got 3$"):
        registry.add("three", 3)
    assert registry.names() == ()


def test_a_misspelt_name_is_refused_with_the_nearest():
    registry = make()
    with pytest.raises(DataError, match="^unknown thing 'zulo'; nothing is known here$"):
        registry.find("zulo")
    registry.add("zulu", first)
    with pytest.raises(DataError, match=r"^unknown thing 'zulo'; did you mean 'zulu'\?$"):
        registry.find("zulo")


def test_a_copy_is_given_out():
    registry = make()
    registry.add("zulu", first)
    registry.items().clear()
    registry.registered().clear()
    assert registry.names() == ("zulu",)


def test_entry_points_wait_for_a_name_that_is_not_registered(installed):
    registry = make()
    registry.add("first", first)
    assert registry.find("first") is first
    assert list(registry.registered()) == ["first"]
    with pytest.warns(UserWarning, match=" is left out: "):
        assert registry.find("zebra").__name__ == "works"
    assert registry.find("first") is first, "what is built in stays"


def test_entry_points_stand_last_in_order_of_their_names_and_are_loaded_once(installed):
    registry = make()
    registry.add("first", first)
    with pytest.warns(UserWarning, match=" is left out: "):
        assert registry.names() == ("first", "apple", "zebra")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.load_entry_points()
        assert registry.names() == ("first", "apple", "zebra")


def test_a_broken_entry_point_is_left_out_and_its_name_says_why(installed):
    registry = make()
    registry.add("first", first)
    reasons = {
        "first": f"thing 'first' is already registered by {__name__}; choose another name",
        "lost": "ModuleNotFoundError: No module named 'no_such_module_of_things'",
        "no-name": "a thing must be named by an identifier; got 'no-name'",
        "number": "thing 'number' must be no number; got 3",
    }
    with pytest.warns(UserWarning) as warned:
        registry.load_entry_points()
    told = [str(each.message) for each in warned]
    assert told == [f"thing '{name}' of 'my-things' is left out: {reason}" for name, reason in reasons.items()]
    for name in ("lost", "number", "no-name"):
        with pytest.raises(DataError) as refused:
            registry.find(name)
        assert str(refused.value) == f"thing '{name}' could not be loaded: {reasons[name]}"
    assert registry.why_broken("first") is None
    with pytest.raises(DataError, match=r"^unknown thing 'appel'; did you mean 'apple'\?$"):
        registry.find("appel")


def test_an_item_that_its_own_module_registers_is_no_double(tmp_path, monkeypatch):
    registry = make()
    monkeypatch.setattr("dynamic_exit.core.things_of_a_test", registry, raising=False)
    module = (
        "from dynamic_exit import core\n\n\n@core.things_of_a_test.register('decorated')\ndef decorated_thing(): ...\n"
    )
    entries = {GROUP: {"decorated": "decorated_things:decorated_thing"}}
    install(tmp_path / "site", "decorated-things", {"decorated_things": module}, entries)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert registry.find("decorated").__name__ == "decorated_thing"


def test_a_built_in_item_is_imported_at_its_first_look_up(tmp_path, monkeypatch):
    (tmp_path / "built_in_things.py").write_text("THING = 'thing'\nOTHER = 'other'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = make(built_in={"thing": "built_in_things:THING", "other": "built_in_things:OTHER"})
    registry.add("zulu", first)
    assert "thing" in registry
    assert registry.names() == ("thing", "other", "zulu")
    with pytest.raises(
        DataError, match="^thing 'thing' is already registered by built_in_things; choose another name$"
    ):
        registry.add("thing", first)
    with pytest.raises(DataError, match=r"^unknown thing 'thign'; did you mean 'thing'\?$"):
        registry.find("thign")
    assert "built_in_things" not in sys.modules
    assert registry.find("other") == "other"
    assert "built_in_things" in sys.modules
    assert registry.items() == {"thing": "thing", "other": "other", "zulu": first}
    del sys.modules["built_in_things"]


def test_a_registry_without_a_group_loads_nothing():
    registry = Registry("item", DataError)
    assert registry.names() == ()
    registry.load_entry_points()
