"""Keys of `source: datasets`."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, PlainSerializer, ValidationInfo, model_validator

from ..passes.stanza import absolute, refuse, relative
from ..recipe.data import Columns, DataSource


def _absolute_if_there(text: str, info: ValidationInfo) -> str:
    """Take a path for one if it looks like it or exists beside the recipe; else it is a name."""
    path = absolute(text, info)
    return path if text[:1] in tuple(".~$/") or text.endswith((".parquet", ".arrow")) or Path(path).exists() else text


class DatasetsSource(DataSource):
    """Keys of `source: datasets`."""

    path: Annotated[str, AfterValidator(_absolute_if_there), PlainSerializer(relative)] = Field(
        description="folder that `save_to_disk` wrote, folder of parquet files, one such file, or a name on the hub"
    )
    config: str | None = Field(None, description="configuration of a dataset by name, such as sst2, or its folder")
    revision: str | None = Field(None, description="branch, tag or commit of a dataset by name")
    inputs: list[str] | None = Field(
        None,
        min_length=1,
        description="columns of inputs, two of text for pairs; null: that of images, that of text, or all of numbers",
    )
    label: str | None = Field(None, description="column of the class; null: label, labels, y or target")
    may_be_text: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if self.text is not None and self.text.columns != Columns():
            raise refuse("holds `text.columns`, which is for text files; name the columns in `inputs` and `label`")
        return self


STANZA = DatasetsSource
