"""What the registries of evidence and of confidence rules share: classes by name, and one instance of each."""

from collections.abc import Callable
from typing import TypeVar

from pydantic_core import PydanticCustomError

from ..core.registry import Registry
from ..errors import ModelError
from .rule_names import listed

Rule = TypeVar("Rule")


class RuleRegistry(Registry[type[Rule]]):
    """The classes of rules by name; the name of an entry point is the name of its rule.

    Args:
        kind: What a rule is, in messages, such as ``evidence rule``.
        group: Entry point group.
        base: What rules derive from; they take no arguments.
    """

    def __init__(self, kind: str, group: str, base: type[Rule]) -> None:
        def check(name: str, rule: object) -> None:
            if not (isinstance(rule, type) and issubclass(rule, base)):
                raise ModelError(f"{kind} '{name}' must be a subclass of {base.__name__}; got {rule!r}")
            missing = sorted(getattr(rule, "__abstractmethods__", ()))
            if missing:
                raise ModelError(f"{kind} '{name}' lacks `{missing[0]}`; a rule has numpy, torch and onnx forms")

        super().__init__(kind, ModelError, group, check=check)
        self._instances: dict[type[Rule], Rule] = {}

    def instance(self, name: str) -> Rule:
        """Return the rule of a name.

        Raises:
            ModelError: There is none.
        """
        rule = self.find(name)
        if rule not in self._instances:
            self._instances[rule] = rule()
        return self._instances[rule]

    def known_name(self, *others: str) -> Callable[[str], str]:
        """Return a pydantic validator of the names of rules.

        Args:
            others: Further names that are accepted.
        """

        def check(name: str) -> str:
            if name not in others and name not in self:
                expected = {"expected": listed((*others, *self.names()))}
                raise PydanticCustomError("literal_error", "Input should be {expected}", expected)
            return name

        return check
