from __future__ import annotations

import pytest

from headrace.config.sizes import bytes_of


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50 GB", 50 * 10**9),
        ("50gb", 50 * 10**9),
        ("1.5 TiB", 3 * 2**39),
        ("64KiB", 65536),
        ("1048576", 1 << 20),
        (" 7 B ", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "0", "0.1", "5 XB", "1e9", "1,5 GB", "five"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        bytes_of(text)
