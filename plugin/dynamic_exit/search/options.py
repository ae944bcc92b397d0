"""Options that every step of the search shares."""

from dataclasses import dataclass, replace

from ..chain.confidence import confidence_names
from ..chain.evidence import AUTO, Evidence, evidence_names
from ..chain.rule_names import listed
from ..errors import TuningError
from ..learning import learn_gates, learn_posterior, learn_powers
from ..records import Records
from ..records.risk import Accuracy, Risk
from ..records.stage_table import StageTable


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes:
        fuse: How the answers of stages are combined; the name of a rule stands for that rule with the largest evidence
            as confidence. `AUTO` may stand for the name of either rule where whole tunings are run.
        max_savers: The largest number of savers in use; any number if None.
        seed: Decides whatever is random.
        beam_width: How many chains of each length the beam search keeps per goal, and how many get exact thresholds,
            more where that is cheap.
        thorough: Whether the best solutions are searched further: from other starts, and with other stages.
        risk: What goals are about: how much an answer is worth.
        posterior: Whether answers are worth the probability that they are right, given all stages, in place of what
            labels say; None leaves it to whole tunings, which see whether it pays on labels held out.
        unlabelled: Further samples that are searched with a posterior; their labels are not looked at.

    Raises:
        TuningError: An option is out of its range.
    """

    fuse: Evidence = Evidence("mean")
    max_savers: int | None = None
    seed: int = 0
    beam_width: int = 8
    thorough: bool = True
    risk: Risk = Accuracy()
    posterior: bool | None = None
    unlabelled: Records | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "fuse", Evidence.of(self.fuse))
        rules = ("fuse", self.fuse.rule, evidence_names()), ("confidence", self.fuse.confidence, confidence_names())
        for key, value, names in rules:
            if value not in (AUTO, *names):
                raise TuningError(f"{key} must be {listed(names)}; got '{value}'")
        if self.max_savers is not None and self.max_savers < 0:
            raise TuningError(f"max_savers must be 0 or more; got {self.max_savers}")

    def learned_on(self, records: Records) -> "SearchOptions":
        """Return the options with what records teach of stages: powers where there are none, and new gates."""
        return replace(self, fuse=learn_gates(records, learn_powers(records, self.fuse, self.seed), self.seed))

    def samples_of(self, records: Records) -> Records:
        """Return what is searched: records as they are, or with a posterior learned from them and further samples."""
        if not self.posterior:
            return records
        further = None if self.unlabelled is None else self.unlabelled.select(records.stages[:-1])
        return learn_posterior(records, further)

    def table_of(self, records: Records) -> StageTable:
        """Return the stages of records as a table whose chains keep the limit of savers."""
        return replace(records.stage_table, max_savers=self.max_savers)

    def quick(self) -> "SearchOptions":
        """Return the options of a plain search, for searches that are repeated many times."""
        return replace(self, thorough=False)
