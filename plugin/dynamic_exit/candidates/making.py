"""Savers that are made for a run: fitted to a share of the backbone's cost, trained, and kept in the cache."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import safetensors.torch
import torch
from torch import Tensor, nn

from ..core import distributed
from ..core.cache import Cache
from ..core.code_fingerprint import CodeFingerprint
from ..core.hashing import digest
from ..core.model_fingerprint import function_fingerprint
from ..cost import count_macs
from ..data.run_inputs import RunInputs
from ..errors import PassError
from ..graph import Classifier
from ..passes.tiny_saver.makers import MAKERS, Architecture, MakerStanza, MakerTask, SaverMaker, Teaching
from ..passes.training import TrainingRun
from .survey import CandidateSpec
from .teacher import TeacherAnswers, training_samples

logger = logging.getLogger(__name__)

_ARCHITECTURE, _STATE = "architecture.json", "state.safetensors"


class CostMeter(Protocol):
    """Measures what savers cost."""

    @property
    def measured_by(self) -> str:
        """Fingerprint of all that decides a cost besides the saver: unit, numerics, and for seconds the machine."""

    def cost_share(self, name: str, model: Classifier, input_names: Sequence[str], quantize: bool) -> float:
        """Return the cost of an untrained saver as it would be exported, as a share of the backbone's.

        Args:
            name: Of its stage.
            model: The saver, in evaluation mode.
            input_names: Names of its inputs, in order.
            quantize: False leaves it in float whatever the target's quantization.
        """


@dataclass(frozen=True)
class Making:
    """One saver that is to be made."""

    name: str
    stanza: MakerStanza
    share: float


class Fitted(NamedTuple):
    """What fits a saver that is to be made: its maker, its architecture, and the key of what is made of it."""

    maker: SaverMaker
    architecture: Architecture
    made_of: str


@dataclass(frozen=True)
class MakingPlan:
    """What would be made, untrained.

    Attributes:
        spec: The untrained saver.
        steps: Number of training steps, and samples in each.
        views: Views of the training split that the backbone would answer.
    """

    spec: CandidateSpec
    steps: tuple[int, int]
    views: int


class SaverMaking:
    """Makes savers with the exported backbone as their teacher.

    Args:
        run_inputs: The backbone, and the recipe.
        answers: Of the teacher, on all training samples.
        meter: Measures untrained savers.
        cache: Keeps what was made.
    """

    def __init__(self, run_inputs: RunInputs, answers: TeacherAnswers, meter: CostMeter, cache: Cache):
        self.run_inputs, self.answers, self.meter, self.cache = run_inputs, answers, meter, cache
        self.seed = run_inputs.recipe.seed
        samples = answers.samples
        self.task = MakerTask(samples.tensors, run_inputs.classes, run_inputs.backbone)
        labels = torch.from_numpy(samples.labels)
        self._made: dict[str, str] = {}
        self.teaching = Teaching(self.task.inputs, labels, run_inputs.classes, answers)

    def fit(self, making: Making) -> Fitted:
        """Find the most expensive architecture that fits a share.

        Args:
            making: What is to be made.

        Raises:
            PassError: None fits the share, or only one that fits a smaller share, too.
        """
        maker = MAKERS.find(making.stanza.make)(making.stanza, self.task)
        code, stanza = CodeFingerprint(), making.stanza.model_dump_json(exclude={"shares"})
        code.value(type(maker))
        augment = function_fingerprint(getattr(making.stanza, "augment", ""))
        made_of = [self.answers.made_of, code.sum(), stanza, augment, str(self.seed)]
        fits = self._widest(maker, making, digest("fits", made_of, f"{making.share}", self.meter.measured_by))
        known = self._made.setdefault(json.dumps([stanza, fits], sort_keys=True), making.name)
        if known != making.name:
            raise PassError(f"it would be the same as '{known}', which fits a smaller share; give a larger one")
        return Fitted(maker, fits, digest(made_of, json.dumps(fits, sort_keys=True)))

    def cost_share(self, making: Making, fitted: Fitted) -> float | None:
        """Return what a saver will cost as a share of the backbone's cost; None where its maker may prune it."""
        return None if fitted.maker.prunes else self._cost(fitted.maker, fitted.architecture, making)

    def make(self, making: Making, fitted: Fitted, deadline: float | None) -> CandidateSpec:
        """Make one saver.

        Args:
            making: What is to be made.
            fitted: What `fit` returned for it.
            deadline: Of `time.monotonic`, after which training stops; None for none.

        Raises:
            PassError: The training failed.
        """
        maker = fitted.maker
        place = distributed.device().type
        limit = self.run_inputs.recipe.dynamic_exit.tiny_saver
        in_time = "" if limit is None or deadline is None else f"within {limit.time_limit} s"
        key = digest("made", fitted.made_of, place, in_time)

        def train() -> dict[str, bytes]:
            started = time.perf_counter()
            run = TrainingRun(self.seed, f"saver '{making.name}'", f"{making.name}: ", deadline)
            made = maker.fit(fitted.architecture, self.teaching, run)
            logger.info(f"{making.name}: made in {time.perf_counter() - started:.1f} s")
            state = {name: tensor.clone().contiguous() for name, tensor in made.model.state_dict().items()}
            return {
                _ARCHITECTURE: json.dumps(dict(made.architecture)).encode(),
                _STATE: safetensors.torch.save(state),
            }

        def load() -> Classifier:
            files = self.cache.files(key, train)
            model = maker.build(json.loads(files[_ARCHITECTURE]))
            model.load_state_dict(safetensors.torch.load(files[_STATE]))
            return _classifier(model, maker)

        candidate = load()
        macs = count_macs(candidate, candidate.select(self.run_inputs.example))
        return CandidateSpec(making.name, load, key, macs, maker.input_names, making.stanza.quantize)

    def _widest(self, maker: SaverMaker, making: Making, key: str) -> Architecture:
        """Return the most expensive architecture that fits the share; costs rise along the family."""

        def find() -> Architecture | list[float]:
            family = maker.architectures(making.share)
            index, smallest = find_widest(family, lambda each: self._cost(maker, each, making), making.share)
            return [smallest] if index is None else family[index]

        found = self.cache.memo(key, find)
        if isinstance(found, list):
            raise _too_small(making, found[0])
        return found

    def _cost(self, maker: SaverMaker, architecture: Architecture, making: Making) -> float:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = _classifier(maker.build(architecture), maker)
        return self.meter.cost_share(making.name, model, maker.input_names, making.stanza.quantize)


