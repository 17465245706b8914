"""This library: the networks of `networks`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chainrule as cr

TITLE = "chainrule"
REQUIRES = ()
MODES = ("compiled",)
EXTRA_MODES = ("eager",)
CACHES = ("CHAINRULE_CACHE_DIR",)


def build(job: Any, mode: str, threads: int) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    from networks import trainable

    cr.set_num_threads(threads)
    made = trainable(job)
    step = cr.compile(made.step) if mode == "compiled" else made.step
    return partial(step, *made.arguments), cr.Tensor.item


def details(step: Any) -> dict[str, Any]:
    """Of the compiled program: kernels (those in the body of a loop count once), different codes, and memory."""
    from chainrule.compiler.program import walk

    if not hasattr(step.func, "programs"):
        return {}
    program = step.func.programs[0]
    calls = [s.call for s in walk(program.steps) if s.call is not None]
    codes = {call.code.key for call in calls}
    return {"kernels": len(calls), "codes": len(codes), "arena_mb": program.arena_size / 1e6}
