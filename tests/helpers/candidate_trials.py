"""The choice of savers alone, on a recipe of the tiny world, beside a backbone that is exported once."""

import functools

import tiny
import torch
from log_lines import log_lines

from dynamic_exit.candidates.evaluation import select_candidates
from dynamic_exit.candidates.pool import CandidatePool
from dynamic_exit.graph import Classifier
from dynamic_exit.passes.quantization import int8_options
from dynamic_exit.pipeline.backbone import cut_backbone
from dynamic_exit.pipeline.inputs import load_run_inputs
from dynamic_exit.recipe import read_recipe
from dynamic_exit.runtime.stages import StageSet
from dynamic_exit.targets.onnxruntime import OnnxRuntimeTarget

SAVERS = "dynamic_exit.tiny_saver"
INT8 = {"static_quant": {"w_dtype": "int8", "act_dtype": "uint8"}}


@functools.cache
def shipped_backbone(quantized):
    """The target and the exported backbone's stages, made once."""
    samples = tiny.samples("calibration")[0]
    backbone = cut_backbone(Classifier(tiny.backbone()).eval(), {"input": torch.from_numpy(samples[:2])}, None)
    options = next(iter(int8_options(INT8 if quantized else None)), None)
    target = OnnxRuntimeTarget(options, {"input": samples}, threads=1)
    return target, backbone.input_names, target.export_backbone(backbone), {"final": backbone.depth}


class Trial:
    """The pass alone, on a recipe: the table, the savers chosen, and the lines that it logged."""

    def __init__(self, recipe, cache, **overrides):
        values = {f"{SAVERS}.{key}": value for key, value in overrides.items() if key not in ("cost", "quantization")}
        if "cost" in overrides:
            values["dynamic_exit.tuning.cost"] = overrides["cost"]
        if "quantization" in overrides:
            values["quantization"] = overrides["quantization"]
        run_inputs = load_run_inputs(read_recipe(recipe, values))
        self.target, *backbone = shipped_backbone(run_inputs.recipe.quantization is not None)
        self.stages = StageSet(*backbone)
        with log_lines() as self.said:
            self.pool = CandidatePool(run_inputs, cache)
            self.stages, self.table = select_candidates(self.pool, self.stages, self.target)

    @property
    def rows(self):
        return {row.stage: row for row in self.table}
