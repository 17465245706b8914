"""The specification of a legal graph, and how graphs are printed."""

from __future__ import annotations

import numpy as np
import pytest
from graph_tools import Build, traced

import chainrule as cr
from chainrule import dtypes, nn
from chainrule.graph.ir import Graph, TensorType, Value
from chainrule.graph.spec import IllegalGraphError, check
from chainrule.graph.tracing import rewired

F32 = TensorType((2,), dtypes.float32)


def used_before():
    b = Build()
    y = b("exp", b.input((2,)))
    b.graph.nodes.insert(0, b.graph.nodes.pop())
    z = b("exp", y)
    b.graph.nodes.reverse()
    return b.returns(z)


def of_another_graph():
    b = Build()
    return b.returns(b("exp", Build().input((2,))))


def defined_twice():
    b = Build()
    x = b.input((2,))
    b.graph.inputs.append(x)
    return b.returns(x)


def node_twice():
    b = Build()
    y = b("exp", b.input((2,)))
    b.graph.nodes *= 2
    return b.returns(y)


def undefined_output():
    b = Build()
    return b.returns(Value(b.graph, F32))


def wrong_type():
    b = Build()
    y = b("exp", b.input((2,)))
    y.dtype = dtypes.float64
    return b.returns(y)


def not_applicable():
    b = Build()
    y = b("add", b.input((2,)), b.input((2,)))
    b.graph.inputs[0].shape = (3,)
    return b.returns(y)


def wrong_constant():
    b = Build()
    c = b.constant(np.zeros(2, np.float32))
    b.graph.constants[c] = np.zeros(2)
    return b.returns(c)


def strange_constant():
    b = Build()
    return b.returns(b.graph.add_constant(np.array(["a"])))


def unhashable():
    b = Build()
    y = b("reshape", b.input((2,)), shape=(2, 1))
    b.graph.nodes[0].static["shape"] = [2, 1]
    return b.returns(y)


def other_origin():
    b = Build()
    y = b("exp", b.input((2,)))
    y.node = None
    return b.returns(y)


ILLEGAL = {
    "input 0 of node 0 .exp. of built is not defined before": used_before,
    "input 0 of node 0 .exp. of built is not defined": of_another_graph,
    "input 1 of built is defined twice": defined_twice,
    "a result of node 1 .exp. of built is defined twice": node_twice,
    "output 0 of built is not defined": undefined_output,
    r"node 0 .exp. of built gives \(float32\[2\]\)\. Received: \(float64\[2\]\)": wrong_type,
    "node 0 .add. of built cannot be applied to its inputs: .*do not broadcast": not_applicable,
    "a constant of built is not an array of its type float32": wrong_constant,
    "no constant of built has this dtype": strange_constant,
    "node 0 .reshape. of built has a static argument that is not hashable": unhashable,
    "names another node as its origin": other_origin,
}


@pytest.mark.parametrize("message", ILLEGAL)
def test_illegal_graphs_are_refused(message):
    with pytest.raises(IllegalGraphError, match=message):
        check(ILLEGAL[message]())


def scanned(**changes):
    graph, _ = traced(lambda x, xs: cr.scan(lambda c, v: (c * v + x, c), x, xs), np.float32(1), np.ones(4, np.float32))
    node = graph.nodes[-1]
    node.static |= changes
    return graph


def test_bodies_are_checked():
    loop = scanned()
    body = loop.nodes[-1].static["body"]
    check(loop)
    open_body = rewired(body, body.inputs[:-1], body.outputs)
    for changes, message in [
        ({"body": open_body}, "is not defined before"),
        ({"n_carry": 2}, "other types"),
        ({"n_consts": 4}, "3 inputs for 4 constants"),
        ({"length": 5}, "other types"),
        ({"keep": 2}, "keep=2"),
        ({"body": rewired(body, body.inputs, body.outputs[1:] * 0)}, "the carry changes its type"),
    ]:
        with pytest.raises(IllegalGraphError, match=message):
            check(scanned(**changes))


def branch(types, results):
    graph = Graph("branch")
    inputs = [graph.add_input(t) for t in types]
    graph.outputs = [inputs[i] for i in results]
    return graph


