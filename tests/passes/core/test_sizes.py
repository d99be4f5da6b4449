from __future__ import annotations

import pytest

from penstock.passes.core.errors import UsageError
from penstock.passes.core.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.5GiB", 1610612736),
        ("630 MiB", 660602880),
        ("2GB", 2_000_000_000),
        ("64kib", 65536),
        ("1TB", 10**12),
        ("12 B", 12),
        (" 4096 ", 4096),
        (7, 7),
    ],
)
def test_parse(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "0", "1.5 gigs", "1 2", "1e9", "nan", "0GiB", "1,5GiB", "0.2", 0])
def test_refusals(text: str | int) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert str(caught.value) == f"'{text}' is not a size; write it like 1.5GiB, 630MiB, 2GB or a number of bytes"


def test_a_fraction_of_a_byte_is_no_size() -> None:
    with pytest.raises(UsageError):
        parse_size("0.2")


FORMATTED = {0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 660602880: "630.0 MiB", 3 * 2**29: "1.50 GiB"}


@pytest.mark.parametrize(("size", "text"), FORMATTED.items())
def test_format(size: int, text: str) -> None:
    assert format_size(size) == text
