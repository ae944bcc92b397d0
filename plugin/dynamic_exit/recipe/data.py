"""The stanza `data`: where samples come from and how they are split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ..core.registry import Registry, find_built_in
from ..errors import DataError
from ..passes import Stanza
from ..passes.kinds import add_names, check_registered, stanza_of_kind
from ..passes.stanza import PathOrName, RecipePath, refuse


class Splits(Stanza):
    """The names of the disjoint splits."""

    train: str = Field(description="exit heads, fine-tuning and making savers")
    calibration: str = Field(description="int8 ranges, choice of savers, thresholds")
    test: str = Field(description="every reported figure; nothing else sees it")
    unlabelled: str | None = Field(
        None,
        description="further samples, whose labels are not looked at: savers are made with them, or, where none are "
        "made, thresholds searched",
    )

    @property
    def names(self) -> dict[str, str]:
        """The splits that are named, by key."""
        return {key: name for key, name in self.model_dump().items() if name is not None}


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
        if any(isinstance(each, int) and each < 0 for each in columns):
            raise refuse(f"must count columns from 0; got {min(map(int, columns))}")
        if len({*columns}) < len(columns):
            raise refuse("names one column twice; text, pair and label need columns of their own")
        return self


class Text(Stanza):
    """How text files are read and tokenized."""

    tokenizer: PathOrName | None = Field(None, description="Hugging Face name or folder; null: the backbone's own")
    max_length: int | None = Field(None, ge=2, description="tokens of a text, cut beyond; null: the tokenizer's limit")
    padding: Literal["longest", "max_length"] = Field("longest", description="to how many tokens texts are filled up")
    columns: Columns = Field(Columns(), description="where text and label stand")
    missing: Literal["refuse", "drop"] = Field(
        "refuse", description="of a text or label that is null; drop: leave such rows out, and those of an empty one"
    )

    @model_validator(mode="after")
    def _check_padding(self) -> Self:
        if self.padding == "max_length" and self.max_length is None:
            raise refuse("fills up to `max_length`, which it does not hold; add it")
        return self


class DataSource(Stanza):
    """Where samples come from.

    A split is a name with an optional slice such as ``dev[:50%]``: a share of the named samples, in an order that
    follows from the recipe's seed. Of data without splits, such as a folder of class folders, the slice alone stands:
    ``[:60%]``.
    """

    source: str = Field(description="kind of source", json_schema_extra=lambda schema: add_names(schema, DATA_SOURCES))
    path: RecipePath = Field(description=".npz or text file, folder, or file.py:function")
    splits: Splits = Field(description="name of each split, with an optional slice")
    classes: list[str] | None = Field(None, description="names of the classes, in the order of the logits")
    stratify: bool = Field(
        False,
        description="true: slices such as ``dev[:50%]`` hold each class in proportion, as far as whole samples can",
    )
    layout: Literal["channels_first", "channels_last"] = Field("channels_first", description="of images in the source")
    duplicates: Literal["refuse", "drop"] = Field("refuse", description="drop: leave copies of test samples out")
    groups: str | int | None = Field(
        None,
        description="column or array of the groups that `tuning.max_class_drop` is kept for; null: the classes",
    )
    max_bad: int = Field(0, ge=0, description="image files that cannot be read and are left out, at most")
    text: Text | None = Field(None, description="of `source: text`, and of `source: datasets` where texts are read")
    #: Whether samples of this kind may be texts.
    may_be_text: ClassVar[bool] = False

    @property
    def is_text(self) -> bool:
        """Whether the samples are texts, which need a tokenizer."""
        return self.text is not None

    @property
    def text_options(self) -> Text:
        """The stanza `text`, or its defaults."""
        return self.text or Text()

    @field_validator("source", mode="before")
    @classmethod
    def _check_source(cls, name: Any) -> str:
        return check_registered(name, DATA_SOURCES)

    @model_validator(mode="before")
    @classmethod
    def _add_text_defaults(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("source") == "text" and values.get("text") is None:
            return {**values, "text": {}}
        return values

    @model_validator(mode="after")
    def _check_text(self) -> Self:
        if self.source != "text" and not self.may_be_text and self.text is not None:
            raise refuse(f"holds `text`, which is for `source: text`, not for `source: {self.source}`; remove it")
        return self


@dataclass(frozen=True)
class DataKind:
    """A kind of data source.

    Attributes:
        stanza: Model of its keys: `DataSource`, or a subclass with further ones.
        make: ``(stanza, request) -> reader``, with a `ReadRequest`; the reader maps the name of a split to its inputs
            and labels.
    """

    stanza: type[DataSource]
    make: Callable[[Any, Any], Callable[[str], Any]]


def _check_kind(name: str, kind: object) -> None:
    if not (isinstance(kind, DataKind) and isinstance(kind.stanza, type) and issubclass(kind.stanza, DataSource)):
        raise DataError(
            f"data source '{name}' must be a DataKind whose stanza is a subclass of DataSource; got {kind!r}"
        )


#: The kinds by the name that recipes use; the name of an entry point is the name of its kind.
DATA_SOURCES: Registry[DataKind] = Registry(
    "data source",
    DataError,
    "dynamic_exit.data",
    built_in=find_built_in("data", "_source", first=("npz", "imagefolder", "text", "python", "datasets")),
    check=_check_kind,
)
#: The stanza of the kind that its `source` names.
AnyDataSource = Annotated[SerializeAsAny[DataSource], stanza_of_kind(DATA_SOURCES, plain=DataSource)]
