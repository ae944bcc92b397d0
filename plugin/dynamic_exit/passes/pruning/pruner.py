"""Structured pruning in steps, on torch-pruning's dependency graph, with fine-tuning after each step."""

import copy
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from ...cost import count_macs
from ...errors import PassError, first_line, nearest
from ...graph import Classifier
from ...runtime.model import DynamicExitModel
from ..quantization.detect import what_is_quantized
from .config import PruningStanza
from .count_search import CountSearch
from .fine_tuning import Teacher, fine_tune
from .importance import accumulate_gradients, make_importance, needs_gradients
from .removal_order import Block, Rules, removal_order, units_by_layer, within_ratio
from .structure import Structure, prunable_layers

logger = logging.getLogger(__name__)


def prune(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    stanza: PruningStanza,
    train: Sequence[Tensor] | None = None,
    seed: int = 0,
    *,
    ratios: Mapping[str, float] = MappingProxyType({}),
) -> nn.Module:
    """Return a smaller copy of a classifier, which itself stays as it is.

    Channels are removed with everything that depends on them, the least important first, and attention heads as a
    whole. The layers that compute the logits keep their outputs.

    Args:
        model: Classifier in float; its output is logits (N, C) or contains them.
        example_inputs: Its inputs, batch first; multiply-adds are counted on them.
        stanza: How much to remove, the measure of importance, and the fine-tuning.
        train: Inputs, each (N, ...), and last labels int64 (N,), -1 where unknown; None means no fine-tuning.
        seed: Order of the samples, their augmentation, and random scores.
        ratios: For names of modules, the share to remove there instead of the stanza's.

    Returns:
        The pruned model in evaluation mode.

    Raises:
        PassError: Nothing could be removed, the goal is out of reach, the model is already dynamic or quantized or
            cannot be traced, samples are needed and missing, or training fails.
    """
    if not isinstance(model, Classifier):
        pruned = cast(Classifier, prune(Classifier(model), example_inputs, stanza, train, seed, ratios=ratios))
        return pruned.model
    _check(model, stanza, train)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # random scores use the global generator
        smaller = _PruningRun(model, tuple(example_inputs), stanza, train, seed, ratios).run()
    for parameter, flag in zip(smaller.parameters(), flags, strict=True):
        parameter.requires_grad_(flag)
        parameter.grad = None
    return smaller.eval()


def _check(model: Classifier, stanza: PruningStanza, train: Sequence[Tensor] | None) -> None:
    for part in model.modules():
        if isinstance(part, DynamicExitModel):
            raise PassError("pruning got a model that is dynamic already; prune it before savers and exits are added")
    what = what_is_quantized(model.model)
    if what:
        raise PassError(f"pruning got a model that is quantized already ({what}); prune it before it is quantized")
    for name in stanza.ignored_layers:
        known = [known for known, _ in model.model.named_modules() if known]
        if name not in known:
            raise PassError(
                f"key 'pruning.ignored_layers' names no module of the model: '{name}'; {nearest(name, known)}"
            )
    if needs_gradients(stanza.importance) and train is None:
        raise PassError(f"importance '{stanza.importance}' needs samples to take gradients on, and there are none; use "
                        "another measure, such as magnitude_l2")  # fmt: skip


