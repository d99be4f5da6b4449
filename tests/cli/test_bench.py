from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli.bench import WARM_UP, measure, summarise


def test_contenders_take_turns_and_the_order_alternates() -> None:
    order: list[str] = []
    ticks = iter(range(100))
    rounds = measure(
        {name: lambda name=name: order.append(name) for name in ("penstock", "eager")},
        repeat=3,
        clock=lambda: float(next(ticks)),
    )
    assert order[: 2 * WARM_UP] == ["penstock", "eager"] * WARM_UP
    assert order[2 * WARM_UP :] == ["penstock", "eager", "eager", "penstock", "penstock", "eager"]
    assert rounds == {"penstock": [1.0] * 3, "eager": [1.0] * 3}


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    ours, theirs = summarise({"penstock": [0.001, 0.010, 0.002], "eager": [0.002, 0.010, 0.006]})
    assert ours == {"name": "penstock", "median_ms": 2.0, "min_ms": 1.0, "max_ms": 10.0, "ratio": 1.0}
    assert theirs["ratio"] == pytest.approx(2.0)
    assert theirs["median_ms"] == pytest.approx(6.0)


def test_alone(artifact: Path, invoke_json) -> None:
    data = invoke_json("bench", artifact, "--repeat", "3", "--threads", "1")
    assert (data["threads"], data["rounds"]) == (1, 3)
    (row,) = data["contenders"]
    assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]


def test_against_eager_and_onnxruntime(artifact: Path, net: str, invoke) -> None:
    result = invoke(
        *("bench", artifact, "--model", net, "--against", "eager", "--against", "onnxruntime"),
        *("--repeat", "2", "--threads", "1"),
    )
    assert result.exit_code == 0, result.output
    names = [line.split()[0] for line in result.stdout.splitlines()[3:]]
    assert names == ["penstock", "eager", "onnxruntime"]
    assert result.stdout.startswith("1 thread(s), 2 rounds after 2 to warm up\n")


def test_against_needs_the_model(artifact: Path, invoke) -> None:
    result = invoke("bench", artifact, "--against", "eager")
    assert result.exit_code == 2
    assert "--against eager needs --model MODEL, the model that" in result.stderr


def test_another_model_is_refused(artifact: Path, models: Path, invoke) -> None:
    result = invoke("bench", artifact, "--against", "eager", "--model", f"{models}:wide")
    assert result.exit_code == 2
    assert "is not the model of this artifact: it takes [(2, 16)], the artifact [(2, 8)]" in result.stderr
