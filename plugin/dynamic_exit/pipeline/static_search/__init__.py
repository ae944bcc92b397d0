"""The search over static choices: which of them, with which savers and exits, is best."""
