"""Ways to damage an artifact. Each changes the files of a folder and says whether the runner must refuse the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tests.backends.runtime.plans import Json, packed, sign, signed, unsigned, write_weights

Damage = Callable[[Path, Path, Random], bool]  # the artifact, another one, where chance comes from
INTEGERS = (0, 1, -1, 2, 3, 4, 16, 64, 127, 128, 255, 2**16, 2**24, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1)
TEXTS = (
    "",
    "a",
    "\0",
    "../a",
    "arena",
    "weight",
    "parameter",
    "float32[1]",
    "int32[]",
    "int32[0]",
    "int32[99999999999]",
)
WHOLE: tuple[Any, ...] = (*INTEGERS, *(-number for number in INTEGERS), *TEXTS, None, True, [], {}, [[]], [0], {"a": 0})


def changed_bytes(artifact: Path, other: Path, rng: Random) -> bool:
    """Some bytes of one file are others."""
    path = _file(artifact, rng)
    content = path.read_bytes()
    path.write_bytes(_changed(content, rng))
    return path.read_bytes() != content


def truncated(artifact: Path, other: Path, rng: Random) -> bool:
    """One file ends early."""
    path = _file(artifact, rng)
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])
    return True


def exchanged(artifact: Path, other: Path, rng: Random) -> bool:
    """One file comes from elsewhere: another place of the artifact, or the same place of another artifact."""
    path, source = _file(artifact, rng), _file(rng.choice((artifact, other)), rng)
    content = path.read_bytes()
    path.write_bytes(source.read_bytes())
    both_plans = path.name == source.name == "plan.json"  # which may go with the same files
    return path.read_bytes() != content and not both_plans


def removed(artifact: Path, other: Path, rng: Random) -> bool:
    """One file is missing, or is a folder."""
    path = _file(artifact, rng)
    path.unlink()
    if rng.random() < 0.3:
        path.mkdir()
    return True


def edited_unsigned(artifact: Path, other: Path, rng: Random) -> bool:
    """The plan says something else and still states its old digest."""
    path = artifact / "plan.json"
    text = path.read_bytes()
    content = json.dumps(_edited(json.loads(unsigned(text) + b"}"), rng), indent=1)[: -len("\n}")].encode()
    path.write_bytes(content + text[len(unsigned(text)) :])
    return path.read_bytes() != text


def edited(artifact: Path, other: Path, rng: Random) -> bool:
    """The plan says something else and is signed again."""
    path = artifact / "plan.json"
    plan = json.loads(path.read_bytes())
    del plan["digest"]
    path.write_bytes(signed(_edited(plan, rng)))
    return False


def changed_text(artifact: Path, other: Path, rng: Random) -> bool:
    """Some bytes of the plan are others, and it is signed again."""
    path = artifact / "plan.json"
    path.write_bytes(sign(_changed(unsigned(path.read_bytes()), rng)))
    return False


def changed_weights(artifact: Path, other: Path, rng: Random) -> bool:
    """The weights file has other bytes, and the plan states its new hash."""
    content = (artifact / "weights.safetensors").read_bytes()
    write_weights(
        artifact, _changed(content, rng, near=200) if rng.random() < 0.7 else content[: rng.randrange(len(content))]
    )
    return False


def edited_weights(artifact: Path, other: Path, rng: Random) -> bool:
    """The header of the weights file says something else, and the plan states its new hash."""
    content = (artifact / "weights.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = _edited(json.loads(content[8 : 8 + length]), rng)
    write_weights(artifact, packed(json.dumps(header).encode(), content[8 + length :]))
    return False


def exchanged_weights(artifact: Path, other: Path, rng: Random) -> bool:
    """The weights are those of another artifact, and the plan states their hash."""
    write_weights(artifact, (other / "weights.safetensors").read_bytes())
    return False


DAMAGES: tuple[tuple[Damage, int], ...] = (
    (changed_bytes, 3), (truncated, 1), (exchanged, 1), (removed, 1), (edited_unsigned, 1),
    (edited, 12), (changed_text, 3), (changed_weights, 2), (edited_weights, 3), (exchanged_weights, 1),
)  # fmt: skip


def damage(artifact: Path, other: Path, rng: Random) -> tuple[str, bool]:
    """Damage an artifact. What was done, and whether the runner must refuse it."""
    kinds, odds = zip(*DAMAGES, strict=True)
    chosen = rng.choices(kinds, odds)[0]
    return chosen.__name__, chosen(artifact, other, rng)


def _file(artifact: Path, rng: Random) -> Path:
    """A file that loading reads; the plan as often as the others together."""
    plan = json.loads((artifact / "plan.json").read_bytes())
    called = {call["call"] for phase in plan["phases"] for step in phase["steps"] for call in step}
    launched = {op["launch"] for name in called for op in _flat(plan["graphs"][name]["ops"]) if "launch" in op}
    code = [plan["library"]] if plan["library"] else [plan["kernels"][index] for index in sorted(launched)]
    names = [part["file"] for part in (plan["weights"], *code)]
    return artifact / rng.choice(["plan.json"] * len(names) + names)


def _flat(ops: list[Json]) -> list[Json]:
    return [inner for op in ops for inner in (op, *_flat(op.get("ops", [])))]


def _changed(content: bytes, rng: Random, near: int = 2**62) -> bytes:
    """Some bytes flipped, replaced, removed, repeated or inserted, within the first `near`."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(max(1, min(near, len(changed))))
        end = start + rng.choice((0, 1, 1, 1, 2, 8, 50))
        kind = rng.randrange(5)
        if kind == 0 and changed:
            changed[start % len(changed)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[start:end] = rng.randbytes(len(changed[start:end]))
        elif kind == 2:
            del changed[start:end]
        elif kind == 3:
            changed[start:start] = changed[start:end]
        else:
            changed[start:start] = rng.choice(
                (b'"', b"[", b"}", b",", b"9", b"-", b"\\u", b"\xff", b"\0", b"1e999", b"null")
            )
    return bytes(changed)


def _edited(plan: Any, rng: Random) -> Any:
    """Some places of a JSON value changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(plan))
        if not places:
            return plan
        holder, key = rng.choice(places)
        found = holder[key]
        kind = rng.randrange(8)
        if kind == 0:
            holder[key] = rng.choice(WHOLE)
        elif kind == 1 and places:
            source, name = rng.choice(places)
            holder[key] = json.loads(json.dumps(source[name]))
        elif kind == 2:
            del holder[key]
        elif isinstance(found, bool | None):
            holder[key] = rng.choice(WHOLE)
        elif isinstance(found, int):
            holder[key] = rng.choice(
                (found + 1, found - 1, found + 4, found + 128, 2 * found, -found, rng.choice(INTEGERS))
            )
        elif isinstance(found, list):
            found.insert(rng.randint(0, len(found)), rng.choice([*found, *WHOLE[:9]]))
        elif isinstance(found, dict):
            found[rng.choice(("ops", "loop", "copy", "at", "zzz"))] = rng.choice(WHOLE)
        else:
            holder[key] = found[:-1] if rng.random() < 0.5 else found.replace("32", "64")
    return plan


def _places(value: Any) -> Any:
    """Every member and item, as its holder and its key."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
