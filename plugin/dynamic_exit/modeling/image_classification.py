"""Dynamic image classifiers."""

from collections.abc import Sequence

from transformers import AutoModelForImageClassification

from ..artifact.inputs import Values
from ..artifact.manifest import IMAGES
from .base import DynamicExitClassifier
from .output import DynamicExitOutput


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
    auto_model_class = AutoModelForImageClassification
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def forward(
        self,
        pixel_values: Values | None = None,
        *,
        thresholds: Sequence[float] | None = None,
        return_dict: bool | None = None,
        **inputs: Values | None,
    ) -> DynamicExitOutput | tuple[Values, ...]:
        """Classify a batch.

        Args:
            pixel_values: (N, ...) torch tensor or numpy array, of the exported shape and dtype. A model with several
                inputs takes them by name.
            thresholds: For this call only, one per stage in `stages`; None uses the current operating point.
            return_dict: False gives a tuple of `logits`, `exit_index` and `confidence`.
            **inputs: Inputs by name. None is as if it were not given; what trainers and tokenizers add, such as
                ``labels``, is left out with one warning.

        Returns:
            Torch tensors if the first input is one, else numpy arrays.

        Raises:
            InputError: An input is missing, unknown, or of a wrong shape or dtype.
            OperatingPointError: The number of thresholds is wrong, or one is NaN.
        """
        given = {self.input_names[0]: pixel_values, **inputs}
        return self._answer({n: value for n, value in given.items() if value is not None}, thresholds, return_dict)
