"""Signatures: unbiased, and the same in every process."""

import json
import subprocess
import sys

import numpy as np
import pytest

from headrace.corpus.documents import Document, content_hash
from headrace.corpus.duplicates.settings import NearSettings
from headrace.corpus.duplicates.shingles import shingles
from headrace.corpus.duplicates.signatures import SIGNATURE, Signer, similarity

TEXT = "Alle Menschen sind frei und gleich an Würde und Rechten geboren. " * 3
GOLDEN = [
    1676223318,
    383015501,
    1660670495,
    2736922467,
    1366149075,
    942050293,
    579840031,
    149150268,
    2948085929,
    1710185311,
    475031773,
    1554255896,
    3395625820,
    3311344753,
    1019377130,
    463923187,
]
SCRIPT = """
import json, sys
from headrace.corpus.duplicates.settings import NearSettings
from headrace.corpus.duplicates.signatures import Signer
texts = json.loads(sys.stdin.read())
signer = Signer(NearSettings())
print(json.dumps([signer.signature(text).tolist() for text in texts]))
"""


def document(text):
    return Document(id="0" * 32, source="s", key="k", text=text, content_hash=content_hash(text))


def test_another_process_and_another_order_give_the_same_signatures():
    texts = [TEXT, "short", "人人生而自由，在尊严和权利上一律平等。", TEXT * 200]
    signer = Signer(NearSettings())
    here = [signer.signature(text).tolist() for text in texts]
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=json.dumps(texts[::-1]), text=True, check=True,
        capture_output=True, env={"PYTHONHASHSEED": "2", "RAYON_NUM_THREADS": "1"},
    )  # fmt: skip
    assert json.loads(there.stdout)[::-1] == here


def test_signatures_on_disk_stay_comparable():
    """Written by rensa 0.5 (algorithm version 2): another one must change the fingerprint."""
    signer = Signer(NearSettings(permutations=16))
    assert signer.fingerprint[1] == 2
    assert signer.signature(TEXT).tolist() == GOLDEN


@pytest.mark.parametrize("permutations", [128, 256])
def test_the_estimate_is_unbiased_and_as_sharp_as_it_is_said_to_be(permutations):
    rng = np.random.default_rng(5)
    words = [f"w{number}" for number in range(5000)]
    settings = NearSettings(permutations=permutations, words=1)
    signer = Signer(settings)
    errors = []
    for _ in range(150):
        chosen = rng.choice(len(words), 240, replace=False)
        a, b = (" ".join(words[i] for i in part) for part in (chosen[:220], chosen[20:]))
        sets = [set(shingles(text, settings).tolist()) for text in (a, b)]
        exact = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert exact == pytest.approx(200 / 240)
        errors.append(float(similarity(signer.signature(a), signer.signature(b))) - exact)
    deviation = (200 / 240 * 40 / 240 / permutations) ** 0.5
    assert abs(np.mean(errors)) < 4 * deviation / 150**0.5
    assert np.std(errors) < 1.2 * deviation


def test_the_column_of_a_document_is_its_signature():
    signer = Signer(NearSettings())
    column = signer.columns(document(TEXT))[SIGNATURE]
    assert np.frombuffer(column, "<u4").tolist() == signer.signature(TEXT).tolist()
    assert len(column) == 4 * 128
    assert signer.columns(document(" \n")) == {SIGNATURE: None}


def test_settings_that_matter_change_signature_and_fingerprint():
    signer = Signer(NearSettings())
    for change in ({"seed": 18}, {"words": 4}, {"unit": "characters"}):
        other = Signer(NearSettings(**change))
        assert other.signature(TEXT).tolist() != signer.signature(TEXT).tolist()
        assert other.fingerprint != signer.fingerprint
    assert Signer(NearSettings(threshold=0.5)).fingerprint == signer.fingerprint
