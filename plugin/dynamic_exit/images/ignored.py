"""Folders among those of images that hold none of the user's."""

#: Prefixes of folders that operating systems and tools create.
IGNORED_PREFIXES = (".", "@")
