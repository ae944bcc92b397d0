"""Dynamic models in ONNX: export, quantization, stitching into one file."""
