"""Emitting LLVM code for several elements at a time.

Code is written for `LANES` logical lanes whatever the width of the hardware; LLVM splits them into registers. So the
order of summation, and with it every bit, is the same on all machines. With ``width=1`` the same code is scalar.

A value in memory and a value in computation differ for two kinds: bool is a byte in memory and one bit in
computation, and 16-bit floats are computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from .. import dtypes
from ..dtypes import DType
from . import halves

LANES = 16

VOID = ir.VoidType()
PTR = ir.PointerType()
I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()

_COMPUTED = {dtypes.float16: F32, dtypes.bfloat16: F32, dtypes.float32: F32, dtypes.float64: F64, dtypes.bool_: I1}


def scalar_type(dtype: DType) -> Any:
    """The LLVM type in which one element is computed."""
    return _COMPUTED.get(dtype) or ir.IntType(8 * dtype.itemsize)


def memory_type(dtype: DType) -> Any:
    """The LLVM type of one element in memory."""
    if dtype == dtypes.float32:
        return F32
    return F64 if dtype == dtypes.float64 else ir.IntType(8 * dtype.itemsize)


def is_float(dtype: DType) -> bool:
    """Whether it is computed in floating point."""
    return dtype in dtypes.FLOATING


def is_signed(dtype: DType) -> bool:
    """Whether an integer type has negative numbers."""
    return dtype.kind == "i"


class Emitter:
    """Appends code to a builder.

    Args:
        builder: where.
        width: how many elements a value has; 1 for scalars.
        status: address of the status word, for operations that can fail.

    Attributes:
        mask: the lanes that count, one bit each, for faults and tails; None for all.
    """

    def __init__(self, builder: ir.IRBuilder, width: int = LANES, status: Any = None) -> None:
        self.b = builder
        self.width = width
        self.status = status
        self.mask: Any = None

    # --- types and constants ------------------------------------------------------------------------------

    def type(self, scalar: Any) -> Any:
        """The type of `width` values of an LLVM scalar type."""
        return scalar if self.width == 1 else ir.VectorType(scalar, self.width)

    def of(self, dtype: DType) -> Any:
        """The type in which a value of ``dtype`` is computed."""
        return self.type(scalar_type(dtype))

    def const(self, scalar: Any, value: Any) -> Any:
        """A constant of an LLVM scalar type in every lane."""
        one = ir.Constant(scalar, _plain(scalar, value))
        return one if self.width == 1 else ir.Constant(self.type(scalar), [one] * self.width)

    def like(self, x: Any, value: Any) -> Any:
        """A constant of the type of ``x``, in every lane."""
        return self.const(x.type.element if isinstance(x.type, ir.VectorType) else x.type, value)

    def splat(self, x: Any) -> Any:
        """A scalar in every lane."""
        if self.width == 1:
            return x
        vector = ir.VectorType(x.type, self.width)
        first = self.b.insert_element(ir.Constant(vector, ir.Undefined), x, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, self.width), [I32(0)] * self.width)
        return self.b.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    def lanes(self) -> Any:
        """0, 1, 2, ... as i64."""
        if self.width == 1:
            return I64(0)
        return ir.Constant(ir.VectorType(I64, self.width), [I64(i) for i in range(self.width)])

    def tail_mask(self, remaining: Any) -> Any:
        """Lanes below ``remaining``, an i64."""
        return self.b.icmp_signed("<", self.lanes(), self.splat(remaining))

    # --- intrinsics ---------------------------------------------------------------------------------------

    def call(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """Call an LLVM intrinsic (or another function) by its full name."""
        module = self.b.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [a.type for a in arguments]), name)
        return self.b.call(function, arguments)

    def intrinsic(self, name: str, *arguments: Any, result: Any = None) -> Any:
        """Call ``llvm.<name>.<type of the first argument>``."""
        result = arguments[0].type if result is None else result
        return self.call(f"llvm.{name}.{mangled(arguments[0].type)}", result, arguments)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, rounded once."""
        return self.intrinsic("fma", a, b, c)

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        """``a`` where the condition holds, else ``b``."""
        return self.b.select(condition, a, b)

    # --- memory -------------------------------------------------------------------------------------------

    def address(self, base: Any, index: Any, dtype: DType) -> Any:
        """Address of element number ``index``."""
        return self.b.gep(base, [index], source_etype=memory_type(dtype))

    def load(self, base: Any, index: Any, dtype: DType) -> Any:
        """`width` consecutive elements from number ``index`` on; lanes outside of the mask are 0."""
        where, of = self.address(base, index, dtype), self.type(memory_type(dtype))
        align = dtype.itemsize
        if self.mask is None or self.width == 1:
            loaded = self.b.load(where, align=align, typ=of)
        else:
            zero = ir.Constant(of, None)
            loaded = self.call(f"llvm.masked.load.{mangled(of)}.p0", of, [where, I32(align), self.mask, zero])
        return self.from_memory(loaded, dtype)

    def fetch(self, base: Any, index: Any, dtype: DType) -> None:
        """Bring `width` consecutive elements from number ``index`` on into the cache, since they will soon be read."""
        for i in range(0, self.width, max(64 // dtype.itemsize, 1)):
            where = self.address(base, self.b.add(index, I64(i)), dtype)
            self.call("llvm.prefetch.p0", VOID, [where, I32(0), I32(3), I32(1)])

    def load_one(self, base: Any, index: Any, dtype: DType) -> Any:
        """One element, in every lane."""
        where = self.address(base, index, dtype)
        return self.splat(self.from_memory(self.b.load(where, align=dtype.itemsize, typ=memory_type(dtype)), dtype))

    def load_strided(self, base: Any, index: Any, stride: Any, dtype: DType) -> Any:
        """Elements ``index + lane * stride``; lanes outside of the mask are 0."""
        if self.width == 1:
            return self.load(base, index, dtype)
        offsets = self.b.add(self.splat(index), self.b.mul(self.lanes(), self.splat(stride)))
        return self.gather(base, offsets, dtype)

    def gather(self, base: Any, indices: Any, dtype: DType) -> Any:
        """Elements at ``indices``, i64 lanes; lanes outside of the mask are 0."""
        if self.width == 1:
            return self.load(base, indices, dtype)
        of = self.type(memory_type(dtype))
        every = ir.Constant(self.type(I1), [I1(1)] * self.width)
        mask = every if self.mask is None else self.mask
        name = f"llvm.masked.gather.{mangled(of)}.v{self.width}p0"
        pointers = self._pointers(base, indices, dtype)
        loaded = self.call(name, of, [pointers, I32(dtype.itemsize), mask, ir.Constant(of, None)])
        return self.from_memory(loaded, dtype)

    def _pointers(self, base: Any, indices: Any, dtype: DType) -> Any:
        size = self.const(I64, dtype.itemsize)
        bytes_ = self.b.add(self.splat(self.b.ptrtoint(base, I64)), self.b.mul(indices, size))
        return self.b.inttoptr(bytes_, ir.VectorType(PTR, self.width))

    def store(self, value: Any, base: Any, index: Any, dtype: DType) -> None:
        """Store `width` consecutive elements from number ``index`` on, those within the mask."""
        value = self.to_memory(value, dtype)
        where, align = self.address(base, index, dtype), dtype.itemsize
        if self.mask is None or self.width == 1:
            self.b.store(value, where, align=align)
        elif _only_first(self.mask):
            # LLVM 22 for AVX-512 makes of one lane of a truncated vector a store as wide as before it was truncated.
            self.b.store(self.b.extract_element(value, I32(0)), where, align=align)
        else:
            name = f"llvm.masked.store.{mangled(value.type)}.p0"
            self.call(name, VOID, [value, where, I32(align), self.mask])

    def scatter(self, value: Any, base: Any, indices: Any, dtype: DType) -> None:
        """Store elements at ``indices``, i64 lanes, those within the mask."""
        if self.width == 1:
            self.store(value, base, indices, dtype)
            return
        value = self.to_memory(value, dtype)
        every = ir.Constant(self.type(I1), [I1(1)] * self.width)
        mask = every if self.mask is None else self.mask
        name = f"llvm.masked.scatter.{mangled(value.type)}.v{self.width}p0"
        self.call(name, VOID, [value, self._pointers(base, indices, dtype), I32(dtype.itemsize), mask])

    def from_memory(self, x: Any, dtype: DType) -> Any:
        """A loaded value as it is computed with."""
        if dtype == dtypes.bool_:
            return self.b.icmp_unsigned("!=", x, ir.Constant(x.type, None))
        return halves.widen(self, x, dtype) if dtype in dtypes.HALF else x

    def to_memory(self, x: Any, dtype: DType) -> Any:
        """A computed value as it is stored."""
        if dtype == dtypes.bool_:
            return self.b.zext(x, ir.VectorType(I8, x.type.count) if isinstance(x.type, ir.VectorType) else I8)
        return halves.narrow(self, x, dtype) if dtype in dtypes.HALF else x

    # --- control ------------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, begin: Any, end: Any, step: int = 1) -> Iterator[Any]:
        """A loop; gives the counter, an i64. Values that change live in memory: see `variable`."""
        b = self.b
        before = b.block
        head, body, after = (b.append_basic_block(n) for n in ("head", "body", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(begin, before)
        b.cbranch(b.icmp_signed("<", i, end), body, after)
        b.position_at_end(body)
        yield i
        i.add_incoming(b.add(i, I64(step), flags=["nsw"]), b.block)
        b.branch(head)
        b.position_at_end(after)

    def repeat(self, count: Any, initial: Sequence[Any], step: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """What ``count`` applications of ``step`` make of values, which stay in registers."""
        b = self.b
        before, body, after = b.block, b.append_basic_block("repeat"), b.append_basic_block("repeated")
        b.cbranch(b.icmp_signed(">", count, I64(0)), body, after)
        b.position_at_end(body)
        i, *state = (b.phi(x.type) for x in (I64(0), *initial))
        following = [b.add(i, I64(1)), *step(state)]
        for phi, first, later in zip((i, *state), (I64(0), *initial), following, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, b.block)
        end = b.block
        back = b.cbranch(b.icmp_signed("<", following[0], count), body, after)
        back.set_metadata("llvm.loop", _not_unrolled(b.module))
        b.position_at_end(after)
        results = [b.phi(x.type) for x in initial]
        for phi, first, later in zip(results, initial, following[1:], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, end)
        return results

    @contextmanager
    def masked(self, mask: Any) -> Iterator[None]:
        """Loads, stores and faults count in the lanes of ``mask`` only."""
        before, self.mask = self.mask, mask
        try:
            yield
        finally:
            self.mask = before

    def variable(self, type: Any, initial: Any = None) -> Any:
        """Memory for a value that changes in a loop (LLVM makes a register of it); use ``b.load`` and ``b.store``."""
        with self.b.goto_entry_block():
            place = self.b.alloca(type)
        if initial is not None:
            self.b.store(initial, place)
        return place

    def blocks(self, n: Any, body: Callable[[Any], None], even: bool = False) -> None:
        """Run ``body(index)`` over ``n`` elements, `width` at a time, the last time with a mask.

        Args:
            n: an int, where the tail is known and may be absent, or an i64.
            body: emits code for the elements from ``index`` on; emitted twice if there may be a tail.
            even: whether ``n`` is known to be a multiple of the width, so that there is no tail.
        """
        if self.width == 1:
            with self.loop(I64(0), I64(n) if isinstance(n, int) else n) as i:
                body(i)
            return
        if isinstance(n, int):
            whole, rest = n - n % self.width, n % self.width
            if whole == self.width:
                body(I64(0))
            elif whole:
                with self.loop(I64(0), I64(whole), self.width) as i:
                    body(i)
            if rest:
                mask = ir.Constant(self.type(I1), [I1(i < rest) for i in range(self.width)])
                with self.masked(mask):
                    body(I64(whole))
            return
        whole = n if even else self.b.and_(n, I64(-self.width))
        with self.loop(I64(0), whole, self.width) as i:
            body(i)
        if even:
            return
        rest = self.b.sub(n, whole)
        with self.b.if_then(self.b.icmp_signed(">", rest, I64(0))), self.masked(self.tail_mask(rest)):
            body(whole)

    def fault(self, condition: Any, kind: int = 1) -> None:
        """Note a fault in the status word if ``condition`` holds in a lane that counts."""
        if self.mask is not None and self.width > 1:
            condition = self.b.and_(condition, self.mask)
        if isinstance(condition.type, ir.VectorType):
            condition = self.call(f"llvm.vector.reduce.or.{mangled(condition.type)}", I1, [condition])
        with self.b.if_then(condition, likely=False):
            self.b.store(I64(kind), self.status)

    # --- reductions over lanes ----------------------------------------------------------------------------

    def tree(self, x: Any, combine: Callable[[Any, Any], Any]) -> Any:
        """Combine all lanes to a scalar, halves with halves: one order, whatever the hardware."""
        width = self.width
        while width > 1:
            half = width // 2
            undefined = ir.Constant(x.type, ir.Undefined)
            low, high = (
                self.b.shuffle_vector(
                    x, undefined, ir.Constant(ir.VectorType(I32, half), [I32(k + at) for k in range(half)])
                )
                for at in (0, half)
            )
            if half == 1:
                low, high = (self.b.extract_element(v, I32(0)) for v in (low, high))
            x = combine(low, high)
            width = half
        return x


def _not_unrolled(module: ir.Module) -> Any:
    """Metadata of a loop that is long enough as it is: its first operand is itself, as LLVM demands."""
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([disable])
    loop.operands = (loop, disable)
    return loop


def smaller(b: ir.IRBuilder, x: Any, y: Any) -> Any:
    """The smaller one of two signed integers."""
    return b.select(b.icmp_signed("<", x, y), x, y)


def mangled(type: Any) -> str:
    """The name of a type as part of an intrinsic's name."""
    if isinstance(type, ir.VectorType):
        return f"v{type.count}{mangled(type.element)}"
    if isinstance(type, ir.FloatType):
        return "f32"
    if isinstance(type, ir.DoubleType):
        return "f64"
    return "p0" if isinstance(type, ir.PointerType) else f"i{type.width}"


def _only_first(mask: Any) -> bool:
    """Whether a mask is known to be of the first lane alone."""
    return isinstance(mask, ir.Constant) and [bit.constant for bit in mask.constant] == [1] + [0] * (
        len(mask.constant) - 1
    )


def _plain(scalar: Any, value: Any) -> Any:
    if isinstance(scalar, ir.FloatType):
        return float(np.float32(value))
    if isinstance(scalar, ir.DoubleType):
        return float(value)
    return int(value)
