"""Formulas as code: a value that emits instructions when it is computed with.

`Lanes` wraps an LLVM value (a scalar or a vector) and its `Emitter`; operators append the instruction, and Python
numbers become constants of its type. Comparisons of floats are ordered: false for NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from llvmlite import ir

from ..vector import F32, F64, I1, I32, I64, Emitter, mangled

Operand: TypeAlias = "Lanes | float"


class Lanes:
    """A value of some floating, integer or bool type in computation."""

    __slots__ = ("e", "v")

    def __init__(self, e: Emitter, v: Any) -> None:
        self.e = e
        self.v = v

    @property
    def scalar(self) -> Any:
        """The LLVM type of one lane."""
        return self.v.type.element if isinstance(self.v.type, ir.VectorType) else self.v.type

    @property
    def is_float(self) -> bool:
        """Whether it is floating."""
        return isinstance(self.scalar, (ir.FloatType, ir.DoubleType))

    def _of(self, other: Operand) -> Any:
        return other.v if isinstance(other, Lanes) else self.e.const(self.scalar, other)

    def _do(self, floating: str, integer: str, other: Operand, swap: bool = False) -> Lanes:
        emit = getattr(self.e.b, floating if self.is_float else integer)
        a, b = self.v, self._of(other)
        return Lanes(self.e, emit(b, a) if swap else emit(a, b))

    def __add__(self, other: Operand) -> Lanes:
        return self._do("fadd", "add", other)

    __radd__ = __add__

    def __sub__(self, other: Operand) -> Lanes:
        return self._do("fsub", "sub", other)

    def __rsub__(self, other: Operand) -> Lanes:
        return self._do("fsub", "sub", other, swap=True)

    def __mul__(self, other: Operand) -> Lanes:
        return self._do("fmul", "mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Operand) -> Lanes:
        return self._do("fdiv", "sdiv", other)

    def __rtruediv__(self, other: Operand) -> Lanes:
        return self._do("fdiv", "sdiv", other, swap=True)

    def __neg__(self) -> Lanes:
        return Lanes(self.e, self.e.b.fneg(self.v) if self.is_float else self.e.b.neg(self.v))

    def __and__(self, other: Operand) -> Lanes:
        return Lanes(self.e, self.e.b.and_(self.v, self._of(other)))

    def __or__(self, other: Operand) -> Lanes:
        return Lanes(self.e, self.e.b.or_(self.v, self._of(other)))

    def __xor__(self, other: Operand) -> Lanes:
        return Lanes(self.e, self.e.b.xor(self.v, self._of(other)))

    def __invert__(self) -> Lanes:
        return Lanes(self.e, self.e.b.not_(self.v))

    def __lshift__(self, other: Operand) -> Lanes:
        return Lanes(self.e, self.e.b.shl(self.v, self._of(other)))

    def __rshift__(self, other: Operand) -> Lanes:
        return Lanes(self.e, self.e.b.ashr(self.v, self._of(other)))

    def _compare(self, sign: str, other: Operand) -> Lanes:
        emit = self.e.b.fcmp_ordered if self.is_float else self.e.b.icmp_signed
        return Lanes(self.e, emit(sign, self.v, self._of(other)))

    def __lt__(self, other: Operand) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Operand) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Operand) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Operand) -> Lanes:
        return self._compare(">=", other)

    def eq(self, other: Operand) -> Lanes:
        """Where the two are equal."""
        return self._compare("==", other)

    def below(self, other: Operand) -> Lanes:
        """Unsigned ``<``."""
        return Lanes(self.e, self.e.b.icmp_unsigned("<", self.v, self._of(other)))

    def is_nan(self) -> Lanes:
        """Where it is NaN."""
        return Lanes(self.e, self.e.b.fcmp_unordered("uno", self.v, self.v))

    def shift_right(self, other: Operand) -> Lanes:
        """Unsigned ``>>``."""
        return Lanes(self.e, self.e.b.lshr(self.v, self._of(other)))

    def bits(self) -> Lanes:
        """A float's bits as an integer, or the float of these bits."""
        of = {F32: I32, F64: I64, I32: F32, I64: F64}[self.scalar]
        return Lanes(self.e, self.e.b.bitcast(self.v, self.e.type(of)))

    def to(self, scalar: Any) -> Lanes:
        """Convert to an LLVM scalar type: between floats, or signed integers, or from signed integers to floats."""
        if scalar == self.scalar:
            return self
        b, of, floating = self.e.b, self.e.type(scalar), isinstance(scalar, (ir.FloatType, ir.DoubleType))
        if self.is_float:
            emit = b.fpext if scalar == F64 else b.fptrunc
        elif floating:
            emit = b.sitofp
        else:
            emit = b.sext if scalar.width > self.scalar.width else b.trunc
        return Lanes(self.e, emit(self.v, of))

    def const(self, value: float) -> Lanes:
        """A constant of its type."""
        return Lanes(self.e, self.e.const(self.scalar, value))

    def intrinsic(self, name: str, *others: Operand) -> Lanes:
        """An LLVM intrinsic of values of its type."""
        return Lanes(self.e, self.e.intrinsic(name, self.v, *(self._of(other) for other in others)))


