"""Signatures of written folders: Ed25519 over the names and SHA-256 sums of all files; needs the extra `signing`."""

import base64
import json
import os
from pathlib import Path
from typing import Any

from ..core.atomic_write import atomic_write
from ..core.hashing import file_fingerprint
from ..errors import MissingFileError, SignatureError, WriteError, first_line
from .json_file import read_json
from .onnx_file import check_place

SIGNATURE_FILE = "signature.json"
TYPE, VERSION = "dynamic_exit.signature", 1
#: A key, the text of its PEM file or its path.
Key = str | bytes | os.PathLike[str]
# a log of one machine, which copies go without
_NOT_SIGNED = ("run.log", SIGNATURE_FILE)


def sign_folder(folder: str | os.PathLike[str], key: Key) -> Path:
    """Sign all files of a folder, but for hidden ones and ``run.log``.

    Args:
        folder: The folder.
        key: A private Ed25519 key as an unencrypted PEM file, its path or its content.

    Returns:
        The file with the signature, in the folder.

    Raises:
        SignatureError: The key cannot be used, or a file is a link out of the folder.
        MissingFileError: There is no such folder.
        WriteError: The signature cannot be written.
    """
    place = _check_folder(folder)
    private = _load_key(key, "private")
    said = _statement(_checksums(place))
    values = {**said, "signature": base64.b64encode(private.sign(_to_sign(said))).decode()}
    path = place / SIGNATURE_FILE
    try:
        with atomic_write(path) as file:
            file.write((json.dumps(values, indent=1) + "\n").encode())
    except OSError as error:
        raise WriteError(f"'{path}' cannot be written: {error.strerror or error}; make the folder writable") from error
    return path


def verify_folder(folder: str | os.PathLike[str], key: Key) -> int:
    """Check that a folder holds what was signed, no file more or less.

    Args:
        folder: The folder.
        key: The public Ed25519 key as a PEM file, its path or its content.

    Returns:
        How many files are signed.

    Raises:
        SignatureError: There is no signature, it is of another key, or a file is changed, missing or new.
        MissingFileError: There is no such folder.
    """
    place = _check_folder(folder)
    public = _load_key(key, "public")
    files, signature = _read(place)
    from cryptography.exceptions import InvalidSignature  # it is installed: the key is of its making

    try:
        public.verify(signature, _to_sign(_statement(files)))
    except InvalidSignature:
        raise SignatureError(
            f"'{place}' is not signed by this key: signature and list of files do not belong together; get it anew, or "
            "give the key of its author"
        ) from None
    there = _checksums(place)
    for name in sorted({*files, *there}):
        if name not in there:
            raise SignatureError(f"'{place}' lacks '{name}', which is signed; get it anew")
        if name not in files:
            raise SignatureError(f"'{place}' holds '{name}', which is not signed; remove it, or sign the folder anew")
        if files[name] != there[name]:
            raise SignatureError(f"'{place / name}' is not the file that was signed; get it anew")
    return len(files)


def as_option(key: Key | None) -> dict[str, Key]:
    """Return a key as the option by which a folder is opened again, from any working folder; nothing for None."""
    if key is None:
        return {}
    text = isinstance(key, bytes) or (isinstance(key, str) and key.startswith("-----"))
    return {"public_key": key if text else os.path.abspath(key)}


def signed_names(folder: Path) -> list[str]:
    """Return the names of the files that a folder's signature lists, unverified; none if it cannot be read."""
    try:
        return [*_read(folder)[0]]
    except SignatureError:
        return []


def _read(folder: Path) -> tuple[dict[str, str], bytes]:
    path = folder / SIGNATURE_FILE
    if not path.is_file():
        raise SignatureError(f"'{folder}' is not signed: it has no {SIGNATURE_FILE}; sign it with `dynamic-exit sign`")
    try:
        values = read_json(path)
        if (values["_type"], values["_version"]) != (TYPE, VERSION):
            raise ValueError(f"it is no signature of version {VERSION}")
        files: dict[str, str] = dict(values["files"])
        signature = base64.b64decode(values["signature"], validate=True)
        if not all(isinstance(each, str) for pair in files.items() for each in pair):
            raise ValueError("its list of files breaks the format")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SignatureError(f"'{path}' cannot be read: {first_line(error)}; get it anew") from error
    return files, signature


def _check_folder(folder: str | os.PathLike[str]) -> Path:
    if not Path(folder).is_dir():
        raise MissingFileError(f"folder '{folder}' does not exist; give a folder that `dynamic-exit run` wrote")
    return Path(folder)


def _checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 sum of each file by its name with forward slashes, in order."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            (path.is_dir() and not path.is_symlink())
            or name in _NOT_SIGNED
            or any(part.startswith(".") for part in Path(name).parts)
        ):
            continue
        try:
            sums[name] = f"sha256:{file_fingerprint(check_place(folder, name))}"
        except (OSError, ValueError) as error:
            raise SignatureError(f"'{path}' cannot be signed or verified: {first_line(error)}; remove it") from error
    return sums


def _statement(files: dict[str, str]) -> dict[str, Any]:
    return {"_type": TYPE, "_version": VERSION, "files": files}


def _to_sign(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _load_key(key: Key, kind: str) -> Any:
    """Return a private or public key.

    Raises:
        SignatureError: It cannot be read, is of another kind, or the package that reads it is missing.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
    except ModuleNotFoundError as error:
        raise SignatureError("signatures need the package cryptography; install the extra `signing`") from error
    advice = f"give an Ed25519 {kind} key as a PEM file without a password"
    pem = key.encode() if isinstance(key, str) and key.startswith("-----") else key
    try:
        content = pem if isinstance(pem, bytes) else Path(pem).read_bytes()
        found = load_pem_private_key(content, None) if kind == "private" else load_pem_public_key(content)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        shown = "it" if isinstance(pem, bytes) else f"'{os.fspath(pem)}'"
        raise SignatureError(f"the {kind} key cannot be read from {shown}: {first_line(error)}; {advice}") from error
    if not isinstance(found, Ed25519PrivateKey if kind == "private" else Ed25519PublicKey):
        raise SignatureError(f"the key is a {type(found).__name__.strip('_')}; {advice}")
    return found
