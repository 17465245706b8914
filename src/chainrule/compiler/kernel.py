"""What a kernel is: native code, and calls of it with buffers and numbers.

Every kernel has one signature,

    void kernel(ptr params, i64 begin, i64 end, ptr scratch)

where ``params`` points to 64-bit words: word 0 is the address of the program's status, then come the addresses of the
buffers, then numbers (extents, strides in elements, constants as bits). The work has ``items`` independent parts
(rows, tiles), of which one call does those from ``begin`` to ``end``; chunks of ``grain`` items go to threads. Chunks
depend on shapes alone, so results do not depend on the number of threads. ``scratch`` is memory of the thread.

What varies between batch sizes is a word, not code; so a second batch size needs no new code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from llvmlite import ir

from .vector import I64, PTR, VOID, Emitter

KERNEL_TYPE = ir.FunctionType(VOID, [PTR, I64, I64, PTR])


class Code(NamedTuple):
    """Native code by its description.

    Attributes:
        key: says all that the code depends on; equal keys mean equal code.
        build: ``build(module, name)`` adds the function to an LLVM module; called only if no code has this key yet.
    """

    key: str
    build: Callable[[ir.Module, str], None]


class Ref(NamedTuple):
    """A buffer of a node: kind "in", "out" or "temp", the number among those, and where in it, in bytes.

    While a contraction is lowered, "part" stands for a temporary buffer whose size is known only afterwards.
    """

    kind: str
    number: int
    offset: int = 0


@dataclass
class Call:
    """A call of a kernel.

    Attributes:
        code: the kernel.
        refs: its buffers, in the order of their words.
        words: the numbers that follow.
        items, grain: the parts of the work, and how many of them make a chunk.
        flops: floating-point operations, for `explain`.
        scratch: bytes of scratch memory that a thread needs.
        ns: rough time of all of it on one thread, in nanoseconds; 0 if not known.
    """

    code: Code
    refs: tuple[Ref, ...]
    words: tuple[int, ...] = ()
    items: int = 1
    grain: int = 1
    flops: int = 0
    scratch: int = 0
    ns: float = 0.0


@dataclass
class Lowered:
    """How a node is computed: calls in order, and the sizes in bytes of temporary buffers."""

    calls: list[Call]
    temps: list[int] = field(default_factory=list)


class Frame:
    """The beginning of a kernel: its builder, buffers and numbers.

    Attributes:
        e: emits code, `LANES` elements at a time.
        buffers: a pointer for each buffer.
        words: an i64 for each number.
        begin, end: the items to do.
        scratch: memory of the thread.
        status: where a fault is noted.
    """

    def __init__(self, module: ir.Module, name: str, n_buffers: int, n_words: int, width: int | None = None) -> None:
        function = ir.Function(module, KERNEL_TYPE, name)
        function.attributes.add("nounwind")
        params, self.begin, self.end, self.scratch = function.args
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.function = function
        self.b = builder
        self._params = params
        self.status = self._word(0, PTR)
        self.buffers = [self._word(1 + i, PTR) for i in range(n_buffers)]
        self.words = [self._word(1 + n_buffers + i, I64) for i in range(n_words)]
        self.e = Emitter(builder, **({} if width is None else {"width": width}), status=self.status)

    def _word(self, i: int, type: Any) -> Any:
        where = self.b.gep(self._params, [I64(i)], source_etype=I64)
        return self.b.load(where, typ=type)

    def done(self) -> None:
        """End the function."""
        self.b.ret_void()


def apart(b: ir.IRBuilder, emit: Callable[[], None]) -> None:
    """Emit code as a function of its own, called here with the values from outside that it uses.

    LLVM moves constants and addresses out of all loops of a function as long as it sees registers free, and sees them
    free beside a loop whose sums fill them all: it then spills the sums. So what is long and comes after such a loop
    stands apart.
    """
    here, module = b.block, b.module
    function = ir.Function(module, ir.FunctionType(VOID, []), module.get_unique_name("apart"))
    function.linkage, function.calling_convention = "internal", "fastcc"
    function.attributes.add("nounwind")
    function.scope = b.function.scope  # so arguments can have the names of what they are given
    b.position_at_end(function.append_basic_block("entry"))
    emit()
    b.ret_void()
    code = [i for block in function.blocks for i in block.instructions]
    used = [v for i in code for v in (*i.operands, *(v for v, _ in getattr(i, "incomings", ())))]
    made = set(code)
    given = [v for v in dict.fromkeys(used) if isinstance(v, (ir.Instruction, ir.Argument)) and v not in made]
    of = ir.FunctionType(VOID, [v.type for v in given])
    function.ftype, function.type = of, of.as_pointer()
    function.args = tuple(f"{v.type} {v.get_reference()}" for v in given)
    b.position_at_end(here)
    b.call(function, given, cconv="fastcc")
