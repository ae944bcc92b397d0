"""The command `dynamic-exit`."""
