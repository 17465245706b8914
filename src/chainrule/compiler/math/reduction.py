"""Angles modulo a right angle.

Up to a bound the nearest multiple of pi/2 is subtracted in three parts with fused multiply-adds, of which the first
is exact. Beyond it, where that would lose digits, the fraction of ``x 2/pi`` is computed from the bits of 2/pi that
matter (Payne, Hanek, "Radian reduction for trigonometric functions", SIGNUM 1983): one element at a time, and only if
there is such an element.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from ..vector import F32, F64, I64, Emitter
from .lanes import Lanes, anywhere, fma, nearest_product, size, where

_HALF_PI_32 = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
_HALF_PI_64 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
_BOUND_32, _BOUND_64 = 65536.0, 2.0**40

# 2/pi as a binary fraction of 1216 digits
_TWO_OVER_PI = int(
    "A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561"
    "B7246E3A424DD2E006492EEA09D1921CFE1DEB1CB129A73EE88235F52EBB4484"
    "E99C7026B45F7E413991D639835339F49C845F8BBDF9283B1FF897FFDE05980F"
    "EF2F118B5A0A6D1F6D367ECF27CB09B74F463F669E5FEA2D7527BAC7EBE5F17B"
    "3D0739F78A5292EA6BFB5FB11F8D5D0856033046FC7B6BAB",
    16,
)
_I128 = ir.IntType(128)
_REDUCED = ir.LiteralStructType([F64, I64])


def quadrants(x: Lanes) -> tuple[Lanes, Lanes]:
    """r and an integer n with ``x = n pi/2 + r`` and |r| at most about pi/4; NaN for infinite x."""
    e = x.e
    parts, bound = (_HALF_PI_32, _BOUND_32) if x.scalar == F32 else (_HALF_PI_64, _BOUND_64)
    whole, n = nearest_product(x, 2 / math.pi)
    r = x
    for part in parts:
        r = fma(whole, -part, r)
    length = size(x)
    large = (length > bound) & (length < math.inf)
    places = e.variable(r.v.type, r.v), e.variable(n.v.type, n.v)
    with e.b.if_then(anywhere(large), likely=False):
        far_r, far_n = _each_lane(where(large, length, bound), n.scalar)
        negative = x < 0.0
        e.b.store(where(large, where(negative, -far_r, far_r), r).v, places[0])
        e.b.store(where(large, where(negative, -far_n, far_n), n).v, places[1])
    return Lanes(e, e.b.load(places[0], typ=r.v.type)), Lanes(e, e.b.load(places[1], typ=n.v.type))


def _each_lane(x: Lanes, integer: Any) -> tuple[Lanes, Lanes]:
    """`_far` of every lane."""
    e, b, one = x.e, x.e.b, Emitter(x.e.b, 1)
    of = x.v.type, e.type(integer)
    places = [e.variable(t, ir.Constant(t, ir.Undefined)) for t in of]
    with e.loop(I64(0), I64(e.width)) as i:
        value = Lanes(one, x.v if e.width == 1 else b.extract_element(x.v, i))
        found = b.call(_far(b.module), [value.to(F64).v], cconv="fastcc")
        for k, place in enumerate(places):
            part = Lanes(one, b.extract_value(found, k)).to((x.scalar, integer)[k]).v
            whole = part if e.width == 1 else b.insert_element(b.load(place, typ=of[k]), part, i)
            b.store(whole, place)
    r, n = (Lanes(e, b.load(place, typ=t)) for place, t in zip(places, of, strict=True))
    return r, n


def _table(module: ir.Module) -> Any:
    """64 zeros and the digits of 2/pi, in words."""
    name = "math.two_over_pi"
    if name not in module.globals:
        words = [0, *((_TWO_OVER_PI >> (1216 - 64 * (k + 1))) & (2**64 - 1) for k in range(19))]
        of = ir.ArrayType(I64, len(words))
        table = ir.GlobalVariable(module, of, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(of, [I64(w) for w in words])
    return module.globals[name]


def _far(module: ir.Module) -> Any:
    """A function of a finite float64 x >= 2^15 that gives r and n."""
    name = "math.far_angle"
    function = module.globals.get(name)
    if function is not None:
        return function
    function = ir.Function(module, ir.FunctionType(_REDUCED, [F64]), name)
    function.linkage, function.calling_convention = "internal", "fastcc"
    function.attributes.add("nounwind")
    e = Emitter(ir.IRBuilder(function.append_basic_block("entry")), 1)
    b = e.b
    bits = Lanes(e, function.args[0]).bits()
    digits = (bits & ((1 << 52) - 1)) | (1 << 52)
    # x = digits 2^(exponent - 1075): digits of 2/pi worth 4 or more in the product do not matter
    first = bits.shift_right(52) - (1075 - 62)
    word, shift = first.shift_right(6), (first & 63).v
    table = _table(module)
    words = [b.load(b.gep(table, [(word + k).v], source_etype=I64), typ=I64) for k in range(4)]
    high, middle, low = (e.intrinsic("fshl", words[k], words[k + 1], shift) for k in range(3))

    def wide(v: Any) -> Any:
        return b.zext(v, _I128)

    # the product modulo 4 in units of 2^-126
    product = b.add(b.lshr(b.mul(wide(digits.v), wide(low)), _I128(64)), b.mul(wide(digits.v), wide(middle)))
    product = b.add(product, b.shl(wide(b.mul(digits.v, high)), _I128(64)))
    fraction = b.shl(product, _I128(2))
    top = Lanes(e, b.trunc(b.lshr(product, _I128(64)), I64))
    above = Lanes(e, b.icmp_signed("<", fraction, _I128(0)))  # half or more: the next whole number is nearer
    n = top.shift_right(62) + Lanes(e, b.zext(above.v, I64))
    distance = b.select(above.v, b.neg(fraction), fraction)
    halves = (b.trunc(b.lshr(distance, _I128(64)), I64), b.trunc(distance, I64))
    upper, lower = (Lanes(e, b.uitofp(v, F64)) for v in halves)
    turn = (upper + lower * 2.0**-64) * 2.0**-64
    r = fma(turn, _HALF_PI_64[0], turn * _HALF_PI_64[1])
    r = where(above, -r, r)
    result = b.insert_value(ir.Constant(_REDUCED, ir.Undefined), r.v, 0)
    b.ret(b.insert_value(result, n.v, 1))
    return function
