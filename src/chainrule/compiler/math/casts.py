"""Conversions between dtypes, as the primitive `cast` defines them."""

from __future__ import annotations

from ... import dtypes
from ...dtypes import DType
from .. import halves
from ..vector import is_float, is_signed, mangled, scalar_type
from .lanes import Lanes


def cast(x: Lanes, source: DType, target: DType) -> Lanes:
    """Convert; floats saturate in integer types, NaN becomes 0 there, and integers wrap around."""
    if source == target:
        return x
    e, of = x.e, x.e.of(target)
    if target == dtypes.bool_:
        if is_float(source):
            return Lanes(e, e.b.fcmp_unordered("!=", x.v, x.const(0.0).v))
        return Lanes(e, e.b.icmp_signed("!=", x.v, x.const(0).v))
    if is_float(target):
        return _to_float(x, source, target)
    if is_float(source):
        name = f"llvm.fpto{'si' if is_signed(target) else 'ui'}.sat.{mangled(of)}.{mangled(x.v.type)}"
        return Lanes(e, e.call(name, of, [x.v]))
    bits = 1 if source == dtypes.bool_ else 8 * source.itemsize
    if bits >= 8 * target.itemsize:
        return x if bits == 8 * target.itemsize else Lanes(e, e.b.trunc(x.v, of))
    return Lanes(e, (e.b.sext if is_signed(source) else e.b.zext)(x.v, of))


def _to_float(x: Lanes, source: DType, target: DType) -> Lanes:
    e, of = x.e, x.e.of(target)
    if not is_float(source):
        x = Lanes(e, (e.b.sitofp if is_signed(source) else e.b.uitofp)(x.v, of))
    elif source == dtypes.float64 and target == dtypes.float16:
        x = Lanes(e, halves.odd_float(e, x.v))  # NumPy rounds once
    else:
        x = x.to(scalar_type(target))
    exact = is_float(source) and source.itemsize < target.itemsize
    return x if exact or target not in dtypes.HALF else Lanes(e, halves.nearest(e, x.v, target))
