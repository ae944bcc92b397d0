"""The registry of evidence rules, by the name that a recipe's `fuse` gives."""

import functools
from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, WithJsonSchema

from ...core.registry import Registry
from ...errors import ModelError
from ..rule_names import known_name
from .base import EvidenceRule

RuleType = TypeVar("RuleType", bound=type[EvidenceRule])


def _check_rule(name: str, rule: object) -> None:
    if not (isinstance(rule, type) and issubclass(rule, EvidenceRule)):
        raise ModelError(f"evidence rule '{name}' must be a subclass of EvidenceRule; got {rule!r}")
    missing = sorted(rule.__abstractmethods__)
    if missing:
        raise ModelError(f"evidence rule '{name}' lacks `{missing[0]}`; a rule has numpy, torch and onnx forms")


#: The classes of rules by name; the name of an entry point is the name of its rule.
RULES: Registry[type[EvidenceRule]] = Registry("evidence rule", ModelError, "dynamic_exit.evidence", check=_check_rule)


def register_evidence(name: str) -> Callable[[RuleType], RuleType]:
    """Register a subclass of `EvidenceRule` without arguments; recipes may then name it as `fuse`.

    Args:
        name: An identifier that no other rule has.

    Returns:
        A class decorator.

    Raises:
        ModelError: The name is no identifier or taken, or the class lacks one of the rule's three forms.
    """
    return RULES.register(name)


def evidence_names() -> tuple[str, ...]:
    """Return the names of all rules, those of other distributions last."""
    return RULES.names()


def evidence_rule(name: str) -> EvidenceRule:
    """Return the rule of a name.

    Raises:
        ModelError: There is none.
    """
    return _instance(RULES.find(name))


@functools.cache
def _instance(rule: type[EvidenceRule]) -> EvidenceRule:
    return rule()


#: The name of a rule in a recipe or a file.
EvidenceName = Annotated[
    str, AfterValidator(known_name(RULES)), WithJsonSchema({"enum": ["none", "mean", "product"], "type": "string"})
]
