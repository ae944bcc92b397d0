"""Keys of `source: webdataset`."""

from pydantic import Field

from ..recipe.data import DataSource


class WebDatasetSource(DataSource):
    """Keys of `source: webdataset`."""

    image: str | None = Field(None, description="ending of the images; null: that of any format that is read")
    label: str | None = Field(None, description="ending of the files of labels; null: cls, else json, else txt")
    label_key: str = Field("label", description="key of the label in files that end in json")


STANZA = WebDatasetSource
