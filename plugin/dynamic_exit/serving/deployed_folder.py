"""What every replica of a deployment needs to know."""

from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..artifact.non_finite import DEFAULT, NonFinite
from .model import ServedFolder
from .options import ServingOptions


class DeployedFolder(BaseModel):
    """What is served and how; in a configuration file of Ray Serve, the ``args`` of the application.

    Attributes:
        folder: Path of a folder that ``dynamic-exit run`` wrote, the same on every machine that runs replicas.
        name: Name of the model in addresses; None is the folder's own.
        operating_point: Name of the initial point; None is the folder's default.
        threads: Threads within an operator, and processors that a replica reserves.
        non_finite: What is done where an input or an answer is not finite, as for `load_runner`.
        min_replicas: Replicas that always run.
        max_replicas: Replicas that run where requests ask for them.
        options: Limits of each replica. Without a token, it is what ``DYNAMIC_EXIT_TOKEN`` holds where the application
            is built.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: str
    name: str | None = None
    operating_point: str | None = None
    threads: int = Field(1, ge=1)
    non_finite: str = DEFAULT
    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(1, ge=1)
    options: ServingOptions = ServingOptions()

    @model_validator(mode="after")
    def _check(self) -> "DeployedFolder":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas is {self.min_replicas}, above max_replicas, {self.max_replicas}")
        return self

    def load(self) -> ServedFolder:
        """Load the model; raises as `ServedFolder` does."""
        non_finite = cast(NonFinite, self.non_finite)  # which is checked there
        return ServedFolder(Path(self.folder), self.name, self.operating_point, self.threads, non_finite=non_finite)
