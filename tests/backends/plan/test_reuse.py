from __future__ import annotations

from dataclasses import replace

from penstock.backends.plan.launches import Body, Copy, Kernel, Launch, Loop, Storage, Type, Value
from penstock.backends.plan.reuse import coalesce, handed_on, in_place

ROW = Type("float32", (16,))
WHOLE = Type("float32", (32,))


def kernel(*in_place: tuple[int, int]) -> Kernel:
    return Kernel("k", "k", "", "opencl", (ROW, ROW), (1,), in_place)


def body(ops: tuple[Launch | Copy | Loop, ...], spaces: str) -> Body:
    """Storages p(arameter) and l(ocal), one value in each; W is a local of double size with a value per half after."""
    storages, values = [], []
    for index, letter in enumerate(spaces):
        kind = WHOLE if letter == "W" else ROW
        storages.append(Storage("parameter" if letter == "p" else "local", kind.bytes, index))
        values.append(Value(f"v{index}", kind, index))
    if "W" in spaces:
        whole = spaces.index("W")
        values += [Value("left", ROW, whole), Value("right", ROW, whole, ROW.bytes)]
    return Body((ROW,) * spaces.count("p"), 1, tuple(storages), tuple(values), ops)


def test_a_dead_operand_is_written_over() -> None:
    chain = body((Launch(0, (0, 1)), Launch(0, (1, 2)), Launch(0, (2, 3))), "pllp")
    merged = in_place(chain, [kernel((1, 0))])
    assert {value.storage for value in merged.values[1:]} == {3}, "the last result takes all over"
    assert merged.values[0].storage == 0, "an argument of the caller is never written over"


def test_an_operand_needed_later_stays() -> None:
    used_twice = body((Launch(0, (0, 1)), Launch(0, (1, 2)), Launch(0, (1, 3))), "pllp")
    merged = in_place(used_twice, [kernel((1, 0))])
    assert merged.values[1].storage != merged.values[2].storage
    assert merged.values[1].storage == merged.values[3].storage == 3, "after its last use it is"


def test_an_operand_stays_that_another_one_looks_into() -> None:
    made, apart, beside = Launch(0, (0, 1)), Launch(1, (1, 2)), Launch(1, (1, 2, 3))
    kernels = [kernel(), kernel((1, 0))]
    assert in_place(body((made, apart), "pWW"), kernels).values[1].storage == 2
    assert in_place(body((made, beside), "pWW"), kernels).values[1].storage == 1, "a half of it is read as well"


def test_a_kernel_that_may_not_does_not() -> None:
    chain = body((Launch(0, (0, 1)), Launch(0, (1, 2))), "plp")
    assert in_place(chain, [kernel()]).values == chain.values


def test_an_argument_that_dies_is_written_over() -> None:
    chain = body((Launch(0, (0, 1)), Launch(0, (1, 2))), "pll")
    assert {value.storage for value in in_place(chain, [kernel((1, 0))], {0}).values} == {0}
    one = body((Launch(0, (0, 1)),), "pp")
    assert in_place(one, [kernel((1, 0))], {0}).over == {1: 0}
    assert in_place(one, [kernel((1, 0))]).over == {}


def test_an_argument_that_dies_is_handed_on() -> None:
    other_shape = body((Copy(0, 1),), "pp")
    assert (handed_on(other_shape, {0}).over, handed_on(other_shape, {0}).ops) == ({1: 0}, ())
    assert handed_on(other_shape, set()) == other_shape, "somebody needs it"
    twice = handed_on(body((Copy(0, 1), Copy(0, 2)), "ppp"), {0})
    assert (twice.over, twice.ops) == ({1: 0}, (Copy(0, 2),)), "two results are two values"
    made_over = body((Copy(0, 1), Launch(0, (0, 1))), "pp")
    assert handed_on(made_over, {0}) == made_over, "what is written later is not the argument"


def test_every_iteration_finds_what_was_made_before_the_loop() -> None:
    ops = (Launch(0, (0, 1)), Loop(3, (Launch(0, (1, 2)), Launch(0, (2, 3)))))
    merged = in_place(body(ops, "plll"), [kernel((1, 0))], {0})
    assert merged.values[1].storage != merged.values[2].storage == merged.values[3].storage


def test_parts_are_made_in_the_whole() -> None:
    joined = body((Launch(0, (0, 1)), Launch(0, (0, 2)), Copy(1, 5), Copy(2, 6), Launch(0, (3, 4))), "pllWp")
    merged = coalesce(joined)
    assert [type(op) for op in merged.ops] == [Launch, Launch, Launch]
    assert [(value.storage, value.offset) for value in merged.values[1:3]] == [(3, 0), (3, ROW.bytes)]


def test_an_early_part_is_copied_where_the_whole_would_cost_more() -> None:
    """The left part is there long before the join, at the peak of something else."""
    ops = (
        Launch(0, (0, 1)),  # the left part
        Launch(0, (5, 6)),  # two large values pass by
        Launch(0, (6, 2)),  # the right part
        Copy(1, 7),
        Copy(2, 8),
        Launch(0, (3, 4)),
    )
    big = Type("float32", (64,))
    base = body((), "pllWpll")
    storages = [Storage("local", big.bytes) if index in (5, 6) else item for index, item in enumerate(base.storages)]
    values = [
        Value(item.name, big, item.storage) if index in (5, 6) else item for index, item in enumerate(base.values)
    ]
    merged = coalesce(Body(base.parameters, 1, tuple(storages), tuple(values), ops))
    assert [type(op) for op in merged.ops].count(Copy) == 1
    assert merged.values[1].storage == 1, "the left part keeps its place"


def test_a_part_is_copied_while_the_argument_next_to_it_waits() -> None:
    """Made in its place, the part would have the whole stand beside the argument that is copied there, too."""
    base = body((Launch(0, (4, 1)), Copy(0, 5), Copy(1, 6), Launch(0, (2, 3))), "plWpl")
    large = Storage("local", WHOLE.bytes)
    joined = replace(base, storages=(*base.storages[:4], large))
    assert coalesce(joined) == joined


def test_an_argument_is_copied() -> None:
    passed_on = body((Copy(0, 1),), "pp")
    assert coalesce(passed_on) == passed_on
