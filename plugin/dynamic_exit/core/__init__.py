"""Foundations that know nothing of classifiers: files, hashes, caches, processes, code of the user's."""
