"""The registry of evidence rules, by the name that a recipe's `fuse` gives."""

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from ...errors import ModelError, nearest
from .base import EvidenceRule

RuleType = TypeVar("RuleType", bound=type[EvidenceRule])

_RULES: dict[str, EvidenceRule] = {}


def register_evidence(name: str) -> Callable[[RuleType], RuleType]:
    """Register a subclass of `EvidenceRule`; recipes may then name it as `fuse`.

    Args:
        name: A Python identifier that no other rule uses.

    Returns:
        A class decorator.

    Raises:
        ModelError: The name is no identifier or taken, or the class lacks one of the rule's three forms.
    """

    def decorate(kind: RuleType) -> RuleType:
        if not name.isidentifier():
            raise ModelError(f"an evidence rule must be named by an identifier; got '{name}'")
        if name in _RULES:
            raise ModelError(
                f"evidence rule '{name}' is already registered by {type(_RULES[name]).__module__}; choose another name"
            )
        missing = sorted(getattr(kind, "__abstractmethods__", ()))
        if missing:
            raise ModelError(f"evidence rule '{name}' lacks `{missing[0]}`; a rule has numpy, torch and onnx forms")
        _RULES[name] = kind()
        return kind

    return decorate


def evidence_names() -> tuple[str, ...]:
    """Return the names of all rules, in order of registration."""
    return tuple(_RULES)


def evidence_rule(name: str) -> EvidenceRule:
    """Return the rule of a name.

    Raises:
        ModelError: There is none.
    """
    if name not in _RULES:
        raise ModelError(f"there is no evidence rule '{name}'; {nearest(name, _RULES)}")
    return _RULES[name]


def _known(name: str) -> str:
    if name not in _RULES:
        expected = " or ".join(f"'{known}'" for known in _RULES)
        raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
    return name


#: The name of a rule in a recipe or a file.
EvidenceName = Annotated[str, AfterValidator(_known), WithJsonSchema({"enum": ["none", "mean"], "type": "string"})]
