"""The zoo: one small model of every timm family, Hugging Face classifiers from tiny random configs, torchvision models
and awkward ones written by hand. Each entry makes (classifier model, example inputs, keywords)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...], tuple[str, ...] | None]

# the first of a family that is found is taken: from small to large, as timm spells sizes
_SIZES = ("atto", "femto", "pico", "nano", "xxs", "xx_small", "xs", "x_small", "tiny", "_t", "b0", "_00", "small", "_s")


def timm_family(module: str) -> Made:
    """Make a family's small model at the smallest image that it takes, so that the sweep stays affordable."""
    import timm

    name = timm_name(module)
    config = timm.get_pretrained_cfg(name)
    channels, side = config.input_size[:2] if config else (3, 224)
    failure = None
    for each in sorted({min(side, small) for small in (64, 96, 128, 192, 224, side)}):
        # a model of fixed size is built for another one if it can be
        fixed = config is not None and config.fixed_input_size and each != side
        try:
            model = timm.create_model(name, **({"img_size": each} if fixed else {})).eval()
            with torch.no_grad():
                model(torch.randn(2, channels, each, each))
            return model, (torch.randn(2, channels, each, each),), None
        except Exception as error:
            failure = error
    raise failure


def timm_name(module: str) -> str:
    import timm

    def rank(name: str) -> tuple[int, int, str]:
        size = next((place for place, word in enumerate(_SIZES) if word in name), len(_SIZES))
        return size, len(name), name

    return min(timm.list_models(module=module), key=rank)


def _text(model: nn.Module, vocabulary: int = 100, types: bool = False) -> Made:
    ids = torch.randint(5, vocabulary, (3, 11))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    names = ("input_ids", "attention_mask") + (("token_type_ids",) if types else ())
    return model.eval(), (ids, mask, torch.zeros_like(ids))[: len(names)], names


_SMALL = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, num_labels=5)
_IMAGE = dict(image_size=32, patch_size=8, num_channels=3)


def _hf(name: str, **options) -> nn.Module:
    import transformers

    base = name.replace("ForSequenceClassification", "").replace("ForImageClassification", "")
    base = base.replace("ForAudioClassification", "")
    config = getattr(transformers, f"{base}Config")(**options)
    return getattr(transformers, name)(config)


def _hf_text(name: str, types: bool = False, **options) -> Callable[[], Made]:
    return lambda: _text(_hf(name, vocab_size=100, **{**_SMALL, **options}), types=types)


def _hf_image(name: str, side: int = 32, **options) -> Callable[[], Made]:
    return lambda: (_hf(name, num_labels=5, **options).eval(), (torch.randn(2, 3, side, side),), ("pixel_values",))


def _audio() -> Made:
    model = _hf("ASTForAudioClassification", **_SMALL, num_mel_bins=16, max_length=24, patch_size=8)
    return model.eval(), (torch.randn(2, 24, 16),), ("input_values",)


def _wave() -> Made:
    options = dict(conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 4), num_feat_extract_layers=2)
    model = _hf(
        "Wav2Vec2ForSequenceClassification", **_SMALL, **options, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, vocab_size=32,
    )  # fmt: skip
    return model.eval(), (torch.randn(2, 800),), ("input_values",)


def _clip() -> Made:
    import transformers

    config = transformers.CLIPConfig(
        vision_config=dict(**{k: v for k, v in _SMALL.items() if k != "num_labels"}, **_IMAGE), num_labels=5
    )
    return transformers.CLIPForImageClassification(config).eval(), (torch.randn(2, 3, 32, 32),), ("pixel_values",)


def _vilt() -> Made:
    import transformers

    config = transformers.ViltConfig(**_SMALL, **_IMAGE, vocab_size=100, max_position_embeddings=20)
    ids = torch.randint(5, 100, (2, 9))
    inputs = (ids, torch.ones_like(ids), torch.randn(2, 3, 32, 32))
    model = transformers.ViltForQuestionAnswering(config).eval()
    return model, inputs, ("input_ids", "attention_mask", "pixel_values")


HUGGING_FACE: dict[str, Callable[[], Made]] = {
    "bert": _hf_text("BertForSequenceClassification", types=True),
    "roberta": _hf_text("RobertaForSequenceClassification", max_position_embeddings=64),
    "distilbert": _hf_text(
        "DistilBertForSequenceClassification", dim=32, hidden_dim=64, n_layers=3, n_heads=2
    ),
    "albert": _hf_text("AlbertForSequenceClassification", types=True, embedding_size=16),
    "electra": _hf_text("ElectraForSequenceClassification", types=True, embedding_size=16),
    "deberta-v2": _hf_text(
        "DebertaV2ForSequenceClassification", types=True, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True, max_position_embeddings=64,
    ),
    "mpnet": _hf_text("MPNetForSequenceClassification", max_position_embeddings=64),
    "xlm-roberta": _hf_text("XLMRobertaForSequenceClassification", max_position_embeddings=64),
    "modernbert": _hf_text("ModernBertForSequenceClassification", pad_token_id=0, max_position_embeddings=64),
    "vit": _hf_image("ViTForImageClassification", **{k: v for k, v in _SMALL.items() if k != "num_labels"}, **_IMAGE),
    "deit": _hf_image("DeiTForImageClassification", **{k: v for k, v in _SMALL.items() if k != "num_labels"}, **_IMAGE),
    "beit": _hf_image("BeitForImageClassification", **{k: v for k, v in _SMALL.items() if k != "num_labels"}, **_IMAGE),
    "dinov2": _hf_image(
        "Dinov2ForImageClassification", **{k: v for k, v in _SMALL.items() if k != "num_labels"}, **_IMAGE
    ),
    "swin": _hf_image(
        "SwinForImageClassification", image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 2],
        window_size=4,
    ),
    "convnextv2": _hf_image(
        "ConvNextV2ForImageClassification", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_stages=4
    ),
    "resnet": _hf_image("ResNetForImageClassification", embedding_size=8, hidden_sizes=[8, 16, 24], depths=[1, 2, 1]),
    "mobilenet-v2": _hf_image("MobileNetV2ForImageClassification", depth_multiplier=0.35, image_size=64, side=64),
    "ast (audio)": _audio,
    "wav2vec2 (audio)": _wave,
    "clip (vision-language)": _clip,
    "vilt (vision-language)": _vilt,
}  # fmt: skip

