"""Dynamic models by what they classify."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from transformers.models.auto import modeling_auto

from ..artifact.folder import MODEL_FILE, POINTS_FILE, find_folder, read_config
from ..artifact.inputs import as_array
from ..artifact.manifest import IMAGES, TEXT
from ..chain.thresholds import point_thresholds
from ..errors import ExportError
from .base import DynamicExitClassifier, DynamicExitOutput

__all__ = [
    "MODEL_FILE",
    "POINTS_FILE",
    "DynamicExitModelForImageClassification",
    "DynamicExitModelForSequenceClassification",
    "DynamicExitOutput",
    "load_any",
    "point_thresholds",
]

Values = torch.Tensor | np.ndarray


class DynamicExitModelForImageClassification(DynamicExitClassifier):
    """An image classifier that leaves early where it is sure, on onnxruntime or torch.

    Args:
        runner: What answers.
        config: Its configuration.
        operating_points: What can be switched to.
        operating_point: The point to start with, or None for the folder's default.
        folder: Where the files lie, for `save_pretrained`.
    """

    task = IMAGES
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def forward(
        self, pixel_values: Values | None = None, *, thresholds: Sequence[float] | None = None, **inputs: Values
    ) -> DynamicExitOutput:
        """Classify a batch.

        Args:
            pixel_values: (N, ...) torch tensor or numpy array, as the model was exported; a model with several inputs
                takes them by name.
            thresholds: For this call alone, one for each of `stages`; None is the operating point in force.
            **inputs: Inputs by name.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            ExportError: An input is missing, unknown, or of a wrong shape or type.
            OperatingPointError: Thresholds of another count, or NaN.
        """
        if pixel_values is not None:
            inputs = {self.input_names[0]: pixel_values, **inputs}
        return self._answer(inputs, thresholds)


class DynamicExitModelForSequenceClassification(DynamicExitClassifier):
    """A text classifier that leaves early where it is sure, on onnxruntime or torch.

    Args:
        runner: What answers.
        config: Its configuration.
        operating_points: What can be switched to.
        operating_point: The point to start with, or None for the folder's default.
        folder: Where the files lie, for `save_pretrained`.
    """

    task = TEXT
    main_input_name = "input_ids"
    input_modalities = ("text",)

    def forward(
        self,
        input_ids: Values | None = None,
        attention_mask: Values | None = None,
        token_type_ids: Values | None = None,
        *,
        thresholds: Sequence[float] | None = None,
        **inputs: Values,
    ) -> DynamicExitOutput:
        """Classify a batch.

        Args:
            input_ids: whole numbers (N, L), torch or numpy; L is free where the model was exported so.
            attention_mask: (N, L), 0 where a token is padding; None is all ones.
            token_type_ids: (N, L); None is all zeros, and without effect where the model takes none.
            thresholds: For this call alone, one for each of `stages`; None is the operating point in force.
            **inputs: Further inputs by name.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            ExportError: An input is missing, unknown, or of a wrong shape or type; or tokens are masked for a model
                that takes no mask.
            OperatingPointError: Thresholds of another count, or NaN.
        """
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {**{name: value for name, value in given.items() if value is not None}, **inputs}
        if "token_type_ids" not in self.input_names:
            inputs.pop("token_type_ids", None)
        if "attention_mask" in inputs and "attention_mask" not in self.input_names:
            if not as_array(inputs.pop("attention_mask")).all():
                raise ExportError("the model takes no attention_mask, and some tokens are masked; give them unpadded")
        if "input_ids" in inputs:
            for name, fill in (("attention_mask", 1), ("token_type_ids", 0)):
                if name in self.input_names:
                    inputs.setdefault(name, np.full(as_array(inputs["input_ids"]).shape, fill, np.int64))
        return self._answer(inputs, thresholds)


CLASSES = {IMAGES: DynamicExitModelForImageClassification, TEXT: DynamicExitModelForSequenceClassification}
# transformers' pipelines log an error about classes whose names are not listed here
modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES["dynamic_exit"] = CLASSES[IMAGES].__name__
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["dynamic_exit"] = CLASSES[TEXT].__name__


def load_any(model_id: str | os.PathLike, **options) -> DynamicExitClassifier:
    """Load a dynamic model from a folder, of whatever class its configuration says.

    Args:
        model_id: A folder that ``dynamic-exit run`` wrote.
        **options: As for `from_pretrained`.

    Returns:
        The model.

    Raises:
        ExportError: As `from_pretrained`, or a task for which there is no class.
    """
    folder = find_folder(model_id, local_files_only=True)
    config = read_config(folder)
    if config.task not in CLASSES:
        raise ExportError(f"'{folder}' is for {config.task}; known are {', '.join(CLASSES)}")
    return CLASSES[config.task].from_pretrained(folder, config, **options)
