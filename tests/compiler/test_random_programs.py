"""Random programs agree with eager mode: values and gradients of 5 to 40 operations on mixed shapes and dtypes."""

from __future__ import annotations

import numpy as np
import pytest
from agree import Case, check, with_gradient
from hypothesis import given, settings
from random_programs import OPERATIONS, arguments, drawn, function_of, programs

import chainrule as cr


def agrees(program):
    check([Case("program", function_of(program), arguments(program), gradient=True)])


@settings(max_examples=100)
@given(programs)
def test_random_programs_agree(program):
    agrees(program)


@pytest.mark.slow
@settings(max_examples=1000)
@given(programs)
def test_a_thousand_random_programs_agree(program):
    agrees(program)


def test_programs_are_what_they_claim():
    """They use all operations, have many nodes, several dtypes, and gradients that are neither zero nor undefined."""
    sizes, dtypes, moving = [], set(), 0
    for seed in range(20):
        program = drawn(seed, 40)
        args = [cr.asarray(x) for x in arguments(program)]
        compiled = cr.compile(with_gradient(function_of(program)))
        gradients = compiled(*args)[1]
        sizes.append(len(compiled.programs[0].graph.nodes))
        dtypes |= {v.dtype.name for node in compiled.programs[0].graph.nodes for v in node.outputs}
        moving += any(np.isfinite(g.numpy().astype(float)).all() and g.numpy().any() for g in gradients)
    assert np.median(sizes) > 60
    assert {"float32", "float64", "float16", "bfloat16", "int64", "int32", "bool"} <= dtypes
    assert moving >= 10
    assert len({step.operation for seed in range(100) for step in drawn(seed, 40).steps}) == len(OPERATIONS)
