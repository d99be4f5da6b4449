"""The artifact: the folder ``NAME.penstock`` that a compilation leaves and an app loads."""

from __future__ import annotations

from penstock.backends.artifact.manifest import SCHEMA_VERSION, Manifest
from penstock.backends.artifact.reader import Artifact, is_artifact, open_artifact
from penstock.backends.artifact.writer import write_artifact

__all__ = ["SCHEMA_VERSION", "Artifact", "Manifest", "is_artifact", "open_artifact", "write_artifact"]
