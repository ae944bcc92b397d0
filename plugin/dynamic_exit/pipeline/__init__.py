"""One run of a recipe, step by step."""
