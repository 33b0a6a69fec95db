"""Vectors of texts against the same network called text by text."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from headrace.errors import UserError
from headrace.selection.encoder import load_encoder

TEXTS = [
    "A short one.",
    "the village lies on the bank of the river , north of the old town",
    "दिल्ली भारत की राजधानी है",
    "",
    " ".join(["very"] * 300) + " long",
    "A short one.",
]


def one_by_one(folder, pooling, max_length):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    vectors, lengths = [], []
    for text in TEXTS:
        batch = tokenizer([text], truncation=True, max_length=max_length, return_tensors="pt")
        with torch.inference_mode():
            hidden = network(**batch).last_hidden_state[0]
        vectors.append((hidden[0] if pooling == "cls" else hidden.mean(0)).numpy())
        lengths.append(len(hidden))
    return np.array(vectors), lengths


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_pretrained_encoder_gives_the_vectors_of_transformers(minilm, pooling):
    encoder = load_encoder(minilm, pooling=pooling, max_length=64)
    vectors, lengths = encoder.embed(TEXTS)
    expected, counts = one_by_one(minilm, pooling, 64)
    np.testing.assert_allclose(vectors, expected, atol=2e-3)
    assert vectors.dtype == np.float16
    assert vectors.shape == (len(TEXTS), encoder.dimensions)
    assert list(lengths) == counts
    assert lengths.max() == 64


def test_similar_sentences_get_similar_vectors(minilm):
    encoder = load_encoder(minilm)
    vectors, _ = encoder.embed(["A man plays the guitar", "Someone plays music", "Tax law of 1911"])
    unit = vectors / np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.2


def test_the_fingerprint_is_of_what_the_encoder_does(small_encoder, tmp_path):
    import shutil

    from transformers import BertModel

    plain = load_encoder(small_encoder, max_length=32).fingerprint
    copied = shutil.copytree(small_encoder, tmp_path / "copy")
    assert load_encoder(copied, max_length=32).fingerprint == plain
    assert load_encoder(small_encoder, max_length=33).fingerprint != plain
    assert load_encoder(small_encoder, max_length=32, pooling="cls").fingerprint != plain
    network = BertModel.from_pretrained(copied, add_pooling_layer=False)
    with torch.no_grad():
        network.encoder.layer[1].output.dense.bias[3] += 1e-6
    network.save_pretrained(copied)
    assert load_encoder(copied, max_length=32).fingerprint != plain


def test_texts_of_about_the_same_length_are_computed_together(small_encoder, monkeypatch):
    encoder = load_encoder(small_encoder, max_length=60)
    shapes = []
    plain = type(encoder)._forward
    monkeypatch.setattr(
        type(encoder), "_forward",
        lambda self, tokens: (shapes.append((len(tokens), max(map(len, tokens)))),
                              plain(self, tokens))[1],
    )  # fmt: skip
    random = np.random.default_rng(0)
    texts = ["word " * int(count) for count in random.integers(1, 50, 1000)]
    _, lengths = encoder.embed(texts)
    computed = sum(texts * length for texts, length in shapes)
    assert computed < 1.15 * lengths.sum()  # in the order they come it would be 1.8 times
    assert max(texts * length for texts, length in shapes) <= 8192


def test_no_text_gives_no_vector(small_encoder):
    vectors, lengths = load_encoder(small_encoder, max_length=32).embed([])
    assert vectors.shape == (0, 32)
    assert lengths.shape == (0,)


def test_what_is_no_encoder_is_refused(small_encoder, small_corpus, tmp_path):
    with pytest.raises(UserError, match="no such tokenizer folder"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_encoder(small_corpus.tokenizer)
    with pytest.raises(UserError, match="Give 3 to 64"):
        load_encoder(small_encoder, max_length=65)
