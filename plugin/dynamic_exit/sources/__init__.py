"""Where models, data, labels and tokenizers come from."""
