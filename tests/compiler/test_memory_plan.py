"""The plan of the arena: no two values that live at one time meet, and small ones are in nobody's way."""

from __future__ import annotations

from hypothesis import given, strategies as st

from chainrule.compiler.memory import ALIGNMENT, SMALL, Buffer, place

LIVES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10), st.integers(0, 5000)), max_size=30)


@given(LIVES)
def test_values_that_live_at_one_time_have_places_of_their_own(lives):
    buffers = [Buffer(size, start=start, end=start + length) for start, length, size in lives]
    top = place(buffers)
    for i, a in enumerate(buffers):
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.size <= top
        for b in buffers[:i]:
            apart = a.end < b.start or b.end < a.start
            assert apart or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_a_small_value_is_in_no_large_ones_way():
    large, small = 1 << 20, (1 << 20) // SMALL
    buffers = [
        Buffer(large, start=0, end=2), Buffer(small, start=3, end=9), Buffer(large, start=4, end=9),
        Buffer(small, start=10, end=11),
    ]  # fmt: skip
    assert place(buffers) == large + small + 2 * ALIGNMENT


def test_what_is_never_used_has_no_place():
    assert place([Buffer(100)]) == place([]) == 0
