"""The commands `sign` and `verify`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Folder


def sign(
    folder: Folder,
    key: Annotated[Path, typer.Option(help="private Ed25519 key, a PEM file without a password")],
) -> None:
    """Sign a written folder: names and SHA-256 sums of all its files, in signature.json."""
    from ..trust.signature import sign_folder, signed_names

    path = sign_folder(folder, key)
    print(f"wrote {path}, which signs {len(signed_names(folder))} files")


def verify(
    folder: Folder,
    key: Annotated[Path, typer.Option(help="public Ed25519 key of the author, a PEM file")],
) -> None:
    """Check that a folder holds exactly what the owner of a key has signed."""
    from ..trust.signature import verify_folder

    print(f"{folder} holds the {verify_folder(folder, key)} files that were signed")
