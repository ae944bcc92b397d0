"""Groups of channels and heads that can be removed together (DepGraph, arXiv 2301.12900), found by torch-pruning."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import PassError, first_line
from ...graph import Classifier
from .attention import Attention, find_attentions

if TYPE_CHECKING:  # importing it brings timm, torchvision and torch's compiler, and takes seconds
    from torch_pruning import DependencyGraph
    from torch_pruning.dependency import Dependency, Group


@dataclass(frozen=True)
class Units:
    """Channels, or attention heads, of layers that depend on each other; each unit is removed from all of them.

    Attributes:
        name: Of the layer that represents all of them.
        layer: That layer.
        prune: torch-pruning's function for it.
        members: For each unit, its channels in that layer.
        outputs: The modules that lose outputs.
        group: Everything that depends on all units, as torch-pruning's measures of importance take it.
        heads: Whether the units are attention heads.
    """

    name: str
    layer: nn.Module
    prune: Callable[..., object]
    members: tuple[tuple[int, ...], ...]
    outputs: tuple[nn.Module, ...]
    group: Group
    heads: bool


class Structure:
    """A model and the units that can be removed from it.

    Args:
        model: `remove` changes it in place; from now on all of its parameters require gradients.
        example: Its inputs, batch first.
        ignored: Names of modules that keep all outputs, with everything inside them.
        attention: Whether attention heads may be removed.

    Attributes:
        units: By the name of their layer.

    Raises:
        PassError: torch-pruning cannot trace the model, or finds no layer that computes its logits.
    """

    def __init__(
        self, model: Classifier, example: Sequence[Tensor], ignored: Collection[str] = (), attention: bool = True
    ):
        self.model, self.example = model.eval(), tuple(example)
        self.attentions = find_attentions(model)
        self._names = {module: name for name, module in model.model.named_modules()}
        model.requires_grad_(True)
        self.graph = _trace(model, self.example)
        kept = {part for name in ignored for part in model.model.get_submodule(name).modules()}
        self.units: dict[str, Units] = {}
        classifiers = 0
        for group in self.graph.get_all_groups():
            if self._computes_logits(group):
                classifiers += 1
            elif not _moves_channels(group) and not kept.intersection(self._outputs(group)):
                units = self._units(group, attention)
                if units is not None:
                    self.units[units.name] = units
        if not classifiers:
            raise PassError("pruning found no layer that gives the model's classes, so it cannot protect it; end the "
                            "model with a linear layer or a convolution")  # fmt: skip

    def _outputs(self, group: Group) -> tuple[nn.Module, ...]:
        return tuple(dep.target.module for dep, _ in group if self.graph.is_out_channel_pruning_fn(dep.handler))

    def _computes_logits(self, group: Group) -> bool:
        """Whether some outputs are the logits, or lead to them without another layer."""
        for dep, _ in group:
            last = not dep.target.outputs and self.graph.is_out_channel_pruning_fn(dep.handler)
            if last or dep.target.type == _torch_pruning().ops.OPTYPE.OUTPUT:
                return True
        return False

    def _units(self, group: Group, attention: bool) -> Units | None:
        outputs = self._outputs(group)
        attended = [each for each in self.attentions if not set(each.projections).isdisjoint(outputs)]
        if attended:
            return self._heads(group, outputs, attended) if attention else None
        root, indices = group[0]
        groups = max((self._channel_groups(dep) for dep, _ in group), default=1)
        size = len(indices) // groups
        members = tuple(tuple(index + size * part for part in range(groups)) for index in range(size))
        name = self._names.get(root.target.module)
        if name is None or len(indices) % groups:
            return None
        return Units(name, root.target.module, root.handler, members, outputs, group, False)

    def _heads(self, group: Group, outputs: tuple[nn.Module, ...], attended: list[Attention]) -> Units | None:
        """Return heads as input channels of the layer after the attention, where those of a head are adjacent."""
        behind = [
            dep
            for dep, _ in group
            if isinstance(dep.target.module, nn.Linear) and self.graph.is_in_channel_pruning_fn(dep.handler)
        ]
        if len(behind) != 1 or len(attended) != 1:
            return None
        layer, heads, width = behind[0].target.module, attended[0].heads, attended[0].head_width
        if layer.in_features != heads * width:
            return None
        everything = self.graph.get_pruning_group(layer, behind[0].handler, list(range(layer.in_features)))
        members = tuple(tuple(range(width * head, width * (head + 1))) for head in range(heads))
        return Units(self._names[layer], layer, behind[0].handler, members, outputs, everything, True)

    def _channel_groups(self, dep: Dependency) -> int:
        """Return the number of groups of a layer's channels, all of which must lose the same number."""
        module = dep.target.module
        pruner = self.graph.get_pruner_of_module(module)
        if pruner is None or isinstance(module, nn.Parameter):
            return 1
        if isinstance(module, _torch_pruning().ops.TORCH_CONV) and module.groups == module.out_channels:
            return 1
        if self.graph.is_out_channel_pruning_fn(dep.handler):
            return pruner.get_out_channel_groups(module)
        return pruner.get_in_channel_groups(module)

    def remove(self, chosen: Mapping[str, Sequence[int]]) -> Classifier:
        """Remove units from the model; the structure cannot be used afterwards.

        Args:
            chosen: For each `Units.name`, the indices of the units to remove.

        Returns:
            The model.
        """
        for name, removed in chosen.items():
            units = self.units[name]
            indices = sorted(index for unit in removed for index in units.members[unit])
            if indices:
                self.graph.get_pruning_group(units.layer, units.prune, indices).prune()
        for attention in self.attentions:
            attention.update()
        return self.model


