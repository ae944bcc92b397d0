"""The stanza `dynamic_exit.cache`."""

from typing import TYPE_CHECKING

from pydantic import Field

from ..passes import Stanza
from ..passes.stanza import RecipePath

if TYPE_CHECKING:  # a recipe is read without torch
    from ..core.cache import Cache


class CacheStanza(Stanza):
    """Where exported parts and results for saver candidates are cached between runs."""

    directory: RecipePath | None = Field(
        None, description="null: $DYNAMIC_EXIT_CACHE, else dynamic_exit in $XDG_CACHE_HOME or in ~/.cache"
    )
    enabled: bool = Field(True, description="false: nothing is kept")

    def open(self) -> "Cache":
        """Open the cache."""
        from ..core.cache import open_cache

        return open_cache(self.directory, self.enabled)