TORCHVISION = (
    "resnet18", "vgg11_bn", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0",
    "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5", "googlenet", "inception_v3", "regnet_x_400mf",
    "convnext_tiny", "vit_b_16", "swin_t", "swin_v2_t", "maxvit_t", "alexnet",
)  # fmt: skip


def torchvision_model(name: str) -> Made:
    import torchvision

    # the auxiliary heads would make initialisation of the two inceptions slow and answer in training mode only
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    side = {"inception_v3": 128, "vit_b_16": 224, "maxvit_t": 224}.get(name, 64)
    return getattr(torchvision.models, name)(**extra).eval(), (torch.randn(2, 3, side, side),), None


class DenseSkips(nn.Module):
    """Every layer sees all earlier ones; joined only between stages."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(8 + 4 * place, 4, 3, padding=1) for place in range(3)) for _ in range(3)
        )
        self.joins = nn.ModuleList(nn.Sequential(nn.Conv2d(20, 8, 1), nn.BatchNorm2d(8)) for _ in range(3))
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        for stage, join in zip(self.stages, self.joins, strict=True):
            seen = [x]
            for layer in stage:
                seen.append(layer(torch.cat(seen, 1)).relu())
            x = join(torch.cat(seen, 1))
        return self.head(x.mean((2, 3)))


class TwoInputs(nn.Module):
    """An image and a row of numbers, the numbers joining late."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten())
        self.body = nn.Sequential(nn.Linear(72 + 4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, image, numbers):
        return self.body(torch.cat([self.image(image), numbers], 1))


class InPlace(nn.Module):
    """Writes into its activations everywhere."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)) for _ in range(4)
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x += block(x)
            x[:, 0] = x[:, 0].clamp_(min=0)
            x.mul_(0.5)
        return self.head(x.mean((2, 3)))


class Shared(nn.Module):
    """One layer used again and again, in a Python loop."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        for _ in range(5):
            x = x + self.layer(x)
        return self.head(x)


class Dictionary(nn.Module):
    """Answers with a dictionary that holds more than the logits."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16), nn.Tanh()) for _ in range(4)])
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        features = self.body(x)
        return {"features": features, "logits": self.head(features)}


class Recurrent(nn.Module):
    """A GRU over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.GRU(8, 16, num_layers=2, batch_first=True), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


class Branches(nn.Module):
    """Two branches that meet only at the end: nothing to cut."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5))
        self.two = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 5))

    def forward(self, x):
        return self.one(x) * self.two(x)


class DataDependent(nn.Module):
    """Goes another way for other values: must be refused."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(16, 5), nn.Linear(16, 5)

    def forward(self, x):
        if x.sum() > 0:
            return self.one(x)
        return self.two(x)


BY_HAND: dict[str, Callable[[], Made]] = {
    "dense skips": lambda: (DenseSkips().eval(), (torch.randn(2, 3, 12, 12),), None),
    "two inputs": lambda: (TwoInputs().eval(), (torch.randn(2, 3, 16, 16), torch.randn(2, 4)), None),
    "in place": lambda: (InPlace().eval(), (torch.randn(2, 3, 12, 12),), None),
    "weight sharing, Python loop": lambda: (Shared().eval(), (torch.randn(2, 16),), None),
    "dictionary": lambda: (Dictionary().eval(), (torch.randn(2, 16),), None),
    "recurrent": lambda: (Recurrent().eval(), (torch.randn(2, 6, 8),), None),
    "branches": lambda: (Branches().eval(), (torch.randn(2, 16),), None),
    "data-dependent control flow": lambda: (DataDependent().eval(), (torch.randn(2, 16),), None),
}


def _large(name: str) -> Callable[[], Made]:
    import timm

    return lambda: (timm.create_model(name).eval(), (torch.randn(2, 3, 224, 224),), None)


def zoo() -> Iterator[tuple[str, str, Callable[[], Made]]]:
    """Yield (group, name, maker) for the whole zoo."""
    import timm

    for name, make in BY_HAND.items():
        yield "by hand", name, make
    for name, make in HUGGING_FACE.items():
        yield "hugging face", name, make
    for name in ("resnet152", "vit_base_patch16_224"):
        yield "large", name, _large(name)
    for name in TORCHVISION:
        yield "torchvision", name, lambda name=name: torchvision_model(name)
    for module in timm.list_modules():
        if timm.list_models(module=module):
            yield "timm", module, lambda module=module: timm_family(module)
