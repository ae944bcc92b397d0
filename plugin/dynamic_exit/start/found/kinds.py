"""All kinds of data, in the order in which they are tried."""

from ...errors import DataError
from .arrays import find_arrays
from .base import DataRequest, FoundData
from .hub import find_dataset, find_dataset_by_name, find_function
from .images import find_images
from .texts import find_texts

_KINDS = (find_function, find_dataset, find_arrays, find_texts, find_images)


def find_data(request: DataRequest) -> FoundData:
    """Find out what data are.

    Raises:
        DataError: They are not there, of no kind that is known, or cannot be parted.
    """
    for find in _KINDS:
        found = find(request)
        if found is not None:
            return found
    if request.file.exists():
        raise DataError(
            f"'{request.path}' is no data that is known: a folder of class folders with pictures, a text file (.csv, "
            ".tsv, .jsonl), an .npz file, parquet files, or a folder of save_to_disk"
        )
    return find_dataset_by_name(request)
