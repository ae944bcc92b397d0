"""What arrays in .npz files are called; of those that are there, the first counts."""

LABELS, INPUTS = ("labels", "label", "y"), ("inputs", "images", "x")
