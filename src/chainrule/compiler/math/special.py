"""Error functions."""

from __future__ import annotations

from ..vector import F32
from .exponential import exp_normal
from .lanes import Lanes, at_most, fma, poly, sign_of, size, where

# erf(x) / x - 1 in x², highest power first: minimax on |x| <= 1, error 2^-29.4 of erf.
_ERF32 = (
    7.806903158780187e-05,
    -0.0007997853099368513,
    0.005187162198126316,
    -0.026853347197175026,
    0.11283578723669052,
    -0.3761262595653534,
    0.12837916612625122,
)
# log(erfc(x)): minimax on [1, 3.95], error 2^-29.8 of erf.
_LOG_ERFC32 = (
    0.00018637249013409019,
    -0.002947613364085555,
    0.021837938576936722,
    -0.10310657322406769,
    -0.6381449699401855,
    -1.1270891427993774,
    -0.0003415273386053741,
)


def erf(x: Lanes) -> Lanes:
    """A polynomial up to 1, then 1 minus the exponential of one; from 3.93 on it rounds to 1."""
    assert x.scalar == F32
    s = size(x)
    near = fma(s, poly(s * s, _ERF32), s)
    far = 1.0 - exp_normal(poly(at_most(s, 3.95), _LOG_ERFC32))
    return sign_of(where(s < 1.0, near, far), x)
