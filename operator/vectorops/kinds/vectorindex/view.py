"""What a decision about a VectorIndex looks at: the name of the type, for every module that decides."""

from __future__ import annotations

from typing import TypeAlias

from vectorops.kinds.vectorindex.observation import Observation
from vectorops.kinds.vectorindex.resource import VectorIndexSpec, VectorIndexStatus
from vectorops.runtime.kind import View

Look: TypeAlias = View[VectorIndexSpec, Observation, VectorIndexStatus]
