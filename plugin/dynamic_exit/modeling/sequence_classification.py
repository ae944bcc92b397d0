"""Dynamic text classifiers."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers.models.auto import modeling_auto

from ..artifact.inputs import as_array
from ..artifact.manifest import TEXT
from ..errors import ExportError
from .base import DynamicExitClassifier, DynamicExitOutput

Values = torch.Tensor | np.ndarray


class DynamicExitModelForSequenceClassification(DynamicExitClassifier):
    """A text classifier that answers early when it is confident, on onnxruntime or torch.

    Args:
        runner: Runs the model.
        config: The model's configuration.
        operating_points: The operating points to switch between.
        operating_point: Name of the initial point; None is the folder's default.
        folder: The model's folder, for `save_pretrained`.
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
            input_ids: Integers (N, L), torch or numpy; L is free if the model was exported so.
            attention_mask: (N, L), 0 for padding; None is all ones.
            token_type_ids: (N, L); None is all zeros. Ignored if the model takes none.
            thresholds: For this call only, one per stage in `stages`; None uses the current operating point.
            **inputs: Further inputs by name.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            ExportError: An input is missing, unknown, or of a wrong shape or dtype; or tokens are masked for a model
                that takes no mask.
            OperatingPointError: The number of thresholds is wrong, or one is NaN.
        """
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {**{name: value for name, value in named.items() if value is not None}, **inputs}
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


# pipelines of transformers log an error for classes that this mapping does not name
modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES["dynamic_exit"] = (
    DynamicExitModelForSequenceClassification.__name__
)
