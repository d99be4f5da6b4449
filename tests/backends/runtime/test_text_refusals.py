"""Texts that are no strict JSON, and weights files that lie: the right hashes do not help them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.runtime.capi import Model, refusal
from tests.backends.runtime.plans import Json, edit_text, packed, write_weights

pytestmark = pytest.mark.native
LARGEST = 2**63 - 1
NOT_JSON: dict[str, tuple[bytes, bytes, str]] = {
    "NaN": (b'"lower_bound": 1280', b'"lower_bound": NaN', "a value of no known kind"),
    "too large for a double": (b'"lower_bound": 1280', b'"lower_bound": 1e999', "a number is no integer"),
    "fraction": (b'"lower_bound": 1280', b'"lower_bound": 12.5', "a number is no integer"),
    "too large": (b'"lower_bound": 1280', b'"lower_bound": 9223372036854775808', "a number is too large"),
    "infinite": (b'"lower_bound": 1280', b'"lower_bound": -Infinity', "a value of no known kind"),
    "key twice": (b'"lower_bound": 1280', b'"lower_bound": 1280, "lower_bound": 0', "a key stands twice"),
    "deep list": (b'"lower_bound": 1280', b'"lower_bound": ' + b"[" * 100_000, "nested too deep"),
    "deep object": (b'"lower_bound": 1280', b'"lower_bound": ' + b'{"a":' * 100_000, "nested too deep"),
    "not UTF-8": (b'"z"', b'"z\xff"', "the string before is not UTF-8"),
    "overlong UTF-8": (b'"z"', b'"z\xc0\xaf"', "the string before is not UTF-8"),
    "surrogate": (b'"z"', b'"\xed\xa0\x80"', "the string before is not UTF-8"),
    "half a character": (b'"z"', b'"z\xe2\x82"', "the string before is not UTF-8"),
    "half a pair": (b'"z"', b'"\\ud800"', "half a surrogate pair"),
    "escape": (b'"z"', b'"\\x41"', "an unknown escape"),
    "short escape": (b'"z"', b'"\\u12"', "a bad \\u escape"),
    "control character": (b'"z"', b'"z\n"', "a control character in a string"),
    "nul": (b'"lower_bound": 1280', b'"lower_bound": \0', "a value of no known kind"),
    "word": (b'"lower_bound": 1280', b'"lower_bound": nul', "an unknown word"),
    "comma": (b'"lower_bound": 1280', b'"lower_bound": 1280,', "a key is no string"),
    "comment": (b'"lower_bound": 1280', b'"lower_bound": 1280 // bytes', "an object without '}'"),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_text_that_is_no_strict_json_is_refused(case: str, artifact: Path) -> None:
    old, new, reason = NOT_JSON[case]
    edit_text(artifact, old, new)
    message = refusal(artifact)
    assert message.startswith("plan.json: not JSON at byte ")
    assert reason in message


@pytest.mark.parametrize("text", [b"", b"\0", b"[]", b"7", b"{}", b"{", b'"', b"\xef\xbb\xbf{}", b"[" * 1_000_000])
def test_a_text_that_is_no_plan_is_refused(text: bytes, artifact: Path) -> None:
    (artifact / "plan.json").write_bytes(text)
    assert refusal(artifact).startswith("plan.json")


def test_characters_of_every_length_pass(artifact: Path) -> None:
    edit_text(artifact, b'"x"', '"aßठ\U0001f600"'.encode())
    edit_text(artifact, b'"y"', b'"\\u00df\\ud83d\\ude00\\n"')
    model = Model(artifact)
    assert [launch[2] for launch in model.profile()] == ["ß\U0001f600\n", "ß\U0001f600\n", "z"]


def tensor(dtype: str = "I32", shape: Any = (4, 32), offsets: Any = (0, 512)) -> Json:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


DATA = np.arange(128, dtype=np.int32).tobytes()
WEIGHTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "too short for a safetensors file"),
    "short": (b"\x10\0\0", "too short for a safetensors file"),
    "header beyond the end": (struct.pack("<Q", 1000) + b"{}", "its header would reach beyond its end"),
    "huge header": (struct.pack("<Q", 2**64 - 1) + b"{}", "its header would reach beyond its end"),
    "no object": (packed(b"[]", b""), "expected an object, found a list"),
    "no JSON": (packed(b"{x}", b""), "not JSON at byte"),
    "tensor that is none": (packed(b'{"w": 3}', b""), "w: expected an object, found an integer"),
    "key twice": (packed(b'{"w": {}, "w": {}}', b""), "a key"),
    "lacks the tensor": (packed(b"{}", b""), "lacks the tensor 'w'"),
}
for name, entries, reason in (
    ("truncated", {"w": tensor(offsets=(0, 516))}, "data_offsets[1]: 516 is not between 0 and 512"),
    ("backwards", {"w": tensor(offsets=(512, 0))}, "data_offsets[1]: 0 is not between 512 and 512"),
    ("negative", {"w": tensor(offsets=(-4, 508))}, "data_offsets[0]: -4 is not between 0 and 512"),
    ("huge offset", {"w": tensor(offsets=(0, LARGEST))}, f"data_offsets[1]: {LARGEST} is not between 0 and 512"),
    ("three offsets", {"w": tensor(offsets=(0, 5, 9))}, "w: expected two offsets"),
    ("size", {"w": tensor(shape=(4, 31))}, "w: 512 bytes stored, expected 496"),
    ("overflow", {"w": tensor(shape=(2**32, 2**32))}, "is no type: it is too large"),
    ("negative extent", {"w": tensor(shape=(-4, -32))}, "shape[0]: -4 is not between 0 and"),
    ("dtype", {"w": tensor("Q4")}, "dtype: unknown dtype 'Q4'"),
    ("other dtype", {"w": tensor("F32")}, "'w' is not what the plan says"),
    ("other shape", {"w": tensor(shape=(128,))}, "'w' is not what the plan says"),
    ("unknown key", {"w": {**tensor(), "scale": 1}}, "w: unknown key 'scale'"),
    ("overlap", {"w": tensor(), "v": tensor(shape=(1,), offsets=(0, 4))}, "overlap or leave a gap at byte"),
    ("gap", {"w": tensor(offsets=(0, 512)), "v": tensor(shape=(0,), offsets=(100, 100))}, "overlap or leave a gap"),
    ("left over", {"v": tensor(shape=(1,), offsets=(0, 4))}, "508 bytes belong to no tensor"),
):  # fmt: skip
    WEIGHTS[name] = packed(json.dumps(entries).encode(), DATA), reason


@pytest.mark.parametrize("case", WEIGHTS)
def test_a_damaged_weights_file_with_the_right_hash_is_refused(case: str, artifact: Path) -> None:
    content, reason = WEIGHTS[case]
    message = refusal(write_weights(artifact, content))
    assert message.startswith("weights.safetensors")
    assert reason in message