SCALAR, TRUTH = TensorType((), dtypes.float32), TensorType((), dtypes.bool_)


@pytest.mark.parametrize(
    ("predicate", "branches", "message"),
    [
        ("bool", (branch([SCALAR, F32], [0]), branch([SCALAR, F32], [0])), None),
        ("float32", (branch([SCALAR, F32], [0]), branch([SCALAR, F32], [0])), "bool scalar and two branches"),
        ("bool", (branch([SCALAR, F32], [0]),), "bool scalar and two branches"),
        ("bool", (branch([SCALAR, F32], [0]), branch([SCALAR], [0])), "takes other operands"),
        ("bool", (branch([SCALAR, F32], [0]), branch([SCALAR, F32], [1])), "give other types"),
    ],
)
def test_cond(predicate, branches, message):
    b = Build()
    out = b("cond", b.input((), predicate), b.input(), b.input((2,)), branches=branches)
    graph = b.returns(*out)
    if message is None:
        check(graph)
    else:
        with pytest.raises(IllegalGraphError, match=message):
            check(graph)


@pytest.mark.parametrize(
    ("test", "body", "counts", "message"),
    [
        (branch([TRUTH, F32], [0]), branch([TRUTH, F32], [0, 1]), (0, 0), None),
        (branch([TRUTH, F32], [0]), branch([TRUTH, F32], [0, 1]), (2, 1), "2 inputs for 2 constants"),
        (branch([TRUTH, F32], [0]), branch([TRUTH, F32], [0, 1]), (1, 0), "other types"),
        (branch([TRUTH, F32], [1]), branch([TRUTH, F32], [0, 1]), (0, 0), "does not give a bool scalar"),
        (branch([TRUTH, F32], [0]), branch([TRUTH, F32], [0]), (0, 0), "the carry changes its type"),
    ],
)
def test_while(test, body, counts, message):
    b = Build()
    out = b("while", b.input((), "bool"), b.input((2,)), test=test, body=body, n_test=counts[0], n_body=counts[1])
    graph = b.returns(*out)
    if message is None:
        check(graph)
    else:
        with pytest.raises(IllegalGraphError, match=message):
            check(graph)


def test_traced_graphs_are_legal():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))

    def f(x):
        def body(c, row):
            return cr.while_loop(lambda v: v.sum() < 3, lambda v: v * 2 + 1, c), model(row)

        c, ys = cr.scan(body, x[0], x)
        return cr.cond(c.sum() > 0, lambda: ys, lambda: -ys), cr.linalg.eigh(x @ x.T)

    graph, _ = traced(f, np.ones((3, 3), np.float32))
    check(graph)


def test_a_graph_is_printed():
    b = Build()
    x, p = b.input((2, 3)), b.input((), "bool")
    y = b("permute", b("multiply", x, 2.0), axes=(1, 0))
    b.region = 77
    z = b("cast", b("add", y, b.constant(np.arange(5, dtype=np.float32)[:3, None])), dtype=dtypes.bfloat16)
    b.region = 0
    b("print", z, text="z is {}")
    (w,) = b("cond", p, z, branches=(branch([z.type], [0]), branch([z.type], [0])))
    assert str(b.returns(w)) == "\n".join(
        [
            "built(%i0: float32[2,3], %i1: bool[]) {",
            "  %c2: float32[] = 2.0",
            "  %c3: float32[3,1] = [[0.0], [1.0], [2.0]]",
            "  %4: float32[2,3] = multiply(%i0, %c2)  # model.py:1",
            "  %5: float32[3,2] = permute(%4, axes=(1,0))  # model.py:2",
            "  %6: float32[3,2] = add'1(%5, %c3)  # model.py:3",
            "  %7: bfloat16[3,2] = cast'1(%6, dtype=bfloat16)  # model.py:4",
            "  print(%7, text='z is {}')  # model.py:5",
            "  %8: bfloat16[3,2] = cond(%i1, %7)  # model.py:6",
            "    branches[0]:",
            "      branch(%i0: bfloat16[3,2]) {",
            "        return %i0",
            "      }",
            "    branches[1]:",
            "      branch(%i0: bfloat16[3,2]) {",
            "        return %i0",
            "      }",
            "  return %8",
            "}",
        ]
    )
