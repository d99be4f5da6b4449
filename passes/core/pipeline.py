"""Running passes in order, with instruments around them and the dialect checked after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.passes.core import dialect
from penstock.passes.core.base import Pass
from penstock.passes.core.context import Context
from penstock.passes.core.errors import InvalidProgramError, PenstockError
from penstock.passes.core.instruments import Instrument
from penstock.passes.core.options import format_pass
from penstock.passes.core.program import Program


@dataclass(frozen=True)
class Pipeline:
    """A list of passes.

    Args:
        passes: what runs, in order.
        instruments: what watches; see `instruments`.
    """

    passes: Sequence[Pass]
    instruments: Sequence[Instrument] = ()

    def run(self, program: Program, context: Context | None = None) -> Program:
        """Run all passes. A pass that fails is named, together with those that ran before it.

        Raises:
            PenstockError: what a pass raised on purpose.
            InvalidProgramError: a pass broke the dialect, changed the signature, or crashed.
        """
        context = context or Context()
        for instrument in self.instruments:
            instrument.start(program, self.passes)
        done: list[str] = []
        for current in self.passes:
            if not all(instrument.should_run(current, program) for instrument in self.instruments):
                continue
            for instrument in self.instruments:
                instrument.before(current, program)
            result = self._run_one(current, program, context, done)
            for instrument in self.instruments:
                instrument.after(current, program, result)
            program = result
            done.append(current.name())
        for instrument in self.instruments:
            instrument.finish(program)
        return program

    @staticmethod
    def _run_one(current: Pass, program: Program, context: Context, done: Sequence[str]) -> Program:
        story = f"pass '{current.name()}' (after {', '.join(done) or 'nothing'})"
        try:
            result = current.run(program, context)
        except PenstockError:
            raise
        except Exception as error:
            raise InvalidProgramError(f"{story} crashed: {type(error).__name__}: {error}") from error
        if result is program:
            return program
        dialect.check(result, story)
        if current.exactness == "exact" and result.signature != program.signature:
            raise InvalidProgramError(f"{story} is exact but changed the signature of the program")
        return result.noted(format_pass(current))
