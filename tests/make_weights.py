"""Trains the models of `tiny.py` and `sentences.py`, bags apart, and writes their weights, which are committed.

    python tests/make_weights.py

A training ends in other last bits on another processor, and what is chosen by its result may then be chosen otherwise.
Every machine therefore reads the same weights. Run this where a model or its data has changed, and commit `weights/`.
"""

from collections.abc import Callable

import numpy as np
import sentences
import tiny
import torch
from safetensors.torch import save_file
from torch import nn

#: By the name of the file: epochs, samples a step and the learning rate.
PLANS = {
    "backbone8": (20, 64, 0.02),
    "saver2": (25, 64, 0.02),
    "saver4": (25, 64, 0.02),
    "bert": (25, 50, 5e-3),
    "distilbert": (16, 50, 2e-3),
}


def models() -> dict[str, Callable[[], nn.Module]]:
    """By the name of the file: what makes the model, untrained."""
    images, texts = tiny.module(), sentences.module()
    return {
        "backbone8": lambda: images["backbone"](8),
        "saver2": lambda: images["saver"](2),
        "saver4": lambda: images["saver"](4),
        "bert": lambda: sentences.untrained("Bert"),
        "distilbert": lambda: sentences.untrained("DistilBert"),
        "bag2": lambda: texts["bag"](2),
        "bag4": lambda: texts["bag"](4),
    }


def data(name: str, split: str) -> tuple[list[np.ndarray], np.ndarray]:
    """What a model takes, in order, and the labels."""
    if name.startswith(("backbone", "saver")):
        inputs, labels = tiny.samples(split)
        return [inputs], labels
    inputs, labels = sentences.arrays(split)
    return [inputs["input_ids"], inputs["attention_mask"]], labels


def train(name: str) -> nn.Module:
    """Train a model from its first random numbers on; a bag is written by hand."""
    if name.startswith("bag"):
        return bag(int(name.removeprefix("bag")))
    epochs, batch, rate = PLANS[name]
    inputs, labels = data(name, "train")
    inputs, labels = [torch.from_numpy(array) for array in inputs], torch.from_numpy(labels)
    torch.manual_seed(0)
    model = models()[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(batch):
            answer = model(*(each[rows] for each in inputs))
            optimizer.zero_grad()
            nn.functional.cross_entropy(getattr(answer, "logits", answer), labels[rows]).backward()
            optimizer.step()
    return model.eval()


def bag(width: int) -> nn.Module:
    """A saver of texts that holds nothing that a training could turn: two columns for a keyword alone, two for `not`.

    A keyword weighs 1, 1.5 or 2 in one column of each kind and as much less than nothing in the other; `not` takes 2
    from the first two columns. The mark that begins every text takes 2 from the last two, to which `not` gives it back.
    """
    model = sentences.module()["bag"](width)
    table = torch.zeros(len(sentences.VOCABULARY), 4)
    place = sentences.VOCABULARY.index
    for sign, label in ((1.0, "good"), (-1.0, "bad")):
        for weight, word in zip((1.0, 1.5, 2.0), sentences.KEYWORDS[label], strict=True):
            table[place(word)] = sign * weight * torch.tensor([-1.0, 1.0, 1.0, -1.0])
    table[place("not")] = torch.tensor([-2.0, -2.0, 2.0, 2.0])
    table[place("[CLS]")] = torch.tensor([0.0, 0.0, -2.0, -2.0])
    with torch.no_grad():
        model.words.weight.copy_(table[:, :width])
        model.layer.weight.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])[:, :width])
        model.layer.bias.zero_()
    return model.eval()


def main() -> None:
    """Write one file a model, and say how often it is right on samples that it has not seen."""
    tiny.WEIGHTS.mkdir(exist_ok=True)
    for name in models():
        model = train(name)
        save_file(model.state_dict(), tiny.WEIGHTS / f"{name}.safetensors")
        inputs, labels = data(name, "calibration" if name.startswith(("backbone", "saver")) else "dev")
        with torch.no_grad():
            answer = model(*map(torch.from_numpy, inputs))
        right = (getattr(answer, "logits", answer).argmax(1).numpy() == labels).mean()
        print(f"{name}: {right:.1%} right")


if __name__ == "__main__":
    main()
