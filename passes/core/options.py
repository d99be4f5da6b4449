"""Setting a pass's options from text: ``NAME[:key=value,…]`` on the command line, tables in a TOML pipeline file.

A pipeline file::

    name = "mine"

    [[pass]]
    name = "fold-constants"
    max_growth = 4.0

The option's type is the dataclass field's annotation, and pydantic checks and converts it.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from penstock.passes.core.base import Pass
from penstock.passes.core.errors import UsageError
from penstock.passes.core.registry import find_pass


def build_pass(name: str, options: Mapping[str, Any]) -> Pass:
    """A pass with checked options; `UsageError` names the option, what was expected and what was given."""
    pass_type = find_pass(name)
    fields = [field.name for field in dataclasses.fields(pass_type)]
    for option in options:
        if option not in fields:
            near = difflib.get_close_matches(option, fields, n=1)
            known = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(fields) or 'no options'}."
            raise UsageError(f"pass '{name}' has no option '{option}'; {known}")
    try:
        return TypeAdapter(pass_type).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "?"
        raise UsageError(f"pass '{name}', option '{where}': {first['msg']}, got {first['input']!r}") from error
    except ValueError as error:
        raise UsageError(f"pass '{name}': {error}") from error


def parse_pass(text: str) -> Pass:
    """The pass written as ``NAME`` or ``NAME:key=value,key=value``."""
    name, _, rest = text.partition(":")
    options = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"'{text}': expected NAME:key=value,…, found '{item}' without '='")
        options[key.strip()] = value.strip()
    return build_pass(name.strip(), options)


def read_pipeline_file(path: Path) -> tuple[Pass, ...]:
    """The passes of a TOML pipeline file, in order."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the pipeline file {path}: {error}") from error
    entries = data.get("pass")
    unknown = sorted(set(data) - {"name", "description", "pass"})
    if unknown or not isinstance(entries, list):
        found = f"unknown key(s) {', '.join(unknown)}" if unknown else "no [[pass]] tables"
        raise UsageError(f"{path}: {found}; a pipeline file holds `name` and one [[pass]] table per pass")
    passes = []
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UsageError(f"{path}: [[pass]] number {position} has no name")
        try:
            passes.append(build_pass(entry["name"], {key: value for key, value in entry.items() if key != "name"}))
        except UsageError as error:
            raise UsageError(f"{path}: [[pass]] number {position}: {error}") from error
    return tuple(passes)


def format_pass(instance: Pass) -> str:
    """The text that `parse_pass` turns back into this pass; options at their default are left out."""
    shown = []
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if value != field.default:
            shown.append(f"{field.name}={value}")
    return f"{instance.name()}:{','.join(shown)}" if shown else instance.name()
