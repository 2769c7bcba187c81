"""Texts to token numbers, as the official code does it: ``[CLS] first [SEP] second [SEP]``.

A pair that is too long loses tokens from the longer of the two, and from the second on a tie
(``_truncate_seq_pair`` in run_classifier.py). The tokenizers library's own ``longest_first`` breaks
ties the other way, so the truncation is done here and the library does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from adaptertune.data.sources import Split
from adaptertune.errors import BackboneError

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Encoded:
    """A split as one flat array of tokens.

    ``tokens``: int32 (total,). ``segments``: uint8 (total,), 1 in the second text.
    ``offsets``: int64 (examples + 1,): example i is ``tokens[offsets[i]:offsets[i + 1]]``.
    """

    name: str
    tokens: npt.NDArray[np.int32]
    segments: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    labels: Labels
    num_truncated: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each example, special ones included: (examples,)."""
        return np.diff(self.offsets)

    def subset(self, indices: npt.NDArray[np.int64]) -> Encoded:
        """Some of the examples, in the order of ``indices``."""
        where = np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in indices])
        return Encoded(
            name=self.name,
            tokens=self.tokens[where],
            segments=self.segments[where],
            offsets=np.concatenate([[0], np.cumsum(self.lengths[indices])]),
            labels=None if self.labels is None else self.labels[indices],
            num_truncated=0,
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a model folder, without the padding and truncation it may carry.

    Raises:
        BackboneError: the folder has no usable tokenizer files.
    """
    from transformers import AutoTokenizer

    remedy = "the folder needs tokenizer.json, or vocab.txt and tokenizer_config.json"
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        # transformers would make do with a vocabulary of [UNK] and its like.
        raise BackboneError("no tokenizer files", where=folder, remedy=remedy)
    try:
        wrapped = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        backend: Tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    except Exception as error:
        raise BackboneError(
            f"no usable tokenizer ({str(error).splitlines()[0]})",
            where=folder,
            remedy=remedy,
        ) from None
    backend.no_truncation()
    backend.no_padding()
    return backend


def truncated_lengths(first: int, second: int, budget: int) -> tuple[int, int]:
    """How many tokens of each text stay when the pair must fit into ``budget``.

    One token at a time goes from the longer text, from the second on a tie.
    """
    excess = first + second - budget
    if excess <= 0:
        return first, second
    level = min(abs(first - second), excess)  # all of these come from the longer text
    if first > second:
        first -= level
    else:
        second -= level
    excess -= level
    return first - excess // 2, second - (excess + 1) // 2


def encode(tokenizer: Tokenizer, split: Split, max_length: int) -> Encoded:
    """Tokenise a split; no example gets longer than ``max_length``, special tokens included."""
    is_pair = split.second is not None
    budget = max_length - tokenizer.num_special_tokens_to_add(is_pair)
    firsts = tokenizer.encode_batch(split.first, add_special_tokens=False)
    seconds = (
        tokenizer.encode_batch(split.second, add_special_tokens=False) if split.second else None
    )
    ids, segments, lengths = [], [], []
    num_truncated = 0
    for index, first in enumerate(firsts):
        second = seconds[index] if seconds else None
        keep_first, keep_second = truncated_lengths(
            len(first), len(second) if second else 0, budget
        )
        if keep_first < len(first) or (second and keep_second < len(second)):
            num_truncated += 1
            first.truncate(keep_first)
            if second:
                second.truncate(keep_second)
        whole = tokenizer.post_process(first, second, add_special_tokens=True)
        ids.append(np.array(whole.ids, dtype=np.int32))
        segments.append(np.array(whole.type_ids, dtype=np.uint8))
        lengths.append(len(whole))
    return Encoded(
        name=split.name,
        tokens=np.concatenate(ids),
        segments=np.concatenate(segments),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        labels=split.labels,
        num_truncated=num_truncated,
    )
