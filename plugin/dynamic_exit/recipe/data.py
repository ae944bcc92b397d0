"""The stanza `data`: where samples come from and how they are split."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ..passes import Stanza
from ..passes.stanza import PathOrName, RecipePath, refuse


class Splits(Stanza):
    """The names of the three disjoint splits."""

    train: str = Field(description="exit heads and fine-tuning")
    calibration: str = Field(description="int8 ranges, choice of savers, thresholds")
    test: str = Field(description="every reported figure; nothing else sees it")


class Columns(Stanza):
    """Columns of text and label: names of columns or keys, or indices from 0 for files without a header."""

    text: str | int = Field("text", description="what is classified")
    pair: str | int | None = Field(None, description="a second text that belongs to the first")
    label: str | int = Field("label", description="the class: its number, or its name")

    @model_validator(mode="after")
    def _check_kinds(self) -> Self:
        columns = [each for each in (self.text, self.pair, self.label) if each is not None]
        if len({type(each) for each in columns}) > 1:
            raise refuse(f"must hold names alone or numbers alone; got {', '.join(map(repr, columns))}")
        return self


class Text(Stanza):
    """How text files are read and tokenized."""

    tokenizer: PathOrName | None = Field(None, description="Hugging Face name or folder; null: the backbone's own")
    max_length: int | None = Field(None, ge=2, description="tokens of a text, cut beyond; null: the tokenizer's limit")
    padding: Literal["longest", "max_length"] = Field("longest", description="to how many tokens texts are filled up")
    columns: Columns = Field(Columns(), description="where text and label stand")

    @model_validator(mode="after")
    def _check_padding(self) -> Self:
        if self.padding == "max_length" and self.max_length is None:
            raise refuse("fills up to `max_length`, which it does not hold; add it")
        return self


class DataSource(Stanza):
    """Where samples come from.

    A split is a name with an optional slice such as ``dev[:50%]``: a share of the named samples, in an order that
    follows from the recipe's seed.
    """

    source: Literal["npz", "imagefolder", "text", "python"] = Field(description="kind of source")
    path: RecipePath = Field(description=".npz or text file, folder, or file.py:function")
    splits: Splits = Field(description="name of each split, with an optional slice")
    classes: list[str] | None = Field(None, description="names of the classes, in the order of the logits")
    layout: Literal["channels_first", "channels_last"] = Field("channels_first", description="of images in the source")
    duplicates: Literal["refuse", "drop"] = Field("refuse", description="drop: leave copies of test samples out")
    text: Text | None = Field(None, description="of `source: text`")

    @property
    def text_options(self) -> Text:
        """The stanza `text`, or its defaults."""
        return self.text or Text()

    @model_validator(mode="before")
    @classmethod
    def _add_text_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("source") == "text" and values.get("text") is None:
            return {**values, "text": {}}
        return values

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.source != "text" and self.text is not None:
            raise refuse(f"holds `text`, which is for `source: text`, not for `source: {self.source}`; remove it")
        return self
