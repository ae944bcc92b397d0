"""The recipe file: its stanzas, their keys, defaults and ranges."""
