"""Foundations that know nothing of classifiers: files, hashes, caches, processes, and the user's own code.

Each module is imported by its name, since some bring torch and most callers need one function of one module.
"""

__all__: list[str] = []
