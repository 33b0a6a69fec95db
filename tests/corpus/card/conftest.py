"""A corpus with a card."""

import shutil
from dataclasses import replace

import pytest

from headrace.cli import main

DESCRIPTION = """\
title: Texts of the river
summary: Sentences about a river and its mills.
motivation: To see how a card is written.
uses: Tests.
limits: >
  It is made up:
  nobody has said any of it.
contacts:
- name: Anna Example
  email: anna@example.org
  role: removal of documents
creators:
- {name: The village, url: "https://news.example.org"}
licence: CC-BY-4.0
homepage: https://news.example.org/river
citation: "@misc{river, title={River}}"
published: 2026-01-31
keywords: [river]
"""


@pytest.fixture(scope="session")
def _carded_once(written_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("carded")
    describe = folder / "described.yaml"
    describe.write_text(DESCRIPTION, encoding="utf-8")
    shutil.copytree(written_corpus.path, folder / "river")
    assert main(["card", str(folder / "river"), "--describe", str(describe)]) == 0
    return replace(written_corpus, path=folder / "river")


@pytest.fixture
def carded(_carded_once, tmp_path):
    """A corpus with the card that a description makes; both may be changed."""
    shutil.copytree(_carded_once.path, tmp_path / "carded/river")
    return replace(_carded_once, path=tmp_path / "carded/river")
