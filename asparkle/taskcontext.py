"""What a task knows of itself, under the path that PySpark has it."""

from __future__ import annotations

from asparkle.core.barrier import BarrierTaskContext, BarrierTaskInfo
from asparkle.core.taskcontext import TaskContext

__all__ = ["BarrierTaskContext", "BarrierTaskInfo", "TaskContext"]
