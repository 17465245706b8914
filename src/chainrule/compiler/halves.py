"""16-bit floats as bits: to float32 and back, in integer instructions that every machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir

from .. import dtypes
from ..dtypes import DType

if TYPE_CHECKING:
    from .vector import Emitter

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


def _shaped(like: Any, scalar: Any) -> Any:
    """An LLVM type with as many lanes as ``like``."""
    return ir.VectorType(scalar, like.type.count) if isinstance(like.type, ir.VectorType) else scalar


def _const(like: Any, scalar: Any, value: float) -> Any:
    of = _shaped(like, scalar)
    return ir.Constant(of, [scalar(value)] * of.count) if isinstance(of, ir.VectorType) else scalar(value)


def widen(e: Emitter, bits: Any, dtype: DType) -> Any:
    """float32 of the 16 bits of a float16 or bfloat16; exact."""
    b, of = e.b, _shaped(bits, _F32)

    def const(value: int) -> Any:
        return _const(bits, _I32, value)

    wide = b.zext(bits, _shaped(bits, _I32))
    if dtype == dtypes.bfloat16:
        return b.bitcast(b.shl(wide, const(16)), of)
    size = b.and_(wide, const(0x7FFF))
    sign = b.shl(b.xor(wide, size), const(16))
    # the exponent's bias grows from 15 to 127; that of inf and NaN from 31 to 255
    special = b.icmp_unsigned(">=", size, const(0x7C00))
    bias = b.select(special, const(224 << 23), const(112 << 23))
    normal = b.add(b.shl(size, const(13)), bias)
    # a subnormal is a multiple of 2^-24, normal in float32
    units = b.fmul(b.sitofp(size, of), _const(bits, _F32, 2.0**-24))
    subnormal = b.bitcast(units, normal.type)
    size = b.select(b.icmp_unsigned("<", size, const(0x400)), subnormal, normal)
    return b.bitcast(b.or_(size, sign), of)


def narrow(e: Emitter, x: Any, dtype: DType) -> Any:
    """The 16 bits nearest to a float32, ties to even."""
    b = e.b
    bits = b.bitcast(x, _shaped(x, _I32))

    def const(value: int) -> Any:
        return _const(x, _I32, value)

    if dtype == dtypes.bfloat16:
        odd = b.and_(b.lshr(bits, const(16)), const(1))
        rounded = b.add(b.add(bits, const(0x7FFF)), odd)
        quiet = b.or_(bits, const(0x400000))
        kept = b.select(b.fcmp_unordered("uno", x, x), quiet, rounded)
        return b.trunc(b.lshr(kept, const(16)), _shaped(x, _I16))
    size = b.and_(bits, const(0x7FFFFFFF))
    sign = b.lshr(b.xor(bits, size), const(16))
    odd = b.and_(b.lshr(size, const(13)), const(1))
    rounded = b.add(b.add(size, const(0xFFF - (112 << 23))), odd)
    # a carry out of the largest number gives the bits of infinity by itself
    normal = b.select(b.icmp_unsigned(">=", size, const(143 << 23)), const(0x7C00), b.lshr(rounded, const(13)))
    # below 2^-14 adding 1/2 rounds to multiples of 2^-24
    shifted = b.fadd(b.bitcast(size, x.type), _const(x, _F32, 0.5))
    units = b.sub(b.bitcast(shifted, size.type), const(126 << 23))
    found = b.select(b.icmp_unsigned("<", size, const(113 << 23)), units, normal)
    payload = b.or_(b.and_(b.lshr(size, const(13)), const(0x3FF)), const(0x7E00))
    found = b.select(b.icmp_unsigned(">", size, const(255 << 23)), payload, found)
    return b.trunc(b.or_(found, sign), _shaped(x, _I16))


def nearest(e: Emitter, x: Any, dtype: DType) -> Any:
    """The value of ``dtype`` nearest to a float32, as float32."""
    return widen(e, narrow(e, x, dtype), dtype)


def odd_float(e: Emitter, x: Any) -> Any:
    """A float64 as float32, rounded to odd: rounding that again to 16 bits is rounding once.

    Boldo, Melquiond, "When double rounding is odd" (2004).
    """
    b = e.b
    near = b.fptrunc(x, _shaped(x, _F32))
    back = b.fpext(near, x.type)
    bits = b.bitcast(near, _shaped(x, _I32))
    # one step back towards zero if rounding went away from it; then the last bit says that something was cut off
    size, size_back = (e.intrinsic("fabs", v) for v in (x, back))
    one, zero = _const(x, _I32, 1), _const(x, _I32, 0)
    bits = b.sub(bits, b.select(b.fcmp_ordered(">", size_back, size), one, zero))
    bits = b.or_(bits, b.select(b.fcmp_ordered("!=", back, x), one, zero))
    return b.bitcast(bits, near.type)
