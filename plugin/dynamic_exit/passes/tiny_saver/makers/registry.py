"""The registry of makers."""

from typing import TYPE_CHECKING

from ....core.registry import Registry, find_built_in
from ....errors import PassError

if TYPE_CHECKING:
    from .base import SaverMaker


def _check_maker(name: str, maker: object) -> None:
    from .base import SaverMaker

    if not (isinstance(maker, type) and issubclass(maker, SaverMaker)):
        raise PassError(f"maker '{name}' must be a subclass of SaverMaker; got {maker!r}")
    missing = sorted(getattr(maker, "__abstractmethods__", ()))
    if missing:
        raise PassError(f"maker '{name}' lacks `{missing[0]}`; add it")


#: The classes of makers by the name that recipes use; the name of an entry point is the name of its maker.
MAKERS: "Registry[type[SaverMaker]]" = Registry(
    "maker",
    PassError,
    "dynamic_exit.makers",
    built_in=find_built_in("passes/tiny_saver/makers/kinds"),
    reserved={"auto": "the choice by inputs"},
    check=_check_maker,
)