def where(condition: Lanes, a: Operand, b: Operand) -> Lanes:
    """``a`` where the condition holds, else ``b``; one of them is no Python number."""
    like = a if isinstance(a, Lanes) else b
    assert isinstance(like, Lanes)
    return Lanes(condition.e, condition.e.select(condition.v, like._of(a), like._of(b)))


def fma(a: Operand, b: Operand, c: Operand) -> Lanes:
    """``a * b + c``, rounded once; one of them is no Python number."""
    like = next(v for v in (a, b, c) if isinstance(v, Lanes))
    return Lanes(like.e, like.e.fma(like._of(a), like._of(b), like._of(c)))


def poly(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """The polynomial with these coefficients, highest power first, by Horner's rule."""
    total = x.const(coefficients[0])
    for c in coefficients[1:]:
        total = fma(total, x, c)
    return total


def rational(fit: tuple[Sequence[float], Sequence[float]], x: Lanes) -> Lanes:
    """P(x) / Q(x)."""
    return poly(x, fit[0]) / poly(x, fit[1])


def size(x: Lanes) -> Lanes:
    """``|x|``."""
    return x.intrinsic("fabs")


def sign_of(x: Lanes, sign: Lanes) -> Lanes:
    """``|x|`` with the sign of another."""
    return x.intrinsic("copysign", sign)


def at_most(x: Lanes, bound: float) -> Lanes:
    """The smaller of ``x`` and a number; NaN stays."""
    return where(x > bound, bound, x)


def at_least(x: Lanes, bound: float) -> Lanes:
    """The larger of ``x`` and a number; NaN stays."""
    return where(x < bound, bound, x)


def nearest_product(x: Lanes, factor: float) -> tuple[Lanes, Lanes]:
    """The whole number nearest to ``x * factor``, as float and as integer; up to 2^21 (float32) or 2^50.

    Adding 1.5 * 2^23 leaves the number in the last bits. Of NaN the integer is arbitrary, yet defined.
    """
    magic = 1.5 * 2.0 ** (23 if x.scalar == F32 else 52)
    moved = fma(x, factor, magic)
    return moved - magic, moved.bits() - x.const(magic).bits()


def power_of_two(n: Lanes) -> Lanes:
    """``2^n`` of an integer, within the normal numbers."""
    bias, digits = (127, 23) if n.scalar == I32 else (1023, 52)
    return ((n + bias) << digits).bits()


def anywhere(condition: Lanes) -> Any:
    """Whether it holds in a lane, an i1."""
    if not isinstance(condition.v.type, ir.VectorType):
        return condition.v
    return condition.e.call(f"llvm.vector.reduce.or.{mangled(condition.v.type)}", I1, [condition.v])


def outlined(name: str, body: Callable[..., Lanes], *arguments: Lanes, gives: Any = None) -> Lanes:
    """Call a function of the module that computes ``body(*arguments)``; it is made the first time.

    So a long formula is compiled once, however often it is used. ``gives`` is the LLVM scalar type of the result, by
    default that of the first argument.
    """
    e = arguments[0].e
    module = e.b.module
    types = [a.v.type for a in arguments]
    full = f"{name}.{'.'.join(mangled(t) for t in types)}"
    function = module.globals.get(full)
    if function is None:
        result = types[0] if gives is None else e.type(gives)
        function = ir.Function(module, ir.FunctionType(result, types), full)
        function.linkage, function.calling_convention = "internal", "fastcc"
        function.attributes.add("nounwind")
        inner = Emitter(ir.IRBuilder(function.append_basic_block("entry")), e.width)
        inner.b.ret(body(*(Lanes(inner, a) for a in function.args)).v)
    return Lanes(e, e.b.call(function, [a.v for a in arguments], cconv="fastcc"))
