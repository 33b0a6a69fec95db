"""What the quality measures are, in the words of a page; docs/quality.md has more."""

from __future__ import annotations

from collections.abc import Mapping

QUALITY_TERMS: Mapping[str, str] = {
    "alphabetic_words": "share of the words that have a letter",
    "bullet_lines": "share of the lines that begin with a bullet",
    "characters": "code points",
    "code_lines": "share of the lines that look like code: brackets, operators",
    "commonest_2_words": "share of the characters in the commonest pair of words",
    "commonest_3_words": "share of the characters in the commonest run of three words",
    "commonest_4_words": "share of the characters in the commonest run of four words",
    "curly_brackets": "number of curly brackets",
    "damaged_share": "share of the characters that stand for lost ones",
    "digit_share": "share of the characters that are digits",
    "ellipses_per_word": "ellipses a word",
    "ellipsis_lines": "share of the lines that end with an ellipsis",
    "hashes_per_word": "number signs (#) a word",
    "lines": "lines that are not empty",
    "lines_ending_in_punctuation": "share of the lines that end like a sentence",
    "longest_line": "characters of the longest line",
    "lorem_ipsum": "number of times that lorem ipsum occurs",
    "mean_sentence_length": "characters a sentence",
    "mean_word_length": "characters a word",
    "punctuation_share": "share of the characters that are punctuation",
    "question_share": "share of the sentences that are questions",
    "repeated_10_words": "share of the characters in runs of ten words that occurred before",
    "repeated_5_words": "share of the characters in runs of five words that occurred before",
    "repeated_line_characters": "share of the characters in lines that occurred before",
    "repeated_lines": "share of the lines that occurred before",
    "repeated_paragraph_characters": "share of the characters in paragraphs that occurred before",
    "repeated_paragraphs": "share of the paragraphs that occurred before",
    "sentences": "marks that end sentences",
    "stop_word_share": "share of the words that are function words of the language",
    "stop_words": "different function words of the language",
    "symbol_share": "share of the characters that are symbols",
    "uppercase_share": "share of the letters that are upper case",
    "words": "words; characters in scripts without spaces between words",
}
