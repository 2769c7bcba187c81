"""Tiny random models of each kind that is no BERT, with tokenizers of their own sort.

Two layers of 32 numbers and 64 positions each, as ``tiny_bert`` in ``conftest.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import PIECES, SPECIAL, WORDS

KINDS = ("roberta", "electra", "distilbert", "deberta-v2")


def make(kind: str, folder: Path) -> Path:
    """Write model and tokenizer into the folder."""
    import torch
    import transformers

    tokenizer = _tokenizer(kind, folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": tokenizer.pad_token_id,
    }
    shapes: dict[str, Any] = {
        "roberta": lambda: transformers.RobertaConfig(
            **sizes | {"max_position_embeddings": 66, "type_vocab_size": 1}
        ),
        "electra": lambda: transformers.ElectraConfig(**sizes, embedding_size=12),
        "distilbert": lambda: transformers.DistilBertConfig(
            vocab_size=len(tokenizer), dim=32, n_layers=2, n_heads=2, hidden_dim=64,
            max_position_embeddings=64,
        ),
        "deberta-v2": lambda: transformers.DebertaV2Config(
            **sizes, relative_attention=True, position_buckets=16, norm_rel_ebd="layer_norm",
            share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False,
            type_vocab_size=0,
        ),
    }  # fmt: skip
    classes = {
        "roberta": transformers.RobertaForMaskedLM,
        "electra": transformers.ElectraForPreTraining,
        "distilbert": transformers.DistilBertForMaskedLM,
        "deberta-v2": transformers.DebertaV2ForMaskedLM,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = classes[kind](shapes[kind]())
        for name, parameter in model.named_parameters():
            is_scale = parameter.dim() == 1 and name.endswith("weight")
            # No two parameters are alike, so that taking one for another would show.
            torch.nn.init.normal_(parameter, mean=float(is_scale), std=0.2)
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(kind: str, folder: Path) -> Any:
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join([*SPECIAL, *WORDS, *PIECES]) + "\n")
    if kind == "electra":
        return transformers.ElectraTokenizerFast(vocab=str(vocabulary))
    if kind == "distilbert":
        return transformers.DistilBertTokenizerFast(vocab=str(vocabulary))
    vocabulary.unlink()
    if kind == "roberta":
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(
            [" ".join(WORDS)], vocab_size=320, min_frequency=1, show_progress=False,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        )  # fmt: skip
        trained.save_model(str(folder))
        return transformers.RobertaTokenizerFast.from_pretrained(str(folder))
    pieces = [(token, 0.0) for token in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    letters = sorted({letter for word in WORDS for letter in word})
    pieces += [(f"▁{word}", -5.0) for word in WORDS[:30]]  # the others fall into letters
    pieces += [(letter, -10.0) for letter in ("▁", *letters)]
    return transformers.DebertaV2TokenizerFast(vocab=[*pieces, ("[MASK]", 0.0)], unk_id=3)
