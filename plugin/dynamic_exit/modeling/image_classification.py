"""Dynamic image classifiers."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers.models.auto import modeling_auto

from ..artifact.manifest import IMAGES
from .base import DynamicExitClassifier, DynamicExitOutput

Values = torch.Tensor | np.ndarray


class DynamicExitModelForImageClassification(DynamicExitClassifier):
    """An image classifier that answers early when it is confident, on onnxruntime or torch.

    Args:
        runner: Runs the model.
        config: The model's configuration.
        operating_points: The operating points to switch between.
        operating_point: Name of the initial point; None is the folder's default.
        folder: The model's folder, for `save_pretrained`.
    """

    task = IMAGES
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def forward(
        self, pixel_values: Values | None = None, *, thresholds: Sequence[float] | None = None, **inputs: Values
    ) -> DynamicExitOutput:
        """Classify a batch.

        Args:
            pixel_values: (N, ...) torch tensor or numpy array, of the exported shape and dtype. A model with several
                inputs takes them by name.
            thresholds: For this call only, one per stage in `stages`; None uses the current operating point.
            **inputs: Inputs by name.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            ExportError: An input is missing, unknown, or of a wrong shape or dtype.
            OperatingPointError: The number of thresholds is wrong, or one is NaN.
        """
        if pixel_values is not None:
            inputs = {self.input_names[0]: pixel_values, **inputs}
        return self._answer(inputs, thresholds)


# pipelines of transformers log an error for classes that this mapping does not name
modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES["dynamic_exit"] = (
    DynamicExitModelForImageClassification.__name__
)
