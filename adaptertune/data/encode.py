"""Texts to token numbers, as the official code does it: ``[CLS] first [SEP] second [SEP]``.

A pair that is too long loses tokens from the longer of the two, and from the second on a tie
(``_truncate_seq_pair`` in run_classifier.py). The tokenizers library's own ``longest_first`` breaks
ties the other way, so the truncation is done here, by numpy for many examples at once.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from adaptertune.data.sources import Split
from adaptertune.errors import BackboneError, first_line, is_out_of_memory

Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32] | None
Counts = npt.NDArray[np.int64]

# Examples that are tokenised at a time: the library's own objects take 100 times a token's 4 bytes.
CHUNK = 8192

# A folder has one of these: all in one, WordPiece, BPE (with merges.txt), SentencePiece.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spm.model")
SUFFIXES = (".json", ".txt", ".model")  # of all files that a tokenizer may be made of
SENTENCEPIECE = ("sentencepiece", "google.protobuf")  # what reading the last one takes


@dataclass(frozen=True)
class Encoded:
    """Examples, each a span of one flat array of tokens.

    ``tokens``: int32 (total,). ``segments``: uint8 (total,), 1 in the second text.
    ``starts`` and ``lengths``: int64 (examples,): where in them each example begins, and its number of
    tokens, special ones included. Tokens and segments may be views of a file, not to be written to.
    ``hidden``: (total, width), what frozen lower layers make of each token, fp32 or the bits of bf16;
    None if it is not known.
    """

    name: str
    tokens: npt.NDArray[np.int32]
    segments: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    labels: Labels
    num_truncated: int
    hidden: npt.NDArray[np.int16] | npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return int(self.lengths.max())

    def span(self, index: int) -> slice:
        """Where an example stands in ``tokens``, ``segments`` and ``hidden``."""
        return slice(self.starts[index], self.starts[index] + self.lengths[index])

    def subset(self, indices: npt.NDArray[np.int64], name: str | None = None) -> Encoded:
        """Some of the examples, in the order of ``indices``; the tokens are shared, not copied."""
        return replace(
            self,
            name=name or self.name,
            starts=self.starts[indices],
            lengths=self.lengths[indices],
            labels=None if self.labels is None else self.labels[indices],
        )


def starts_of(lengths: Counts) -> Counts:
    """Where examples of these lengths begin when they are laid end to end."""
    return np.cumsum(lengths) - lengths


def load_tokenizer(folder: Path) -> Tokenizer:
    """The fast tokenizer of a model folder, without the padding and truncation it may carry.

    Raises:
        BackboneError: the folder has no usable tokenizer files.
    """
    from transformers import AutoTokenizer

    remedy = "the folder needs tokenizer.json, or its kind's vocabulary and tokenizer_config.json"
    if not any((folder / name).is_file() for name in VOCABULARIES):
        # transformers would make do with a vocabulary of [UNK] and its like.
        raise BackboneError("no tokenizer files", where=folder, remedy=remedy)
    if not any((folder / name).is_file() for name in VOCABULARIES[:-1]):
        missing = [name for name in SENTENCEPIECE if importlib.util.find_spec(name) is None]
        if missing:
            raise BackboneError(
                f"a SentencePiece model, which needs {' and '.join(missing)}",
                where=folder / VOCABULARIES[-1],
                remedy="pip install sentencepiece protobuf",
            )
    try:
        wrapped = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        backend: Tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise BackboneError(
            f"no usable tokenizer ({first_line(error)})",
            where=folder,
            remedy=remedy,
        ) from None
    _check_case(folder, backend, wrapped)
    backend.no_truncation()
    backend.no_padding()
    return backend


def _check_case(folder: Path, backend: Tokenizer, wrapped: Any) -> None:
    """Whether texts keep their case as the model's own tokenizer.json has it: transformers' class takes
    that from tokenizer_config.json, and is uncased where nothing is said.

    Raises:
        BackboneError: the two files differ.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    own = json.loads(path.read_bytes()).get("normalizer") or {}
    used = json.loads(backend.to_str()).get("normalizer") or {}
    if {own.get("lowercase"), used.get("lowercase")} == {True, False}:  # other kinds do not say
        raise BackboneError(
            f"says 'lowercase: {str(own['lowercase']).lower()}', but transformers' "
            f"{type(wrapped).__name__} does otherwise",
            where=path,
            remedy=f'put "do_lower_case": {str(own["lowercase"]).lower()} into tokenizer_config.json',
        )


def truncated_lengths(first: Counts, second: Counts, budget: int) -> tuple[Counts, Counts]:
    """How many tokens of each text stay when the pairs must fit into ``budget``.

    One token at a time goes from the longer text, from the second on a tie.
    """
    excess = np.maximum(first + second - budget, 0)
    level = np.minimum(abs(first - second), excess)  # all of these come from the longer text
    rest = excess - level
    return (
        first - np.where(first > second, level, 0) - rest // 2,
        second - np.where(first > second, 0, level) - (rest + 1) // 2,
    )


