"""What an operating point is made of, as its file holds it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class FileModel(BaseModel):
    """What a file holds: nothing more, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageThreshold(FileModel):
    """A stage in use and its threshold.

    Attributes:
        stage: Its name.
        threshold: A sample exits here if its confidence is above it (float32).
    """

    stage: str
    threshold: Finite


class Guarantee(FileModel):
    """A guarantee that passed its statistical test.

    Attributes:
        max_accuracy_drop: Upper bound of the true drop.
        probability: The bound holds with at least this probability over the draw of the calibration samples.
        samples: Number of calibration samples of the test.
    """

    max_accuracy_drop: Finite
    probability: Annotated[float, Field(gt=0, lt=1)]
    samples: Annotated[int, Field(ge=1)]
