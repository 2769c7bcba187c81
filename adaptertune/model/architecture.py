"""The kinds of encoder that adapters go into, as their configuration files tell of them.

Each of them has, as BERT has, two places in a layer where Houlsby et al. put adapters: behind the output
projections of attention and feed-forward, before the residual sum and the LayerNorm of that sum. Where
the modules of a loaded model are is said in ``encoder.py``. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from adaptertune.catalogue import Architecture, Shape

# transformers' class of each kind's plain encoder.
CLASSES: dict[Architecture, str] = {
    "bert": "BertModel",
    "roberta": "RobertaModel",
    "electra": "ElectraModel",
    "distilbert": "DistilBertModel",
    "deberta-v2": "DebertaV2Model",
}
REMEDY = "choose a BERT, RoBERTa, ELECTRA, DistilBERT or DeBERTa-v3"

# The field of a shape -> its key in config.json.
_KEYS = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
    "types": "type_vocab_size",
}
_DISTILBERT_KEYS = {
    "layers": "n_layers",
    "width": "dim",
    "heads": "n_heads",
    "intermediate": "hidden_dim",
    "vocabulary": "vocab_size",
    "positions": "max_position_embeddings",
}
# What DeBERTa-v3 sets, and DeBERTa-v2 in part: the attention and embeddings that forward.py computes.
_DEBERTA_V3 = {
    "relative_attention": True,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
    "conv_kernel_size": 0,
}


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Why adapters can't go into the model of a ``config.json``; None if they can."""
    kind = config.get("model_type")
    if kind in ("modernbert", "roberta-prelayernorm"):
        return (
            f"a '{kind}' model has no LayerNorm behind its residual sums, so no place for adapters"
        )
    if kind not in get_args(Architecture):
        return f"a '{kind}' model is not supported"
    if config.get("is_decoder"):
        return "a decoder, whose words see only earlier ones, is not supported"
    if kind != "deberta-v2":
        # transformers no longer knows the others, and would load a table of positions in their place.
        positions = config.get("position_embedding_type", "absolute")
        if positions != "absolute":
            return f"a '{kind}' model with position_embedding_type {positions!r} is not supported"
        return None
    wanted = _DEBERTA_V3 | {"embedding_size": config.get("hidden_size")}
    for key, value in wanted.items():
        # Without the last two keys nothing of the sort is there, which is what is wanted.
        found = config.get(key, value if key in ("conv_kernel_size", "embedding_size") else None)
        if found != value:
            return f"a DeBERTa with {key} {found!r} instead of {value!r} is not supported"
    kinds = config.get("pos_att_type") or ()
    parts = kinds.lower().split("|") if isinstance(kinds, str) else list(kinds)
    if sorted(part.strip() for part in parts) != ["c2p", "p2c"]:
        return f"a DeBERTa with pos_att_type {kinds!r} is not supported"
    if config.get("position_buckets", -1) < 1:
        return "a DeBERTa without position_buckets is not supported"
    return None


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a supported model's ``config.json`` tells.

    Raises:
        KeyError: a size is not there.
        pydantic.ValidationError: a size can't be that.
    """
    kind = config["model_type"]
    keys = _DISTILBERT_KEYS if kind == "distilbert" else _KEYS
    sizes = {"types": 0} | {field: config[key] for field, key in keys.items()}
    if kind == "roberta":  # positions are counted from behind the padding token's number on
        rows = sizes["positions"]
        sizes |= {"positions": rows - first_position(config), "position_rows": rows}
    elif kind == "electra" and config["embedding_size"] != sizes["width"]:
        sizes["embedding"] = config["embedding_size"]
    elif kind == "deberta-v2":
        sizes |= {"position_rows": 0, "relative_rows": 2 * config["position_buckets"]}
    return Shape.model_validate({"architecture": kind, **sizes})


def first_position(config: Mapping[str, Any]) -> int:
    """The row of RoBERTa's table that the first token has."""
    return int(config.get("pad_token_id", 1)) + 1
