"""Eight float32 of a row as one value: what a processor adds and multiplies with one instruction.

    x = load(rows, r, c, n)      rows[r, c], rows[r, c + 1], ... as lanes; lanes from n on are 0
    store(rows, r, c, n, x)      the reverse; lanes from n on are left alone
    x + y, x - y, x * y          lane by lane; spread(s) is s in every lane
    total(x)                     ((x0 + x4) + (x1 + x5)) + ((x2 + x6) + (x3 + x7))
    prefetch(rows, r)            asks for the memory of rows[r], waits for nothing

For kernels only; rows is a C-contiguous array of one or two dimensions. The lanes are spelled out because a compiler
that may not change the order of additions leaves a sum over a row one addition after the other, and one that may makes
it depend on the machine's vectors. Here the order is fixed, so are the bits, whatever the machine has.
"""

from __future__ import annotations

import operator
from typing import Any

import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils as _cgutils
from numba.core.errors import TypingError
from numba.extending import models, register_model

# numba's own annotations do not cover what emits instructions.
cgutils: Any = _cgutils
intrinsic: Any = numba.extending.intrinsic
type_callable: Any = numba.extending.type_callable
lower_builtin: Any = numba.extending.lower_builtin

LANES = 8
AHEAD = 8  # events from asking for the memory of one to learning it: about two trips to memory
_LINE = 64  # bytes that come from memory together

_F4, _I1, _I4, _I8 = ir.FloatType(), ir.IntType(1), ir.IntType(32), ir.IntType(64)
_VECTOR, _MASK, _NUMBERS = (ir.VectorType(kind, LANES) for kind in (_F4, _I1, _I4))


class LanesType(types.Type):
    """The numba type of eight float32."""


@register_model(LanesType)
def _model(manager: Any, kind: Any) -> Any:
    return models.PrimitiveModel(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]


lanes: Any = LanesType("lanes")


def _arithmetic(sign: Any, instruction: str) -> None:
    @type_callable(sign)
    def typed(context: Any) -> Any:
        return lambda a, b: lanes if a == b == lanes else None

    @lower_builtin(sign, lanes, lanes)
    def lowered(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _sign, _instruction in ((operator.add, "fadd"), (operator.iadd, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_sign, _instruction)


def _address(context: Any, builder: Any, kind: Any, rows: Any, r: Any, column: Any) -> Any:
    """Pointer to rows[r, column]; no index is negative, so none is wrapped around."""
    array = context.make_array(kind)(context, builder, rows)
    width = builder.extract_value(array.shape, kind.ndim - 1) if kind.ndim > 1 else ir.Constant(_I8, 1)
    return builder.gep(array.data, [builder.add(builder.mul(r, width), column)])


def _check(rows: Any) -> None:
    """An array of another kind would be read as what it is not."""
    if rows.dtype != types.float32 or rows.layout != "C":
        raise TypingError(f"lanes want C-contiguous float32, not {rows}")


def _first(builder: Any, n: Any) -> Any:
    """Mask of the lanes before n."""
    count = builder.insert_element(ir.Constant(_NUMBERS, ir.Undefined), builder.trunc(n, _I4), ir.Constant(_I4, 0))
    counts = builder.shuffle_vector(count, ir.Constant(_NUMBERS, ir.Undefined), ir.Constant(_NUMBERS, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(_NUMBERS, list(range(LANES))), counts)


@intrinsic
def load(typing: Any, rows: Any, r: Any, column: Any, n: Any) -> Any:
    """rows[r, column : column + n] in the first n lanes, 0 in the others; 0 < n <= 8."""
    _check(rows)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.bitcast(_address(context, builder, rows, *args[:3]), _VECTOR.as_pointer())
        found = cgutils.alloca_once(builder, _VECTOR)
        whole = builder.icmp_signed(">=", args[3], ir.Constant(_I8, LANES))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                builder.store(builder.load(at, align=4), found)
            with otherwise:
                kind = ir.FunctionType(_VECTOR, [_VECTOR.as_pointer(), _I4, _MASK, _VECTOR])
                masked = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v8f32.p0")
                zeros = ir.Constant(_VECTOR, [0.0] * LANES)
                builder.store(builder.call(masked, [at, ir.Constant(_I4, 4), _first(builder, args[3]), zeros]), found)
        return builder.load(found)
    return lanes(rows, types.int64, types.int64, types.int64), emit


@intrinsic
def store(typing: Any, rows: Any, r: Any, column: Any, n: Any, values: Any) -> Any:
    """rows[r, column : column + n] = the first n lanes; 0 < n <= 8."""
    _check(rows)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.bitcast(_address(context, builder, rows, *args[:3]), _VECTOR.as_pointer())
        whole = builder.icmp_signed(">=", args[3], ir.Constant(_I8, LANES))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                builder.store(args[4], at, align=4)
            with otherwise:
                kind = ir.FunctionType(ir.VoidType(), [_VECTOR, _VECTOR.as_pointer(), _I4, _MASK])
                masked = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v8f32.p0")
                builder.call(masked, [args[4], at, ir.Constant(_I4, 4), _first(builder, args[3])])
        return context.get_dummy_value()
    return types.void(rows, types.int64, types.int64, types.int64, lanes), emit


@intrinsic
def spread(typing: Any, scalar: Any) -> Any:
    """The scalar, as float32, in every lane."""
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        nothing = ir.Constant(_VECTOR, ir.Undefined)
        one = builder.insert_element(nothing, args[0], ir.Constant(_I4, 0))
        return builder.shuffle_vector(one, nothing, ir.Constant(_NUMBERS, [0] * LANES))
    return lanes(types.float32), emit


@intrinsic
def total(typing: Any, values: Any) -> Any:
    """float32 sum of the lanes, in the order of the module's formula."""
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def picked(vector: Any, numbers: Any) -> Any:
            mask = ir.Constant(ir.VectorType(_I4, len(numbers)), numbers)
            return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

        four = builder.fadd(picked(args[0], [0, 1, 2, 3]), picked(args[0], [4, 5, 6, 7]))
        two = builder.fadd(picked(four, [0, 2]), picked(four, [1, 3]))
        return builder.fadd(builder.extract_element(two, ir.Constant(_I4, 0)), builder.extract_element(two, ir.Constant(_I4, 1)))
    return types.float32(lanes), emit


@intrinsic
def prefetch(typing: Any, rows: Any, r: Any) -> Any:
    """Ask for every line of rows[r], to be written. Asking never fails: an r of -1 costs nothing but the request."""
    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I4, _I4, _I4])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        start = builder.bitcast(_address(context, builder, rows, args[0], args[1], ir.Constant(_I8, 0)), byte)
        array = context.make_array(rows)(context, builder, args[0])
        width = builder.extract_value(array.shape, 1) if rows.ndim > 1 else ir.Constant(_I8, 1)
        last = builder.sub(builder.mul(width, array.itemsize), ir.Constant(_I8, 1))
        write, keep, data = (ir.Constant(_I4, number) for number in (1, 3, 1))
        with cgutils.for_range_slice(builder, ir.Constant(_I8, 0), last, ir.Constant(_I8, _LINE)) as (offset, _):
            builder.call(ask, [builder.gep(start, [offset]), write, keep, data])
        builder.call(ask, [builder.gep(start, [last]), write, keep, data])
        return context.get_dummy_value()
    return types.void(rows, types.int64), emit
