"""Fuzzing the native runner: random artifacts, whole and damaged, through load and run.

    python -m tests.fuzz.fuzz_plan --minutes 10 --seed 1
    python -m tests.fuzz.fuzz_plan --minutes 10 --sanitize address,undefined --kind opencl
    python -m tests.fuzz.fuzz_plan --minutes 1 --library build/libpenstock_runtime.so

A whole artifact must give what `valid_plans.compute` says. A damaged one must be refused with a reason, or, where it
is signed again, may run; it must never crash, hang, leak or make a sanitizer report. What does otherwise is kept in a
folder with its seed and a note of what happened; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random

from tests.backends.runtime import native_builds
from tests.backends.runtime.capi import library, opencl_devices
from tests.fuzz.damage import damage
from tests.fuzz.trial import Answer, Trial, expected_hash, is_long
from tests.fuzz.valid_plans import LLVM, OPENCL, write_valid

CODES = ("accepted", "bad argument", "bad artifact", "no device", "no memory", "failed")
PER_ARTIFACT = 40  # damaged copies of each whole artifact
PER_PROCESS = 2000  # cases between looks at what a process leaked


@dataclass
class Figures:
    """What a campaign saw.

    Attributes:
        cases: how many cases of each kind.
        codes: how often each code was returned, by kind of case.
        reasons: the refusals, without names and numbers.
        findings: folders of what must not happen.
    """

    cases: Counter[str] = field(default_factory=Counter)
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Take over what another worker saw."""
        self.cases += other.cases
        self.codes += other.codes
        self.reasons += other.reasons
        self.findings += other.findings


@dataclass(frozen=True)
class Campaign:
    """What to fuzz.

    Attributes:
        kind: ``llvm`` or ``opencl``.
        runner: the library.
        sanitize: what it is built with.
        seconds: how long.
        seed: of everything random.
        keep: the folder for findings.
    """

    kind: str
    runner: Path
    sanitize: str
    seconds: float
    seed: int
    keep: Path


def fuzz(campaign: Campaign, worker: int) -> Figures:
    """One worker's share."""
    figures, end = Figures(), time.monotonic() + campaign.seconds
    device = OPENCL if campaign.kind == "opencl" else LLVM
    kernels = "address" if "address" in campaign.sanitize and campaign.kind == "llvm" else ""
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as name,
        Trial(campaign.runner, campaign.sanitize, campaign.kind) as trial,
    ):
        folder = Path(name)
        other = write_valid(folder / "first", device, Random(campaign.seed), kernels)
        for number in range(sys.maxsize):
            seed = f"{campaign.seed}-{worker}-{number}"
            rng = Random(seed)
            whole = write_valid(folder / seed, device, rng, kernels)
            answer = trial.ask(whole)
            _note(figures, campaign, "whole", answer)
            if answer.code != 0 or answer.hash != expected_hash(whole):
                _keep(figures, campaign, whole, f"{seed}-whole", f"a whole artifact gave {answer}")
            for case in range(PER_ARTIFACT):
                if time.monotonic() >= end:
                    break
                copy = Path(shutil.copytree(whole, folder / "case"))
                what, must_fail = damage(copy, other, rng)
                answer = trial.ask(copy)
                _note(figures, campaign, what, answer)
                problem = _problem(answer, must_fail, copy)
                if problem:
                    _keep(figures, campaign, copy, f"{seed}-{case}-{what}", problem)
                shutil.rmtree(copy)
            if time.monotonic() >= end or trial.cases >= PER_PROCESS:
                left = trial.restart()
                if left:
                    _keep(figures, campaign, whole, f"{seed}-exit", left)
            if time.monotonic() >= end:
                return figures
            shutil.rmtree(other)
            other = whole
    return figures


def _problem(answer: Answer, must_fail: bool, artifact: Path) -> str:
    """What is wrong with an answer, or ''."""
    if answer.code is None:
        return "" if answer.timed_out and is_long(artifact) else f"{answer}"
    if answer.code not in range(len(CODES)):
        return f"an unknown code: {answer}"
    if must_fail and answer.code != 2:
        return f"a damaged artifact is not refused as one: {answer}"
    return f"a refusal without a reason: {answer}" if answer.code and not answer.message else ""


def _note(figures: Figures, campaign: Campaign, what: str, answer: Answer) -> None:
    figures.cases[what] += 1
    figures.codes[what, "no answer" if answer.code is None else CODES[answer.code]] += 1
    if answer.code:
        reason = re.sub(r"'[^']*'|\S*\[[^ ]*|\d+|[\w.]+\.(safetensors|so|cl)", "…", answer.message.split(";")[0])
        figures.reasons[reason[:100]] += 1


def _keep(figures: Figures, campaign: Campaign, artifact: Path, name: str, problem: str) -> None:
    target = campaign.keep / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(artifact, target)
    (target / "what-happened.txt").write_text(f"{problem}\n{campaign}\n")
    figures.findings.append(f"{target}: {problem.splitlines()[0][:200]}")


def run(campaign: Campaign, workers: int) -> Figures:
    """A whole campaign, in several processes."""
    figures = Figures()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for share in pool.map(fuzz, [campaign] * workers, range(workers)):
            figures.add(share)
    return figures


def report(figures: Figures) -> str:
    """The figures as text."""
    lines = [f"{figures.cases.total()} cases, {len(figures.findings)} findings"]
    for what, count in figures.cases.most_common():
        codes = ", ".join(
            f"{code} {figures.codes[what, code]}" for code in (*CODES, "no answer") if figures.codes[what, code]
        )
        lines.append(f"  {what:18} {count:8}   {codes}")
    lines.append(f"{len(figures.reasons)} reasons, the most frequent:")
    lines += [f"  {count:8}   {reason}" for reason, count in figures.reasons.most_common(40)]
    return "\n".join([*lines, *figures.findings, ""])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=("llvm", "opencl"), default="llvm")
    parser.add_argument(
        "--sanitize", choices=tuple(native_builds.SANITIZERS), default="", help="build the runner with it"
    )
    parser.add_argument("--library", type=Path, help="the runner to try; by default the installed one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--keep", type=Path, default=native_builds.BUILD / "findings")
    chosen = parser.parse_args()
    if chosen.kind == "opencl" and not opencl_devices():
        parser.error("there is no OpenCL device here")
    runner = chosen.library or (native_builds.library(chosen.sanitize) if chosen.sanitize else Path(library()._name))
    campaign = Campaign(chosen.kind, runner, chosen.sanitize, 60 * chosen.minutes, chosen.seed, chosen.keep)
    figures = run(campaign, chosen.workers)
    sys.stdout.write(report(figures))
    return 1 if figures.findings else 0


if __name__ == "__main__":
    sys.exit(main())
