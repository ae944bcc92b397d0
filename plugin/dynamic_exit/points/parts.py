"""What an operating point is made of, as its file holds it."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ..chain.evaluation import Evaluation
from ..records import Records

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


#: Version of the file of operating points.
VERSION: Literal[2] = 2


def upgraded_version(version: object) -> object:
    """Return the version of a file that can be read as the newest: what points of version 1 lack has defaults."""
    return VERSION if version == 1 else version


def no_constant(name: str) -> float:
    """Refuse NaN and infinities, which are no numbers of JSON."""
    raise ValueError(f"{name} is no number of JSON")


class FileModel(BaseModel):
    """What a file holds: nothing more, and it never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SparseFileModel(FileModel):
    """What a file holds, without fields that only few have where there is nothing to say.

    Attributes:
        rare: Names of these fields.
    """

    rare: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_rare(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        return {key: value for key, value in content.items() if key not in self.rare or value is not None}


class Baseline(FileModel):
    """The backbone alone, on the samples that the points were measured on.

    Attributes:
        accuracy: 0..1.
        cost: Per sample, in the unit of the file (> 0).
    """

    accuracy: Share
    cost: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StageThreshold(FileModel):
    """A stage in use and its threshold.

    Attributes:
        stage: Its name.
        threshold: A sample exits here if its confidence is above it (float32).
    """

    stage: str
    threshold: Finite


class RiskFigures(FileModel):
    """The risk of a point and of the backbone, on the same samples.

    Attributes:
        name: What users call the risk, such as ``balanced_accuracy``.
        value: 1 less the mean worth of answers.
        increase: Over the backbone's.
    """

    name: str
    value: Finite
    increase: Finite

    @classmethod
    def of(cls, figures: Evaluation, records: Records) -> "RiskFigures | None":
        """Return the figures of an evaluation; None if the risk of the records is accuracy."""
        name = records.risk.name
        return None if name == "accuracy" else cls(name=name, value=figures.risk, increase=figures.risk_increase)


class Guarantee(SparseFileModel):
    """A guarantee that passed its statistical test: all of its bounds hold together.

    Attributes:
        max_accuracy_drop: Upper bound of the true drop; None if the risk is not accuracy.
        max_risk_increase: Upper bound of the true increase of risk; None if the risk is accuracy.
        max_class_drop: Upper bound of the true drop of every class or group; None if there is no such limit.
        probability: The bounds hold with at least this probability over the draw of the calibration samples.
        samples: Number of calibration samples of the test.
    """

    rare: ClassVar[tuple[str, ...]] = ("max_accuracy_drop", "max_risk_increase", "max_class_drop")

    max_accuracy_drop: Finite | None = None
    max_risk_increase: Finite | None = None
    max_class_drop: Finite | None = None
    probability: Annotated[float, Field(gt=0, lt=1)]
    samples: Annotated[int, Field(ge=1)]

    @property
    def allowed_drop(self) -> float:
        """Upper bound of the true drop of accuracy, or increase of risk."""
        bounds = (self.max_accuracy_drop, self.max_risk_increase)
        return next(bound for bound in bounds if bound is not None)

    @model_validator(mode="after")
    def _exactly_one(self) -> "Guarantee":
        if (self.max_accuracy_drop is None) == (self.max_risk_increase is None):
            raise ValueError("a guarantee bounds either max_accuracy_drop or max_risk_increase")
        return self