def _trace(model: Classifier, example: tuple[Tensor, ...]) -> DependencyGraph:
    # torch's fused attention layer cannot be traced
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _torch_pruning().DependencyGraph().build_dependency(model, example, forward_fn=_run, verbose=False)
    except Exception as error:  # torch-pruning raises anything on models it cannot trace
        raise PassError(f"torch-pruning cannot follow the model: {first_line(error)}; leave `pruning` out") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _run(model: Classifier, example: tuple[Tensor, ...]) -> Tensor:
    return model(*example)


def _moves_channels(group: Group) -> bool:
    """Whether channels are padded, which torch-pruning does not see: it assumes that they keep their indices."""
    for dep, _ in group:
        for node in (dep.source, dep.target):
            pad = getattr(node.grad_fn, "_saved_pad", ())
            # two numbers per dimension, from the last one on: width, height, channels
            if len(pad) > 4 and any(pad[4:]):
                return True
    return False


def prunable_layers(
    model: Classifier, example: Sequence[Tensor], ignored: Collection[str], attention: bool
) -> dict[str, int]:
    """Find the units that torch-pruning handles correctly: the model runs without half of them.

    Args:
        model: The model; it stays as it is.
        example: Its inputs, batch first.
        ignored: Names of modules that keep all outputs, with everything inside them.
        attention: Whether attention heads may be removed.

    Returns:
        The number of units of each layer that may lose some, by its name.

    Raises:
        PassError: torch-pruning cannot trace the model at all.
    """

    def structure() -> Structure:
        return Structure(copy.deepcopy(model), example, ignored, attention)

    def runs(names: Collection[str], structure: Structure) -> bool:
        halves = {name: range(len(structure.units[name].members) // 2) for name in names}
        try:
            structure.remove(halves)
            with torch.no_grad():
                return structure.model(*example).shape == shape
        except Exception:  # wrong shapes may raise anything
            return False

    with torch.no_grad():
        shape = model(*example).shape
    whole = structure()
    counts = {name: len(units.members) for name, units in sorted(whole.units.items())}
    if runs(counts, whole):
        return counts
    sound = {name: count for name, count in counts.items() if runs([name], structure())}
    if not runs(sound, structure()):
        raise PassError("torch-pruning cannot follow the model: pruned, it no longer runs; name layers in "
                        "`ignored_layers`, or leave `pruning` out")  # fmt: skip
    return sound


def _torch_pruning() -> ModuleType:
    return importlib.import_module("torch_pruning")
