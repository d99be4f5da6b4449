from __future__ import annotations

import importlib.metadata

import pytest

from penstock.cli.doctor import Check, pinned_version, run_checks


def by_name() -> dict[str, Check]:
    return {check.name: check for check in run_checks()}


def test_everything_that_is_required_is_here(invoke, invoke_json) -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    checks = invoke_json("doctor")["checks"]
    assert all(check["ok"] for check in checks if check["required"])
    for check in checks:
        assert check["name"] in result.stdout


def test_what_is_missing_comes_with_the_way_to_mend_it(invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TVM_NDK_CC", "ANDROID_NDK_HOME", "ANDROID_NDK_ROOT", "ANDROID_NDK"):
        monkeypatch.delenv(name, raising=False)
    result = invoke("doctor")
    assert result.exit_code == 0
    assert "Android NDK: unpack an NDK and set ANDROID_NDK_HOME" in result.stdout


def test_a_missing_compiler_exits_with_6(invoke, invoke_json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    result = invoke("doctor")
    assert result.exit_code == 6
    assert "missing: C++ compiler" in result.stderr
    assert "C++ compiler: " in result.stdout
    data = invoke_json("doctor", code=6)
    (check,) = [check for check in data["checks"] if check["name"] == "C++ compiler"]
    assert (check["ok"], check["found"]) == (False, "none of c++, g++, clang++")


def test_the_compiler_named_by_cxx_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert by_name()["C++ compiler"].found == "none of no-such-compiler"


@pytest.mark.parametrize("package", ["torch", "apache-tvm", "apache-tvm-ffi"])
def test_packages_are_held_against_the_pins(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = pinned_version(package)
    assert by_name()[package].ok
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == package else version(name))
    check = by_name()[package]
    assert not check.ok
    assert check.found == f"9.9, expected {pinned}"
    assert check.mend.endswith(f"-m pip install '{package}=={pinned}'")


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert by_name()["torch"].found == "not installed"


def test_an_ndk_is_found_by_its_variable(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv("TVM_NDK_CC", raising=False)
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path))
    assert by_name()["Android NDK"].ok
    monkeypatch.setenv("ANDROID_NDK_HOME", str(tmp_path / "gone"))
    assert by_name()["Android NDK"].found == f"ANDROID_NDK_HOME={tmp_path / 'gone'}, which does not exist"
