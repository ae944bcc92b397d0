"""Which algorithms of Neural Compressor can run here, and what the others lack."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

from ...errors import PassError, nearest

if TYPE_CHECKING:
    from neural_compressor.common.base_config import BaseConfig

#: Algorithms that work on an exported graph.
PT2E = ("static_quant", "pt2e_dynamic_quant")
_NO_BLOCKS = "it works block by block, and this model has no stack of equal blocks as Hugging Face's transformers have"

#: Returns what is missing for an algorithm on a model, or None.
Requirement = Callable[["BaseConfig", nn.Module], str | None]


def check_support(config: "BaseConfig", model: nn.Module) -> None:
    """Check that an algorithm of Neural Compressor would neither fail nor silently do something else.

    Args:
        config: Config of the algorithm.
        model: In float.

    Raises:
        PassError: This machine or model lacks something, or a local config matches none of the model's modules.
    """
    requirement = _REQUIREMENTS.get(config.name)
    missing = requirement(config, model) if requirement else None
    if missing:
        raise PassError(f"algorithm '{config.name}' cannot run here: {missing}")
    names = dict(model.named_modules())
    kinds = {type(module).__name__ for module in names.values()}
    for key in config.local_config.keys() - type(config)().local_config.keys():  # some have a default for `lm_head`
        if not isinstance(key, str):
            name, matches = key.__name__, key.__name__ in kinds or hasattr(functional, key.__name__)
        else:
            name, matches = key, key in names if config.name in PT2E else any(re.match(key, known) for known in names)
        if not matches:
            raise PassError(f"algorithm '{config.name}' finds no module '{name}'; {nearest(name, [*names][1:])}")


def _package(module: str, package: str) -> Requirement:
    def missing(config: "BaseConfig", model: nn.Module) -> str | None:
        return None if find_spec(module) else f"the package '{package}' is not installed; install it"

    return missing


def _gaudi(config: "BaseConfig", model: nn.Module) -> str | None:
    device = _accelerator()
    return None if device == "hpu" else f"it needs a Gaudi accelerator (hpu), this machine has {device}; use 'gptq'"


def _accelerator() -> str:
    from neural_compressor.torch.utils import get_accelerator

    name: str = get_accelerator().name()
    return name


def _fp8(config: "BaseConfig", model: nn.Module) -> str | None:
    if _accelerator() != "cpu":
        return None
    if str(config.use_qdq) == "True" and "hw" not in str(config.scale_method).lower():
        return None
    return "on a CPU it needs `use_qdq: true` and a `scale_method` of no accelerator, such as 'maxabs_pow2'; set both"


def _teq(config: "BaseConfig", model: nn.Module) -> str:
    return "it trains inside `run_fn`, of which only the calls of the model are known; use 'awq' or 'gptq'"


def _gptq(config: "BaseConfig", model: nn.Module) -> str | None:
    import transformers
    from neural_compressor.torch.algorithms.weight_only.gptq import trace_gptq_target_blocks

    blocks = trace_gptq_target_blocks(model)["transformers"]
    if not _are_equal_blocks(list(blocks)):
        return f"{_NO_BLOCKS}; use 'rtn'"
    if any(isinstance(part, transformers.Conv1D) for part in blocks.modules()):
        return "its blocks hold Conv1D of transformers, which Neural Compressor's GPTQ cannot quantize; use 'awq'"
    return None


def _awq(config: "BaseConfig", model: nn.Module) -> str | None:
    lists = [module for module in model.modules() if type(module) is nn.ModuleList]
    if lists and _are_equal_blocks(list(lists[0])):
        return None
    return f"{_NO_BLOCKS}, in an nn.ModuleList; use 'rtn'"


def _are_equal_blocks(blocks: Sequence[nn.Module]) -> bool:
    return len({type(block) for block in blocks}) == 1 and any(True for _ in blocks[0].children())


_REQUIREMENTS: dict[str, Requirement] = {
    "smooth_quant": _package("intel_extension_for_pytorch", "intel-extension-for-pytorch"),
    "autoround": _package("auto_round", "auto-round"),
    "hybrid_gptq": _gaudi,
    "fp8_quant": _fp8,
    "teq": _teq,
    "gptq": _gptq,
    "awq": _awq,
}
