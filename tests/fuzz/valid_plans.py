"""Random artifacts that are in order, and what they compute.

The inputs are the whole arenas, so that every byte that a kernel can read is known, and so are the outputs, so that
every byte that a kernel can write is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from tests.backends.runtime.plans import Json, call, copy, elements, graph, launch, loop, value, write

Arguments = list[tuple[int, list[int]]]  # a value and its strides


@dataclass(frozen=True)
class Device:
    """What plans for a kind of kernels look like.

    Attributes:
        kind: ``llvm`` or ``opencl``.
        sizes: how many numbers kernels work on.
        step: offsets and strides are multiples of so many bytes.
        kernels: the entries and how many arguments they take.
    """

    kind: str
    sizes: tuple[int, ...]
    step: int
    kernels: tuple[tuple[str, int], ...]


LLVM = Device("llvm", (1, 5, 16), 4, (("add", 3), ("twice", 2), ("parallel_twice", 2)))
OPENCL = Device("opencl", (32, 64), 128, (("add", 3), ("twice", 2)))


def write_valid(folder: Path, device: Device, rng: Random, sanitize: str = "") -> Path:
    """Write a random artifact."""
    maker = _Maker(device, rng)
    top = [value(f"arena{i}", f"int32[{size // 4}]", "arena", i) for i, size in enumerate(maker.arenas)]
    whole = list(range(len(top)))
    top += [value(f"w{i}", f"int32[{len(array)}]", "weight", i) for i, array in enumerate(maker.weights)]
    for i, size in enumerate(maker.arenas):  # halves: what calls hand over is apart
        half = size // 2 // 128 * 128
        top += [value(f"low{i}", f"int32[{half // 4}]", "arena", i)]
        top += [value(f"high{i}", f"int32[{half // 4}]", "arena", i, half)]
    graphs, calls = {}, []
    for i in range(rng.randint(1, 3)):
        handed = rng.sample([*range(len(whole) + len(maker.weights), len(top))], rng.randint(0, 2))
        graphs[f"graph{i}"] = maker.graph([top[index] for index in handed])
        calls += [call(f"graph{i}", *handed)] * rng.randint(0, 2)
    rng.shuffle(calls)
    return write(
        folder, device.kind, arenas=maker.arenas, kernels=maker.kernels, graphs=graphs, values=top, inputs=whole,
        outputs=[*whole, *range(len(whole), len(whole) + len(maker.weights))], steps=[[each] for each in calls],
        weights={f"w{i}": array for i, array in enumerate(maker.weights)}, alignment=128, sanitize=sanitize,
    )  # fmt: skip


class _Maker:
    def __init__(self, device: Device, rng: Random) -> None:
        self.device, self.rng = device, rng
        self.arenas = [256 * rng.randint(1, 6) for _ in range(rng.randint(1, 3))]
        sizes = [32 * rng.randint(1, 4) for _ in range(rng.randint(0, 2))]
        self.weights = [np.array([rng.randrange(2**31) for _ in range(size)], np.int32) for size in sizes]
        self.kernels: list[tuple[str, ...]] = []
        for entry, count in device.kernels:
            self.kernels += [(entry, *[f"int32[{size}]"] * count) for size in device.sizes]

    def graph(self, parameters: Sequence[Json]) -> Json:
        """A body that uses what it is handed, the weights, and arenas that it is not handed a part of."""
        places = [("parameter", i, 4 * elements(handed["type"])) for i, handed in enumerate(parameters)]
        places += [("weight", i, array.nbytes) for i, array in enumerate(self.weights)]
        used = {handed["at"][1] for handed in parameters}
        places += [("arena", i, size) for i, size in enumerate(self.arenas) if i not in used]
        self.values: list[Json] = []
        self.room: list[int] = []
        for _ in range(self.rng.randint(1, 6) if places else 0):
            space, index, size = self.rng.choice(places)
            offset = self.device.step * self.rng.randrange(size // self.device.step)
            most = (size - offset) // 4
            length = self.rng.choice([most, *(fits for fits in self.device.sizes if fits <= most)])
            self.values.append(value(f"v{len(self.values)}", f"int32[{length}]", space, index, offset))
            self.room.append(size - offset)
        ops = self.ops([], self.rng.randint(0, 6)) if self.values else []
        return graph([handed["type"] for handed in parameters], self.values, ops)

    def ops(self, loops: list[int], count: int) -> list[Json]:
        made: list[Json] = []
        for _ in range(count):
            if len(loops) < 3 and self.rng.random() < 0.3:
                times = self.rng.randint(1, 4)
                made.append(loop(times, *self.ops([*loops, times], self.rng.randint(0, 3))))
            elif self.rng.random() < 0.3:
                source = self.rng.randrange(len(self.values))
                type_ = self.values[source]["type"]
                target = self.rng.choice([i for i, each in enumerate(self.values) if each["type"] == type_])
                size = 4 * elements(type_)
                arguments = self.arguments([source, target], size, loops)
                made += [copy(*map(_written, arguments))] if arguments else []
            else:
                kernel = self.rng.randrange(len(self.kernels))
                _, *types = self.kernels[kernel]
                chosen = [self.rng.randrange(len(self.values)) for _ in types]
                arguments = self.arguments(chosen, 4 * elements(types[0]), loops)
                made += [launch(kernel, *map(_written, arguments))] if arguments else []
        return made

    def arguments(self, values: Sequence[int], size: int, loops: Sequence[int]) -> Arguments | None:
        """Strides for values of which the last is written, or None where they do not fit."""
        chosen: Arguments = []
        for index in values:
            left, strides = self.room[index] - size, []
            if left < 0:
                return None
            for times in loops[: self.rng.randint(0, len(loops))]:
                most = left // max(1, times - 1) // self.device.step
                strides.append(self.device.step * self.rng.randint(0, min(most, 8)))
                left -= strides[-1] * (times - 1)
            chosen.append((index, strides))
        space = self.values[values[-1]]["at"][0]
        apart = all(self._apart(chosen[-1], other, size, loops) for other in chosen[:-1])
        return chosen if apart and space != "weight" else None

    def _apart(self, a: tuple[int, list[int]], b: tuple[int, list[int]], size: int, loops: Sequence[int]) -> bool:
        (x, x_strides), (y, y_strides) = a, b
        x_at, y_at = self.values[x]["at"], self.values[y]["at"]
        if x_at[:2] != y_at[:2] or (x_at == y_at and x_strides == y_strides):
            return True
        ends = [
            at[2] + size + sum(stride * (times - 1) for stride, times in zip(strides, loops, strict=False))
            for at, strides in ((x_at, x_strides), (y_at, y_strides))
        ]
        return bool(ends[0] <= y_at[2] or ends[1] <= x_at[2])


def _written(argument: tuple[int, list[int]]) -> Any:
    index, strides = argument
    return [index, *strides] if strides else index


def compute(plan: Json, weights: Sequence[np.ndarray], inputs: Sequence[bytes]) -> list[bytes]:
    """What a plan of `write_valid` gives for these inputs, by the document."""
    arenas = [np.zeros(size, np.uint8) for size in plan["arenas"]]
    held = [np.frombuffer(array.tobytes(), np.uint8) for array in weights]

    def place(at: tuple[str, int, int], handed: Sequence[tuple[str, int, int]]) -> tuple[str, int, int]:
        if at[0] != "parameter":
            return at
        space, index, offset = handed[at[1]]
        return space, index, offset + at[2]

    def view(argument: Any, body: Json, handed: Any, counters: Sequence[int], size: int) -> np.ndarray:
        index, *strides = argument if isinstance(argument, list) else [argument]
        space, container, start = place(body["values"][index]["at"], handed)
        start += sum(stride * counter for stride, counter in zip(strides, counters, strict=False))
        return (arenas if space == "arena" else held)[container][start : start + size]

    def walk(ops: Sequence[Json], body: Json, handed: Any, counters: tuple[int, ...]) -> None:
        for op in ops:
            if "loop" in op:
                for counter in range(op["loop"]):
                    walk(op["ops"], body, handed, (*counters, counter))
            elif "copy" in op:
                source, target = op["copy"]
                index = source[0] if isinstance(source, list) else source
                size = 4 * elements(body["values"][index]["type"])
                view(target, body, handed, counters, size)[:] = view(source, body, handed, counters, size).copy()
            else:
                kernel = plan["kernels"][op["launch"]]
                size = 4 * elements(kernel["arguments"][0])
                *read, result = (view(argument, body, handed, counters, size) for argument in op["args"])
                terms = [array.copy().view(np.uint32) for array in (read if len(read) == 2 else read * 2)]
                result[:] = (terms[0] + terms[1]).view(np.uint8)

    values = [(tuple(each["at"]), 4 * elements(each["type"])) for each in plan["values"]]
    for index, content in zip(plan["inputs"], inputs, strict=True):
        (_, container, start), size = values[index]
        arenas[container][start : start + size] = np.frombuffer(content, np.uint8)
    for phase in plan["phases"]:
        for step in phase["steps"]:
            for each in step:
                body = plan["graphs"][each["call"]]
                walk(body["ops"], body, [values[index][0] for index in each["args"]], ())
    return [
        (arenas if space == "arena" else held)[container][start : start + size].tobytes()
        for (space, container, start), size in (values[index] for index in plan["outputs"])
    ]
