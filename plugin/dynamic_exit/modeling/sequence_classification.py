"""Dynamic text classifiers."""

from collections.abc import Sequence

import numpy as np
from transformers import AutoModelForSequenceClassification

from ..artifact.inputs import Values, as_array
from ..artifact.manifest import TEXT
from ..errors import InputError
from .base import DynamicExitClassifier
from .output import DynamicExitOutput


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
    auto_model_class = AutoModelForSequenceClassification
    main_input_name = "input_ids"
    input_modalities = ("text",)

    def forward(
        self,
        input_ids: Values | None = None,
        attention_mask: Values | None = None,
        token_type_ids: Values | None = None,
        *,
        thresholds: Sequence[float] | None = None,
        return_dict: bool | None = None,
        **inputs: Values | None,
    ) -> DynamicExitOutput | tuple[Values, ...]:
        """Classify a batch.

        Args:
            input_ids: Integers (N, L), torch or numpy; L is free if the model was exported so.
            attention_mask: (N, L), 0 for padding; None is all ones.
            token_type_ids: (N, L); None is all zeros. Ignored if the model takes none.
            thresholds: For this call only, one per stage in `stages`; None uses the current operating point.
            return_dict: False gives a tuple of `logits`, `exit_index` and `confidence`.
            **inputs: Further inputs by name. None is as if it were not given; what trainers and tokenizers add, such as
                ``labels``, is left out with one warning.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            InputError: An input is missing, unknown, or of a wrong shape or dtype; or tokens are masked for a model
                that takes no mask.
            OperatingPointError: The number of thresholds is wrong, or one is NaN.
        """
        named = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {name: value for name, value in (*named.items(), *inputs.items()) if value is not None}
        if "token_type_ids" not in self.input_names:
            given.pop("token_type_ids", None)
        if "attention_mask" in given and "attention_mask" not in self.input_names:
            if not as_array("attention_mask", given.pop("attention_mask")).all():
                raise InputError("the model takes no attention_mask, and some tokens are masked; give them unpadded")
        if "input_ids" in given:
            for name, fill in (("attention_mask", 1), ("token_type_ids", 0)):
                if name in self.input_names:
                    given.setdefault(name, np.full(as_array("input_ids", given["input_ids"]).shape, fill, np.int64))
        return self._answer(given, thresholds, return_dict)
