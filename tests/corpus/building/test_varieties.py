"""Whatever tag a document declares: one folder a language, and the whole tag beside it."""

import pyarrow.parquet as pq

from headrace.shards import ShardReader

PERSIAN = "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند."
CHINESE = "這是一個用來測試的句子，說的是臺灣的天氣和學校。這個學期我們學習語言。"


def test_a_language_is_in_one_folder_whatever_its_tag_says(corpus):
    texts = {
        "pes": f"{PERSIAN} یکم",
        "prs": f"{PERSIAN} دوم",
        "fa": f"{PERSIAN} سوم",
        "fa_AF": f"{PERSIAN} چهارم",
        "en-US": corpus.sentence(1),
        "eng": corpus.sentence(2),
        "zh-Hant-TW": CHINESE,
        "mul": "ok",
    }
    rows = [{"id": tag, "text": text, "lang": tag} for tag, text in texts.items()]
    rows += [{"id": "none", "text": "12 34"}, {"id": "detected", "text": CHINESE[1:]}]
    source = {"id": "s", "files": [corpus.jsonl("a.jsonl", rows)], "fields": {"language": "lang"}}
    document = corpus.build(
        corpus.recipe(source, privacy={}, languages={"keep": ["fas", "en", "zh"]})
    )
    index = pq.read_table(corpus.out / "index.parquet").to_pylist()
    found = {row["key"].partition("#")[2]: (row["language"], row["variety"]) for row in index}
    assert found == {
        "pes": ("fa", "fa"),
        "prs": ("fa", "fa-AF"),
        "fa": ("fa", "fa"),
        "fa_AF": ("fa", "fa-AF"),
        "en-US": ("en", "en-US"),
        "eng": ("en", "en"),
        "zh-Hant-TW": ("zh", "zh-Hant-TW"),
        "detected": ("zh", "zh-Hant"),
        "mul": ("und", "und"),
        "none": ("und", "und"),
    }
    assert set(document["languages"]) == {"en", "fa", "und", "zh"}
    folders = {path.name for path in corpus.out.iterdir() if path.is_dir()}
    assert folders == {"en", "fa", "und", "zh"}
    samples = {sample.key: sample.metadata for sample in ShardReader(str(corpus.out / "fa"))}
    tags = {row["id"]: row["variety"] for row in index if row["language"] == "fa"}
    assert {key: one.get("variety", one["language"]) for key, one in samples.items()} == tags
    # its region chooses the packs for private information
    assert any("fa-AF: there is no pack for AF" in warning for warning in document["warnings"])
    assert not any("pes" in warning for warning in document["warnings"])
