"""From a SentencePiece model to a fast Hugging Face tokenizer that gives the same pieces.

SentencePiece (Kudo and Richardson, 2018) and the ``tokenizers`` library implement the same two
algorithms.  What has to be carried over by hand is everything around them: the character map,
the white space rules, the byte fallback, and the ids of the special tokens.
"""

from __future__ import annotations

from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

SPACE_SYMBOL = "▁"
"""U+2581, which SentencePiece writes in place of a space."""
EXTENDING = r"(?<=[\s\S])(?=[\p{M}\x{200C}\x{200D}\x{1F3FB}-\x{1F3FF}])"
"""Matches in front of characters that join the grapheme cluster before them, not at the start."""
CLUSTER_BREAK = "\ufdd0"
"""A noncharacter (never in interchanged text; dropped where it is) that keeps marks apart."""
NORMAL_PIECE = 1
"""``ModelProto.SentencePiece.Type.NORMAL``: the only kind of piece that text may turn into."""
UNREACHABLE_SCORE = -1e4
"""Log probability of pieces that text must never be segmented into (control and byte pieces)."""
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
"""Special tokens in the order of their ids, which are 0 to 4."""


def parse_model(serialized: bytes) -> Any:
    """The ``ModelProto`` of a serialised SentencePiece model."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(serialized)
    return proto


def to_fast_tokenizer(serialized: bytes, *, max_length: int | None = None) -> Any:
    """Wrap a SentencePiece model as a ``PreTrainedTokenizerFast``.

    The ids are those of the SentencePiece model; a sentence is encoded as ``<s> pieces </s>``.
    `serialized` is a unigram or BPE model trained with :data:`SPECIAL_TOKENS`; `max_length`
    becomes the tokenizer's ``model_max_length``.
    """
    proto = parse_model(serialized)
    backend = Tokenizer(_model(proto))
    backend.normalizer = _normalizer(proto)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(
        replacement=SPACE_SYMBOL, prepend_scheme="always", split=True
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE_SYMBOL, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False, lstrip=token == "<mask>")
            for token in SPECIAL_TOKENS.values()
        ]
    )
    begin, end = SPECIAL_TOKENS["bos_token"], SPECIAL_TOKENS["eos_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(token, backend.token_to_id(token)) for token in (begin, end)],
    )
    options: dict[str, Any] = dict(SPECIAL_TOKENS)
    if max_length is not None:
        options["model_max_length"] = max_length
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token=begin,
        sep_token=end,
        padding_side="right",
        truncation_side="right",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **options,
    )


def _model(proto: Any) -> Any:
    pieces = list(proto.pieces)
    unknown_id = proto.trainer_spec.unk_id
    if proto.trainer_spec.model_type == proto.trainer_spec.UNIGRAM:
        # A literal "<s>" or "<0x41>" in a text is ordinary text for SentencePiece; the low score
        # makes the segmentation into single characters win here as well.
        scored = [
            (piece.piece, piece.score if piece.type == NORMAL_PIECE else UNREACHABLE_SCORE)
            for piece in pieces
        ]
        return models.Unigram(scored, unk_id=unknown_id, byte_fallback=True)
    return models.BPE(
        vocab={piece.piece: number for number, piece in enumerate(pieces)},
        merges=_merges(pieces),
        unk_token=pieces[unknown_id].piece,
        fuse_unk=True,
        byte_fallback=True,
    )


def _merges(pieces: list[Any]) -> list[tuple[str, str]]:
    """All pairs of pieces that join to a piece, best score of the joined piece first."""
    scores = {piece.piece: piece.score for piece in pieces if piece.type == NORMAL_PIECE}
    merges = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                merges.append((-score, -scores[left], -scores[right], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def _normalizer(proto: Any) -> Any:
    steps: list[Any] = []
    charsmap = proto.normalizer_spec.precompiled_charsmap
    if charsmap:
        # `Precompiled` looks up a short grapheme cluster as a whole and then forgets what comes
        # after the longest match: a mark on a mapped letter would be lost.  In long clusters it
        # looks at each character alone and misses compositions.  So clusters are taken apart
        # first, and composition is left to NFC.
        steps = [
            normalizers.NFC(),
            normalizers.Replace(Regex(EXTENDING), CLUSTER_BREAK),
            normalizers.Precompiled(charsmap),
            normalizers.Replace(CLUSTER_BREAK, ""),
            normalizers.NFC(),
        ]
    # A space symbol in the text itself is a space (with SentencePiece only under nmt_nfkc).
    # `Strip` would also take other white space, which SentencePiece keeps.
    steps += [
        normalizers.Replace(SPACE_SYMBOL, " "),
        normalizers.Replace(Regex(" {2,}"), " "),
        normalizers.Replace(Regex(r"\A +| +\z"), ""),
    ]
    return normalizers.Sequence(steps)
