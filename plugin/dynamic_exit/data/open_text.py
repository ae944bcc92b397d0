"""Opens files of labeled text, and names what has only the ending of one."""

import gzip
from pathlib import Path
from typing import TextIO, cast

from ..errors import DataError, pointer_hint

# first bytes of files that are often saved or renamed as text -> what they are, and what to do
_FOREIGN = {
    b"PK\x03\x04": "it is a ZIP archive, as Excel workbooks are; save it as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "it is a workbook of an old Excel; save it as CSV in UTF-8",
    b"PAR1": "it is a Parquet file; read it with `source: datasets`, or save it as CSV",
    b"\xff\xfe": "it is in UTF-16; save it as UTF-8",
    b"\xfe\xff": "it is in UTF-16; save it as UTF-8",
}
_GZIP = b"\x1f\x8b"


def open_text(path: Path) -> TextIO:
    """Open a text file in UTF-8, with or without a byte order mark; packed by gzip if its name ends in ``.gz``.

    Raises:
        DataError: Its first bytes are those of another kind of file.
        OSError: It cannot be opened.
    """
    packed = path.suffix.lower() == ".gz"
    with path.open("rb") as file:
        first = file.read(4)
    told = pointer_hint(path) or next((said for start, said in _FOREIGN.items() if first.startswith(start)), "")
    if not packed and first.startswith(_GZIP):
        told = "it is packed by gzip; end its name in .gz"
    if told:
        raise DataError(f"text file '{path}' cannot be read: {told}")
    # utf-8-sig: programs on Windows write a byte order mark, which would become part of the first cell
    return cast(TextIO, (gzip.open if packed else open)(path, "rt", encoding="utf-8-sig", newline=""))
