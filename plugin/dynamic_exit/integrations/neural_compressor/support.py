"""Which of Neural Compressor's algorithms can run here, found out by looking, and what the others lack."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import transformers
from neural_compressor.common.base_config import BaseConfig
from neural_compressor.torch.utils import get_accelerator
from torch import nn
from torch.nn import functional

from ...errors import PassError, nearest
from ...passes.quantization.detect import what_is_quantized
from ...runtime.model import DynamicExitModel

#: Those that work on an exported graph.
PT2E = ("static_quant", "pt2e_dynamic_quant")
_STACK = "it works block by block, and this model has no stack of equal blocks as Hugging Face's transformers have"


def refuse_dynamic(name: str, model: nn.Module) -> None:
    """Refuse a model that has savers or exits already.

    Raises:
        PassError: It has.
    """
    if isinstance(model, DynamicExitModel):
        raise PassError(f"pass '{name}' got a model that is dynamic already; name all passes in one recipe instead")


def refuse_quantized(model: nn.Module) -> None:
    """Refuse a model that is quantized already; Neural Compressor's own flag says so of others, too.

    Raises:
        PassError: Some part of it is quantized.
    """
    what = what_is_quantized(model)
    if what:
        raise PassError(f"the model is quantized already ({what}); give it in float and name all passes at once")


def check_support(config: BaseConfig, model: nn.Module) -> None:
    """Refuse an algorithm of Neural Compressor that would fail, or silently do something else.

    Args:
        config: Of an algorithm of Neural Compressor.
        model: In float.

    Raises:
        PassError: What is missing on this machine or in this model, or a local config that fits none of its modules.
    """
    lacks = _LACKS.get(config.name, lambda config, model: None)(config, model)
    if lacks:
        raise PassError(f"algorithm '{config.name}' cannot run here: {lacks}")
    names = dict(model.named_modules())
    kinds = {type(module).__name__ for module in names.values()}
    for key in config.local_config.keys() - type(config)().local_config.keys():  # some have one for `lm_head`
        if not isinstance(key, str):
            name, fits = key.__name__, key.__name__ in kinds or hasattr(functional, key.__name__)
        else:
            name, fits = key, key in names if config.name in PT2E else any(re.match(key, known) for known in names)
        if not fits:
            raise PassError(f"algorithm '{config.name}' finds no module '{name}'; {nearest(name, [*names][1:])}")


def _package(module: str, package: str) -> Callable[[BaseConfig, nn.Module], str | None]:
    def lacks(config: BaseConfig, model: nn.Module) -> str | None:
        return None if find_spec(module) else f"the package '{package}' is not installed; install it"

    return lacks


def _gaudi(config: BaseConfig, model: nn.Module) -> str | None:
    device = get_accelerator().name()
    return None if device == "hpu" else f"it needs a Gaudi accelerator (hpu), this machine has {device}; use 'gptq'"


def _fp8(config: BaseConfig, model: nn.Module) -> str | None:
    if get_accelerator().name() != "cpu":
        return None
    if str(config.use_qdq) == "True" and "hw" not in str(config.scale_method).lower():
        return None
    return "on a CPU it needs `use_qdq: true` and a `scale_method` of no accelerator, such as 'maxabs_pow2'; set both"


def _trains(config: BaseConfig, model: nn.Module) -> str:
    return "it trains inside `run_fn`, of which only the calls of the model are known; use 'awq' or 'gptq'"


def _gptq(config: BaseConfig, model: nn.Module) -> str | None:
    from neural_compressor.torch.algorithms.weight_only.gptq import trace_gptq_target_blocks

    blocks = trace_gptq_target_blocks(model)["transformers"]
    if not _alike(blocks):
        return f"{_STACK}; use 'rtn'"
    if any(isinstance(part, transformers.Conv1D) for part in blocks.modules()):
        return "its blocks hold Conv1D of transformers, which Neural Compressor's GPTQ cannot quantize; use 'awq'"
    return None


def _awq(config: BaseConfig, model: nn.Module) -> str | None:
    lists = [module for module in model.modules() if type(module) is nn.ModuleList]
    return None if lists and _alike(lists[0]) else f"{_STACK}, in an nn.ModuleList; use 'rtn'"


def _alike(blocks: Sequence[nn.Module]) -> bool:
    return len({type(block) for block in blocks}) == 1 and any(blocks[0].children())


_LACKS: dict[str, Callable[[BaseConfig, nn.Module], str | None]] = {
    "smooth_quant": _package("intel_extension_for_pytorch", "intel-extension-for-pytorch"),
    "autoround": _package("auto_round", "auto-round"),
    "hybrid_gptq": _gaudi,
    "fp8_quant": _fp8,
    "teq": _trains,
    "gptq": _gptq,
    "awq": _awq,
}