class _PruningRun:
    """One run of the pass; arguments as for `prune`.

    Attributes:
        teacher: The unpruned model and the training samples; None if nothing is trained.
        macs: Multiply-adds of the unpruned model.
        initial: For each layer that may lose units, their number in the unpruned model.
    """

    def __init__(
        self,
        model: Classifier,
        example: tuple[Tensor, ...],
        stanza: PruningStanza,
        train: Sequence[Tensor] | None,
        seed: int,
        ratios: Mapping[str, float],
    ):
        self.model, self.example, self.stanza, self.seed, self.ratios = model, example, stanza, seed, ratios
        options = stanza.fine_tune
        learns = options.epochs or (stanza.steps > 1 and options.step_epochs) or needs_gradients(stanza.importance)
        self.teacher = None if train is None or not learns else Teacher(model, train[:-1], train[-1])
        self.macs = count_macs(model, example)
        self.initial = prunable_layers(model, example, stanza.ignored_layers, stanza.attention == "heads")

    def run(self) -> Classifier:
        """Return the pruned model."""
        current, steps = copy.deepcopy(self.model), self.stanza.steps
        for step in range(1, steps + 1):
            smaller = self._step(current, step / steps)
            left = count_macs(smaller, self.example) / self.macs
            logger.info(f"pruning, step {step} of {steps}: {left:.1%} of the multiply-adds remain")
            if step == steps:
                self._refuse_nothing(smaller)
            epochs = self.stanza.fine_tune.epochs if step == steps else self.stanza.fine_tune.step_epochs
            if self.teacher is not None and epochs:
                options = self.stanza.fine_tune.model_copy(update={"epochs": epochs})
                name = "the pruned model" if steps == 1 else f"the model pruned in step {step} of {steps}"
                fine_tune(smaller, self.teacher, options, self.seed + step - 1, name)
            current = smaller
        return current

    def _structure(self, model: Classifier) -> Structure:
        stanza = self.stanza
        return Structure(copy.deepcopy(model), self.example, stanza.ignored_layers, stanza.attention == "heads")

    def _step(self, model: Classifier, share: float) -> Classifier:
        """Return a copy without the units that are to be gone after a share of all steps."""
        structure = self._structure(model)
        scores = self._scores(structure)
        own = {name: ratio for name in scores if (ratio := self._own_ratio(structure, name)) is not None}
        fixed = [block for name, ratio in own.items() for block in self._blocks(name, scores[name], ratio * share)]
        free = {name: score for name, score in scores.items() if name not in own}
        cap = max(self.stanza.max_ratio, self.stanza.ratio or 0)
        rules = Rules(self.stanza.scope, self.initial, cap, self.stanza.round_to)
        order = removal_order(free, rules)
        if self.stanza.target_cost is not None:
            return self._for_cost(model, fixed, order, 1 - (1 - self.stanza.target_cost) * share)
        count = within_ratio(order, (self.stanza.ratio or 0) * share, rules, free)
        return self._without(model, [*fixed, *order[:count]])

    def _own_ratio(self, structure: Structure, name: str) -> float | None:
        """Return the ratio set for one of the modules that lose outputs together with a layer, or None."""
        by_module = {structure.model.model.get_submodule(module): ratio for module, ratio in self.ratios.items()}
        return next((by_module[module] for module in structure.units[name].outputs if module in by_module), None)

    def _blocks(self, name: str, score: Tensor, ratio: float) -> list[Block]:
        """Return the least important blocks of one layer, up to a ratio of its own."""
        rules = Rules("layer", self.initial, ratio, self.stanza.round_to)
        return removal_order({name: score}, rules)

    def _scores(self, structure: Structure) -> dict[str, Tensor]:
        """Return the scores of all units by layer, without layers that the measure does not apply to."""
        stanza, scores = self.stanza, {}
        if needs_gradients(stanza.importance) and self.teacher is not None:
            options = stanza.fine_tune
            accumulate_gradients(structure.model, self.teacher.samples, options.augment, options.batch_size, self.seed)
        measure = make_importance(stanza.importance)
        for name in self.initial:
            units = structure.units[name]
            score = measure(units.group)
            if score is not None:
                # measures divide by the mean, which is 0 for a layer of zeros
                score = torch.nan_to_num(score.detach().float())
                scores[name] = torch.stack([score[list(member)].mean() for member in units.members])
        return scores

    def _without(self, model: Classifier, blocks: list[Block]) -> Classifier:
        try:
            pruned = self._structure(model).remove(units_by_layer(blocks))
            with torch.no_grad():
                pruned(*self.example)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:  # what wrong shapes raise
            raise PassError(f"pruned, the model no longer runs: {first_line(error)}; remove less, or name layers in "
                            "`ignored_layers`") from error  # fmt: skip
        return pruned

    def _for_cost(self, model: Classifier, fixed: list[Block], order: list[Block], target: float) -> Classifier:
        """Return a copy without the fewest leading blocks that leave at most a share of the multiply-adds."""

        def without(count: int) -> tuple[Classifier, float]:
            smaller = self._without(model, [*fixed, *order[:count]])
            return smaller, count_macs(smaller, self.example) / self.macs

        found, least = without(len(order))
        if least > target:
            raise PassError(f"`target_cost` {target:g} is out of reach: without all that may go {least:.3f} of the "
                            "multiply-adds remain; raise it, or `max_ratio`")  # fmt: skip
        # no block fewer than none; what remains is nearly linear in the number of blocks
        search = CountSearch(below=-1, enough=len(order), above=1 - target, under=least - target)
        while (count := search.next()) is not None:
            smaller, left = without(count)
            if search.tell(count, left - target):
                found = smaller
        return found

    def _refuse_nothing(self, pruned: Classifier) -> None:
        asked = max(self.stanza.ratio or 0, *self.ratios.values(), 0)
        count, now = (sum(p.numel() for p in model.parameters()) for model in (self.model, pruned))
        if now < count or (self.stanza.target_cost is None and asked == 0):
            return
        goal = f"ratio {asked:g}" if self.stanza.target_cost is None else f"target_cost {self.stanza.target_cost:g}"
        advice = "choose a larger ratio" if self.initial else "the model has no layer that can lose channels"
        raise PassError(f"pruning with {goal} removed nothing; {advice}")
