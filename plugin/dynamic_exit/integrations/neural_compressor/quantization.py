"""Neural Compressor's own algorithms, run as its users run them."""

import contextlib
import copy
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from neural_compressor.common.base_config import BaseConfig
from neural_compressor.torch.quantization import convert, prepare, quantize
from neural_compressor.torch.utils import get_accelerator
from neural_compressor.torch.utils.auto_accelerator import auto_detect_accelerator
from torch import nn

from ...core.placement import device_of
from ...errors import DynamicExitError, PassError, first_line
from ...passes.quantization.detect import what_is_quantized
from ...passes.quantization.support import PT2E
from .calibration import CalibrationCalls, require_calls


def quantize_modules(
    config: BaseConfig, model: nn.Module, calls: CalibrationCalls | None, example_inputs: Any
) -> nn.Module:
    """Run an algorithm that replaces modules of a model.

    Args:
        config: Config of the algorithm; it does not change.
        model: In float; it is changed.
        calls: Calibration calls; None if the algorithm needs none.
        example_inputs: As for Neural Compressor's `quantize`; without any, AWQ gets the first sample of the calls.

    Raises:
        PassError: Neural Compressor fails, or found nothing to quantize.
    """
    config = copy.deepcopy(config)
    if config.name == "gptq" and not (config.model_path or config.use_layer_wise or config.use_block_wise):
        config.model_path = "."  # not read in this case, but an empty path is looked up on the network
    if config.name == "awq" and example_inputs is None:
        example_inputs = require_calls("awq", calls).only_input("awq")[0][:1]
    return run_algorithm(config, model, calls.replay if calls else None, example_inputs)


@contextlib.contextmanager
def _on_cpu() -> Iterator[None]:
    """Keep Neural Compressor off a GPU: its AWQ moves the model there, and not what it recorded of the model."""
    try:
        with mock.patch.dict(os.environ, INC_TARGET_DEVICE="cpu"):
            yield
    finally:
        auto_detect_accelerator.cache_clear()
        get_accelerator()


def run_algorithm(
    config: BaseConfig, model: nn.Module, run_fn: Callable[[nn.Module], Any] | None, example_inputs: Any = None
) -> nn.Module:
    """Run an algorithm on a model or on its exported form.

    Args:
        config: Config of the algorithm; it does not change.
        model: In float; it is changed.
        run_fn: Calls the model that it is given on calibration batches.
        example_inputs: As for Neural Compressor's `quantize`.

    Raises:
        PassError: Neural Compressor fails, or found nothing to quantize.
    """
    config, given = copy.deepcopy(config), device_of(model)
    if config.name in PT2E:  # the exported module holds the model under this name
        local = config.local_config.items()
        config.local_config = {f"model.{key}" if isinstance(key, str) else key: value for key, value in local}
    try:
        if config.name == "fp8_quant":  # `quantize` always fails for it
            model = prepare(model, config, example_inputs=example_inputs)
            if run_fn:
                run_fn(model)
            quantized: nn.Module = convert(model)
        else:
            with _on_cpu() if config.name == "awq" else contextlib.nullcontext():
                quantized = quantize(model, config, run_fn=run_fn, example_inputs=example_inputs)
    except DynamicExitError:
        raise
    except Exception as error:  # Neural Compressor may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise PassError(f"Neural Compressor's '{config.name}' failed with {reason}; the model is as it was") from error
    if type(config).__module__.startswith("neural_compressor.") and what_is_quantized(quantized) is None:
        raise PassError(f"'{config.name}' found nothing to quantize in this model; leave it out")
    return quantized.to(given)  # Neural Compressor works on a GPU if there is one, and may leave it there
