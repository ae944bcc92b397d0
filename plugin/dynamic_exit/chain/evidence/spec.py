"""How a chain combines the answers of its stages: a rule, a confidence, and how much each stage counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...records import Records
from ..confidence import ConfidenceRule, Gate, confidence_rule
from ..names import FINAL
from .base import EvidenceRule, RecordedEvidence
from .registry import evidence_rule

#: In place of the name of a rule: what is cheapest on samples that the search has not seen.
AUTO = "auto"


@dataclass(frozen=True)
class Evidence:
    """How a chain combines the answers of its stages.

    Attributes:
        rule: Name of the evidence rule, such as ``none`` or ``mean``.
        confidence: Name of the confidence rule, such as ``top1``.
        powers: (stage, power) of the stages that do not count as much as the others, whose power is 1.
        gates: (stage, gate) of the stages whose confidence is learned.
    """

    rule: str = "none"
    confidence: str = "top1"
    powers: tuple[tuple[str, float], ...] = ()
    gates: tuple[tuple[str, Gate], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "powers", tuple(sorted((str(name), float(power)) for name, power in self.powers)))
        object.__setattr__(self, "gates", tuple(sorted(self.gates, key=lambda each: each[0])))

    def __str__(self) -> str:
        """Return the names of both rules."""
        return self.rule if self.confidence == "top1" else f"{self.rule} with {self.confidence}"

    @classmethod
    def of(cls, given: "Evidence | str") -> "Evidence":
        """Return evidence as it is, or that of a rule's name with the largest evidence as confidence."""
        return given if isinstance(given, Evidence) else cls(str(given))

    @classmethod
    def from_parameters(
        cls, rule: str, confidence: str = "top1", powers: Mapping[str, float] = {}, gates: Mapping[str, Any] = {}
    ) -> "Evidence":
        """Return the evidence of a rule's name and the parameters as files hold them; older files lack some."""
        known = tuple((name, Gate.model_validate(each)) for name, each in gates.items())
        return cls(rule, confidence, tuple(powers.items()), known)

    @property
    def parameters(self) -> dict[str, Any]:
        """All but the rule's name, in types of JSON."""
        gates = {name: gate.model_dump(mode="json") for name, gate in self.gates}
        return {"confidence": self.confidence, "powers": dict(self.powers), "gates": gates}

    @property
    def evidence_rule(self) -> EvidenceRule:
        """The evidence rule.

        Raises:
            ModelError: There is none of this name.
        """
        return evidence_rule(self.rule)

    @property
    def confidence_rule(self) -> ConfidenceRule:
        """The confidence rule.

        Raises:
            ModelError: There is none of this name.
        """
        return confidence_rule(self.confidence)

    def power(self, stage: str) -> float:
        """Return how much a stage counts, 1 if nothing else is known."""
        return dict(self.powers).get(stage, 1.0)

    def rule_of(self, stage: str) -> EvidenceRule:
        """Return the evidence rule for a stage, with its power."""
        return self.evidence_rule.with_power(self.power(stage))

    def confidence_of(self, stage: str) -> ConfidenceRule:
        """Return the confidence rule for a stage, with its gate."""
        gate = dict(self.gates).get(stage)
        return self.confidence_rule if gate is None else self.confidence_rule.with_gate(gate)

    def of_stages(self, stages: Iterable[str]) -> "Evidence":
        """Return the same for some stages before the final, without what is known of others."""
        wanted = {*stages, FINAL}
        powers = tuple(each for each in self.powers if each[0] in wanted)
        return replace(self, powers=powers, gates=tuple(each for each in self.gates if each[0] in wanted))

    def on(self, records: Records) -> RecordedEvidence:
        """Return what it makes of records."""
        powers = tuple(self.power(stage) for stage in records.stages)
        confidences = tuple(self.confidence_of(stage) for stage in records.stages)
        return RecordedEvidence(records, self.evidence_rule, confidences, powers)