def find_widest(
    family: Sequence[Architecture], cost_of: Callable[[Architecture], float], share: float
) -> tuple[int | None, float]:
    """Find the most expensive architecture that fits a share; costs rise along the family.

    Args:
        family: From the cheapest to the most expensive.
        cost_of: Measures one, as a share of the backbone's cost.
        share: The largest cost that fits.

    Returns:
        Its index, None if none fits, and the cost of the last one that was measured: of the cheapest if none fits.
    """
    low, high, cost = 0, len(family), 0.0
    while low < high:
        middle = (low + high) // 2
        cost = cost_of(family[middle])
        low, high = (middle + 1, high) if cost <= share else (low, middle)
    return (low - 1 if low else None), cost


def plan_making(making: Making, task: MakerTask, backbone_macs: float, example: Mapping[str, Tensor]) -> MakingPlan:
    """Return what would be made for a share of the backbone's multiply-adds, without training it.

    Args:
        making: What is to be made.
        task: Samples and backbone.
        backbone_macs: Of the backbone, per sample.
        example: Inputs of two samples, by name.

    Raises:
        PassError: None fits the share.
    """
    maker = MAKERS.find(making.stanza.make)(making.stanza, task)
    family = maker.architectures(making.share)

    def build(architecture: Architecture) -> Classifier:
        return _classifier(maker.build(architecture), maker)

    def macs_of(architecture: Architecture) -> float:
        model = build(architecture)
        return count_macs(model, model.select(example))

    index, smallest = find_widest(family, lambda each: macs_of(each) / backbone_macs, making.share)
    if index is None:
        raise _too_small(making, smallest)
    best = family[index]
    spec = CandidateSpec(making.name, lambda: build(best), making.name, macs_of(best), maker.input_names)
    return MakingPlan(spec, maker.training_steps(len(next(iter(task.inputs.values())))), maker.views_taught)


def plan_makings(
    run_inputs: RunInputs, makers: Sequence[MakerStanza], note: Callable[[str, str], None] = lambda name, why: None
) -> list[MakingPlan]:
    """Return what makers would make, each maker's cheapest first, without training it.

    Args:
        run_inputs: The backbone, and the samples.
        makers: Their stanzas; `auto` is resolved.
        note: Receives the name of what fits no share, and why; what is the same as for a smaller share is left out
            silently.
    """
    task = MakerTask(training_samples(run_inputs).tensors, run_inputs.classes, run_inputs.backbone)
    macs = count_macs(run_inputs.backbone, run_inputs.backbone.select(run_inputs.example))
    plans: dict[tuple[str, float], MakingPlan] = {}
    for making in list_makings(makers):
        try:
            plan = plan_making(making, task, macs, run_inputs.example)
        except PassError as error:
            note(making.name, str(error))
            continue
        plans.setdefault((making.stanza.make, plan.spec.macs), plan)
    return [*plans.values()]


def _classifier(model: nn.Module, maker: SaverMaker) -> Classifier:
    return Classifier(model.eval(), input_names=maker.input_names).eval()


def _too_small(making: Making, smallest: float) -> PassError:
    return PassError(
        f"no saver of maker '{making.stanza.make}' fits {making.share:g} of the backbone's cost, the smallest "
        f"costs {smallest:.3g}; give a larger share"
    )


def list_makings(stanzas: Sequence[MakerStanza]) -> Iterator[Making]:
    """Yield what makers are to make, each maker's cheapest first."""
    for stanza in stanzas:
        for share in sorted(stanza.shares):
            yield Making(stanza.stage_name(share), stanza, share)
