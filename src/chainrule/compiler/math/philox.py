"""Philox4x32-10 on vectors: the words of `primitives.random`."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..vector import I32, I64, Emitter

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def _rounds(e: Emitter, block: Any, draw: Any, seed: Any) -> list[Any]:
    """The four words of each block: i64 lanes that hold 32 bits."""
    b = e.b
    low, shift = e.const(I64, _LOW), e.const(I64, 32)
    c = [
        b.and_(block, low),
        b.lshr(block, shift),
        *(e.splat(v) for v in (b.and_(draw, I64(_LOW)), b.lshr(draw, I64(32)))),
    ]
    keys = [b.and_(seed, I64(_LOW)), b.lshr(seed, I64(32))]
    for _ in range(10):
        p0, p1 = (b.mul(v, e.const(I64, m)) for v, m in zip((c[0], c[2]), _MULTIPLIERS, strict=True))
        c = [
            b.xor(b.xor(b.lshr(p1, shift), c[1]), e.splat(keys[0])),
            b.and_(p1, low),
            b.xor(b.xor(b.lshr(p0, shift), c[3]), e.splat(keys[1])),
            b.and_(p0, low),
        ]
        keys = [b.and_(b.add(k, I64(w)), I64(_LOW)) for k, w in zip(keys, _WEYL, strict=True)]
    return c


def _scalar(e: Emitter, seed: Any, draw: Any, index: Any) -> Any:
    """The word of one element: word ``index % 4`` of block ``index // 4``."""
    words = _rounds(e, e.b.lshr(index, I64(2)), draw, seed)
    which = e.b.and_(index, I64(3))
    found = words[0]
    for k in range(1, 4):
        found = e.b.select(e.b.icmp_signed("==", which, I64(k)), words[k], found)
    return e.b.trunc(found, I32)


def _vector(e: Emitter, seed: Any, draw: Any, first: Any) -> Any:
    """Whole blocks, enough for any offset of the first element, laid out in memory and read from there."""
    b, count = e.b, e.width // 2
    wide = Emitter(b, count)
    blocks = b.add(wide.splat(b.lshr(first, I64(2))), wide.lanes())
    words = [b.trunc(w, wide.type(I32)) for w in _rounds(wide, blocks, draw, seed)]
    place = e.variable(ir.VectorType(I32, 4 * count))
    b.store(_in_order(b, words, count), place)
    start = b.gep(place, [b.and_(first, I64(3))], source_etype=I32)
    return b.load(start, align=4, typ=e.type(I32))


def _aligned(e: Emitter, seed: Any, draw: Any, first: Any) -> Any:
    """As many blocks as the elements need, from a multiple of 4 on."""
    b, count = e.b, e.width // 4
    few = Emitter(b, count)
    blocks = b.add(few.splat(b.lshr(first, I64(2))), few.lanes())
    words = [b.trunc(w, few.type(I32)) for w in _rounds(few, blocks, draw, seed)]
    return _in_order(b, words, count)


def _in_order(b: ir.IRBuilder, words: list[Any], count: int) -> Any:
    """The four words of the first block, then those of the second, ..."""
    even, odd = (_interleaved(b, words[k], words[k + 2], count) for k in (0, 1))
    return _interleaved(b, even, odd, 2 * count)


def _interleaved(b: ir.IRBuilder, x: Any, y: Any, count: int) -> Any:
    """x0, y0, x1, y1, ..."""
    order = [I32(i // 2 + count * (i % 2)) for i in range(2 * count)]
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(I32, 2 * count), order))


def philox(e: Emitter, seed: Any, draw: Any, first: Any, aligned: bool = False) -> Any:
    """Random words of the elements ``first``, ``first + 1``, ... of a draw, as i32 lanes.

    Args:
        e: emits code.
        seed, draw: the state of the generator, i64.
        first: number of the first element, i64.
        aligned: whether that is known to be a multiple of 4, which halves the work.
    """
    name = f"math.philox.{e.width}{'.aligned' if aligned else ''}"
    function = e.b.module.globals.get(name)
    if function is None:
        function = ir.Function(e.b.module, ir.FunctionType(e.type(I32), [I64, I64, I64]), name)
        function.linkage, function.calling_convention = "internal", "fastcc"
        function.attributes.add("nounwind")
        inner = Emitter(ir.IRBuilder(function.append_basic_block("entry")), e.width)
        body = _scalar if e.width == 1 else _aligned if aligned else _vector
        inner.b.ret(body(inner, *function.args))
    return e.b.call(function, [seed, draw, first], cconv="fastcc")
