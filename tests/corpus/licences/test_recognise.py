"""From the words and addresses of licences to SPDX."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.corpus.licences.recognise import LONGEST, recognise
from headrace.corpus.licences.spdx import expression, groups, holds, spdx_ids


def found(statement):
    result = recognise(statement)
    return None if result is None else result.expression


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CC BY-SA 4.0", "CC-BY-SA-4.0"),
        ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
        ("CCBYSA4.0", "CC-BY-SA-4.0"),
        ("CC-BY 4", "CC-BY-4.0"),
        ("CC BY-SA", "LicenseRef-CC-BY-SA"),
        ("CC BY-SA 2.0 UK", "CC-BY-SA-2.0-UK"),
        ("CC-BY-NC-ND 3.0 IGO", "CC-BY-NC-ND-3.0-IGO"),
        ("CC BY-NC-ND 4.0 International Public License", "CC-BY-NC-ND-4.0"),
        ("Creative Commons Attribution-ShareAlike 4.0 International License", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution (CC BY 4.0)", "CC-BY-4.0"),
        ("Attribution 4.0 International", "CC-BY-4.0"),
        ("This work is licensed under CC BY 4.0 by Anna Muster", "CC-BY-4.0"),
        ("Namensnennung - Weitergabe unter gleichen Bedingungen 4.0 International", "CC-BY-SA-4.0"),
        ("Creative Commons Namensnennung – Nicht kommerziell 3.0", "CC-BY-NC-3.0"),
        (
            "Creative Commons Attribution - Pas d’Utilisation Commerciale - Partage dans les "
            "Mêmes Conditions 4.0 International",
            "CC-BY-NC-SA-4.0",
        ),
        ("Reconocimiento-NoComercial-CompartirIgual 4.0 Internacional", "CC-BY-NC-SA-4.0"),
        ("知识共享署名-非商业性使用-相同方式共享 4.0 国际许可协议", "CC-BY-NC-SA-4.0"),
        ("クリエイティブ・コモンズ 表示 - 継承 4.0 国際", "CC-BY-SA-4.0"),
        ("cc by 4.0; cc by-nc 4.0", "CC-BY-4.0 AND CC-BY-NC-4.0"),
        ("CC0", "CC0-1.0"),
        ("Creative Commons Zero v1.0 Universal", "CC0-1.0"),
        ("Public Domain Mark 1.0", "CC-PDM-1.0"),
        ("public domain", "LicenseRef-public-domain"),
        ("Gemeinfrei", "LicenseRef-public-domain"),
        ("The MIT License (MIT)", "MIT"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("GPL v3", "GPL-3.0-only"),
        ("3-clause BSD license", "BSD-3-Clause"),
        ("mit or apache-2.0", "Apache-2.0 OR MIT"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0",) * 2,
        ("LicenseRef-press-agency AND MIT", "LicenseRef-press-agency AND MIT"),
        ("Open Government Licence v3.0", "OGL-UK-3.0"),
        ("Open Data Commons Attribution License v1.0", "ODC-By-1.0"),
        ("All rights reserved.", "LicenseRef-all-rights-reserved"),
        ("unknown", "LicenseRef-unknown"),
    ],
)
def test_names(statement, expected):
    assert found(statement) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://creativecommons.org/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        ("HTTP://CreativeCommons.org/licenses/by-sa/4.0/deed.fr", "CC-BY-SA-4.0"),
        ("//creativecommons.org/licenses/by/4.0/legalcode.de", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/3.0/de/", "CC-BY-NC-SA-3.0-DE"),
        ("https://creativecommons.org/licenses/by-sa/2.1/jp/", "CC-BY-SA-2.1-JP"),
        ("https://creativecommons.org/licenses/by/3.0/igo/", "CC-BY-3.0-IGO"),
        ("https://creativecommons.org/licenses/by/3.0/es/deed.ca", "CC-BY-3.0"),
        ("http://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        ('<a rel="license" href="https://creativecommons.org/licenses/by/4.0/">x</a>', "CC-BY-4.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://spdx.org/licenses/Apache-2.0.html", "Apache-2.0"),
        ("https://www.gnu.org/licenses/agpl-3.0.en.html", "AGPL-3.0-only"),
        ("https://opendatacommons.org/licenses/odbl/1-0/", "ODbL-1.0"),
        (
            "https://www.nationalarchives.gov.uk/doc/open-government-licence/version/3/",
            "OGL-UK-3.0",
        ),
    ],
)
def test_addresses(address, expected):
    assert found(address) == expected
    assert found(f"Text by somebody, see {address} .") == expected


def test_the_port_of_an_address_stays_in_the_evidence():
    result = recognise("https://creativecommons.org/licenses/by/3.0/es/")
    assert (result.expression, result.evidence) == (
        "CC-BY-3.0",
        "creativecommons.org/licenses/by/3.0/es",
    )


@pytest.mark.parametrize(
    "statement",
    ["", " ", "(((", "free", "see LICENSE", "© 2020 Anna Muster", "CC", "creative commons 4.0",
     "attribution", "share alike", "by", "A house by the sea", "CC-BY-ND-SA-4.0",
     "https://creativecommons.org/licenses/by-nd-sa/4.0/", "https://example.org/licence",
     "https://notopensource.org/licenses/xyz"],
)  # fmt: skip
def test_what_names_no_licence_is_not_recognised(statement):
    assert found(statement) is None


@given(text=st.text(max_size=300))
def test_evidence_has_nothing_of_the_statement_but_the_licence(text):
    secret = "Ottilie Geheim"
    for statement in (text, f"{secret} {text} CC BY 4.0 {secret}", f"© {secret}, {text}"):
        result = recognise(statement)
        assert result is None or secret.lower() not in result.evidence.lower()
        assert result is None or expression(result.expression) == result.expression


def test_every_id_of_the_list_is_recognised_as_itself():
    wrong = [name for name in spdx_ids() if found(name) != name and found(name) != expression(name)]
    assert wrong == []
    assert len(spdx_ids()) > 500


def test_only_the_beginning_of_a_long_statement_is_read():
    assert found("x " * LONGEST + "CC BY 4.0") is None
    assert found("CC BY 4.0" + " x" * LONGEST) == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CC0-1.0", {"public-domain"}),
        ("CC-PDM-1.0", {"public-domain"}),
        ("LicenseRef-public-domain", {"public-domain"}),
        ("CC-BY-4.0", {"permissive"}),
        ("MIT", {"permissive"}),
        ("ODC-By-1.0", {"permissive"}),
        ("CC-BY-SA-4.0", {"share-alike"}),
        ("LicenseRef-CC-BY-SA", {"share-alike"}),
        ("ODbL-1.0", {"share-alike"}),
        ("GPL-3.0-only", {"share-alike"}),
        ("CC-BY-NC-SA-3.0-DE", {"share-alike", "non-commercial"}),
        ("CC-BY-NC-ND-4.0", {"non-commercial", "no-derivatives"}),
        ("CC-BY-ND-4.0", {"no-derivatives"}),
        ("LicenseRef-all-rights-reserved", {"proprietary"}),
        ("LicenseRef-press-agency", set()),
        ("LicenseRef-unknown", set()),
    ],
)
def test_groups(name, expected):
    assert groups(name) == expected


def test_and_asks_for_all_or_for_one():
    accepted = {"MIT", "GPL-2.0-only"}.__contains__
    assert holds("MIT", accepted)
    assert holds("MIT OR CC-BY-4.0", accepted)
    assert not holds("MIT AND CC-BY-4.0", accepted)
    assert holds("MIT AND (CC-BY-4.0 OR GPL-2.0-only)", accepted)
    assert holds("GPL-2.0-only WITH Classpath-exception-2.0", accepted)