def encode(
    tokenizer: Tokenizer,
    split: Split,
    max_length: int,
    on_chunk: Callable[[int], None] = lambda _: None,
) -> Encoded:
    """Tokenise a split; no example gets longer than ``max_length``, special tokens included.

    ``on_chunk`` is told the number of examples done since the last call.
    """
    columns = [split.first] if split.second is None else [split.first, split.second]
    frame = _frame(tokenizer, len(columns))
    tokens, segments, lengths = [], [], []
    num_truncated = 0
    for start in range(0, len(split), CHUNK):
        texts = [_tokenise(tokenizer, column[start : start + CHUNK]) for column in columns]
        whole = [text.counts for text in texts]
        second = np.zeros_like(whole[0]) if split.second is None else whole[1]
        kept = truncated_lengths(whole[0], second, max_length - frame.num_special)[: len(texts)]
        laid_tokens, laid_segments = _lay_out(frame, texts, kept)
        tokens.append(laid_tokens)
        segments.append(laid_segments)
        lengths.append(np.sum(kept, axis=0) + frame.num_special)
        num_truncated += int((np.sum(kept, axis=0) < np.sum(whole, axis=0)).sum())
        on_chunk(len(whole[0]))
    all_lengths = np.concatenate(lengths)
    return Encoded(
        name=split.name,
        tokens=np.concatenate(tokens),
        segments=np.concatenate(segments),
        starts=starts_of(all_lengths),
        lengths=all_lengths,
        labels=split.labels,
        num_truncated=num_truncated,
    )


def check_tokens(encoded: Encoded, vocabulary: int, where: object) -> None:
    """Whether a model has all tokens of some examples; its tokenizer may know more that none has.

    Args:
        encoded: the examples.
        vocabulary: rows of the model's table of tokens.
        where: the model, for the message.

    Raises:
        BackboneError: it has not.
    """
    largest = int(encoded.tokens.max(initial=0))
    if largest >= vocabulary:
        raise BackboneError(
            f"the tokenizer has token {largest:,}, the model {vocabulary:,} rows for tokens, from 0",
            where=where,
            remedy="resize its embeddings, or bring the tokenizer that it was trained with",
        )


@dataclass(frozen=True)
class _Texts:
    """Some texts' tokens, end to end, and how many each text has."""

    tokens: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int64]


def _tokenise(tokenizer: Tokenizer, texts: list[str]) -> _Texts:
    """Without special tokens; on all cores."""
    found = [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    return _Texts(
        np.fromiter(itertools.chain.from_iterable(found), dtype=np.int32),
        np.fromiter(map(len, found), dtype=np.int64, count=len(found)),
    )


@dataclass(frozen=True)
class _Frame:
    """What the tokenizer puts around texts, as an example of its work.

    ``texts``: where in the example each text stands. Everything else in it is special tokens.
    """

    tokens: npt.NDArray[np.int32]
    segments: npt.NDArray[np.uint8]
    texts: list[slice]

    @property
    def special(self) -> list[slice]:
        """Where the special tokens stand: before, between and after the texts."""
        starts = [0, *(text.stop for text in self.texts)]
        stops = [*(text.start for text in self.texts), len(self.tokens)]
        return [slice(start, stop) for start, stop in zip(starts, stops, strict=True)]

    @property
    def num_special(self) -> int:
        return sum(run.stop - run.start for run in self.special)


def _frame(tokenizer: Tokenizer, num_texts: int) -> _Frame:
    """The frame, read off an example that the tokenizer's own post-processor puts together.

    Raises:
        BackboneError: it does more than put special tokens around the texts in their order.
    """
    texts = [tokenizer.encode(text, add_special_tokens=False) for text in ("a", "b b")[:num_texts]]
    whole = tokenizer.post_process(texts[0], texts[1] if num_texts == 2 else None)
    places = np.flatnonzero(np.equal(whole.special_tokens_mask, 0)).tolist()
    found = []
    for text in texts:
        own, places = places[: len(text)], places[len(text) :]
        found.append(slice(own[0], own[-1] + 1) if own else slice(0))
    if places or [whole.ids[text] for text in found] != [text.ids for text in texts]:
        raise BackboneError("the tokenizer does more than put special tokens around the texts")
    return _Frame(np.array(whole.ids, np.int32), np.array(whole.type_ids, np.uint8), found)


def _lay_out(
    frame: _Frame, texts: Sequence[_Texts], kept: Sequence[Counts]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Tokens and segments of the examples, end to end; of each text its first ``kept`` tokens.

    An example is a row of pieces: special tokens and texts by turns. Every piece lies somewhere in a
    pool, which holds the frame's example and after it all tokens of the texts.
    """
    tokens, segments = [frame.tokens], [frame.segments]
    starts, lengths = [], []  # of the pieces, in the pool
    at = len(frame.tokens)
    for run, place, text, keep in zip(frame.special, frame.texts, texts, kept, strict=False):
        starts += [np.full_like(keep, run.start), at + np.cumsum(text.counts) - text.counts]
        lengths += [np.full_like(keep, run.stop - run.start), keep]
        tokens.append(text.tokens)
        segments.append(np.full(len(text.tokens), frame.segments[place.start]))
        at += len(text.tokens)
    last = frame.special[-1]
    starts.append(np.full_like(kept[0], last.start))
    lengths.append(np.full_like(kept[0], last.stop - last.start))
    begin, length = np.stack(starts, axis=1).ravel(), np.stack(lengths, axis=1).ravel()
    end = np.cumsum(length)
    where = np.repeat(begin - (end - length), length) + np.arange(end[-1])
    return np.concatenate(tokens)[where], np.concatenate(segments)[where]
