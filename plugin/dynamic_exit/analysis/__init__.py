"""Looks at recipes and written folders: plan, benchmark, evaluation, inspection."""
