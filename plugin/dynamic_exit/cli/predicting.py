"""The command `predict`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..core.batching import DEFAULT_BATCH_SIZE
from ..errors import DataError
from ..prediction.options import SHARD_ROWS
from .options import Folder, Json, Progress
from .terminal import prints_on_stderr


@dataclass(frozen=True)
class TextColumns:
    """Where texts stand."""

    column: Annotated[
        str | None, typer.Option(help="of texts: name, or number from 0 without a header; default: the recipe's")
    ] = None
    pair: Annotated[str | None, typer.Option(help="with --column: of second texts that belong to the first")] = None

    def names(self) -> tuple[str | int, ...] | None:
        """Return the columns; None if the recipe says which.

        Raises:
            DataError: Names and numbers are mixed, or there is a second one alone.
        """
        if self.column is None:
            if self.pair is not None:
                raise DataError("--pair names a second column of texts; name the first as --column")
            return None
        given = [each for each in (self.column, self.pair) if each is not None]
        numbered = [each.isdecimal() for each in given]
        if any(numbered) and not all(numbered):
            raise DataError(f"--column and --pair must both be names or both be numbers; got {', '.join(given)}")
        return tuple(int(each) if each.isdecimal() else each for each in given)


@dataclass(frozen=True)
class Answering:
    """How rows are answered and kept."""

    operating_point: Annotated[str | None, typer.Option(help="name; default: the folder's")] = None
    batch_size: Annotated[int, typer.Option(min=1, help="rows in one call")] = DEFAULT_BATCH_SIZE
    shard_rows: Annotated[
        int, typer.Option(min=1, help="rows in a shard, which an interrupted run need not answer again")
    ] = SHARD_ROWS
    max_bad: Annotated[int, typer.Option(min=0, help="rows that may have no answer, such as broken pictures")] = 0
    ray: Annotated[
        bool, typer.Option("--ray", help="shards side by side: on the cluster in RAY_ADDRESS, else on all cores here")
    ] = False
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="replace what is there, and begin anew where it was made of other things"),
    ] = False


def predict(
    folder: Folder,
    data: Annotated[Path, typer.Argument(help="folder of pictures, text file or .npz; labels are not read")],
    *,
    output: Annotated[Path, typer.Option(help="one file if it ends in .parquet, else a folder of shards")],
    columns: TextColumns,
    answering: Answering,
    as_json: Json = False,
    progress: Progress,
) -> None:
    """Answer pictures, texts or arrays without labels into parquet; the same command resumes an interrupted run."""
    from ..prediction import PredictionOptions
    from ..prediction import predict as predict_rows

    options = PredictionOptions(columns=columns.names(), **asdict(answering))
    with progress.log(), prints_on_stderr():
        found = predict_rows(folder, data, output, options)
    if as_json:
        stages = dict(found.stages)
        print(json.dumps({"rows": found.rows, "bad": found.bad, "resumed": found.resumed, "stages": stages}, indent=2))
        return
    answered = max(1, found.rows - found.bad)
    shares = ", ".join(f"{stage} {count / answered:.0%}" for stage, count in found.stages.most_common())
    print(f"wrote {found.rows} rows to {output}, {found.bad} of them without an answer; answered by {shares or 'none'}")
