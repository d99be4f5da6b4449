from __future__ import annotations

from penstock.backends.targets import all_targets


def test_list_shows_every_target(invoke, invoke_json) -> None:
    text = invoke("targets", "list").stdout
    for name, target in all_targets().items():
        assert name in text
        assert target.description in text
    assert [row["name"] for row in invoke_json("targets", "list")["targets"]] == list(all_targets())


def test_show_gives_limits_and_sources(invoke, invoke_json) -> None:
    text = invoke("targets", "show", "adreno-830").stdout
    target = all_targets()["adreno-830"]
    assert f"adreno-830: {target.description}" in text
    (row,) = [line for line in text.splitlines() if "threads in a work-group" in line]
    assert row.split()[-1] == str(target.limits.max_threads)
    assert "source: " in text
    data = invoke_json("targets", "show", "adreno-830")
    assert data["limits"]["max_threads"] == target.limits.max_threads
    assert data["kind"] == "opencl"


def test_an_alias_is_a_name(invoke_json) -> None:
    name, target = next((name, target) for name, target in all_targets().items() if target.aliases)
    assert invoke_json("targets", "show", target.aliases[0])["name"] == name


def test_an_unknown_target_offers_the_nearest(invoke) -> None:
    result = invoke("targets", "show", "aple-a18")
    assert result.exit_code == 2
    assert "unknown target 'aple-a18'; did you mean apple-a18" in result.stderr
