"""Frameworks in which the passes are at home, one folder each."""
