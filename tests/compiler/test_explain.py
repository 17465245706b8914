"""What `explain` says is what the program does: FLOPs, bytes, memory, state, and the values kept to go backward."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from explain_harness import checked, drawing, floats, line_of, mlp

import chainrule as cr
from chainrule.errors import ArgumentError
from chainrule.inspect.explain import Explanation, explain


def named(explanation, name):
    return [row for row in explanation.kernels if name in row.name]


# --- kernels ----------------------------------------------------------------------------------------------------------


def test_a_product_has_2mnk_flops_and_the_bytes_of_its_three_matrices():
    m, n, k = 33, 20, 17
    step = cr.compile(lambda a, b: a @ b)
    explained = explain(step, floats(m, k), floats(k, n))
    product = [row for row in explained.kernels if row.flops]
    assert [row.flops for row in product] == [2 * m * n * k]
    assert product[0].shape == f"m×n×k {m}×{n}×{k}"
    assert product[0].written == 4 * m * n
    assert explained.flops == 2 * m * n * k


def test_a_map_reads_and_writes_each_element_once():
    def step(a, b):
        return cr.sqrt(a + b)

    (row,) = explain(cr.compile(step), floats(50, 40), floats(40)).kernels
    assert (row.name, row.shape) == ("add + sqrt", "map 50×40")
    assert (row.read, row.written) == (4 * (50 * 40 + 40), 4 * 50 * 40)
    assert row.flops >= 2 * 50 * 40
    assert row.threads == 1
    assert row.source == line_of(step, "return")


def test_only_the_part_of_an_array_that_is_looked_at_counts_as_read():
    (row,) = explain(cr.compile(lambda a: cr.exp(a[:10])), floats(1000, 8)).kernels
    assert (row.read, row.written) == (4 * 80, 4 * 80)
    explained = explain(cr.compile(lambda t, i: cr.take(t, i, axis=0)), floats(5000, 8), cr.tensor([3, 1]))
    (gather,) = named(explained, "gather")
    assert gather.read < 1000


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, "rows of 30×20"), (0, "columns of 30×20"), (None, "all of 30×20")]
)  # fmt: skip
def test_reductions_say_how_they_run(axis, shape):
    explained = explain(cr.compile(lambda x: cr.max(x, axis=axis)), floats(30, 20))
    assert explained.kernels[0].shape == shape


def test_what_stands_in_a_loop_counts_as_often_as_it_runs():
    w = floats(8, 8)

    @cr.compile
    def step(h, xs):
        return cr.scan(lambda h, x: (cr.tanh(h @ w + x), None), h, xs)[0]

    explained = explain(step, floats(4, 8), floats(25, 4, 8))
    (loop,) = [row for row in explained.kernels if row.kind == "scan"]
    inside = [row for row in explained.kernels if row.depth == 1]
    assert loop.name == "scan of 25"
    assert {row.times for row in inside} == {25}
    assert sum(row.flops for row in inside if row.shape == "m×n×k 4×8×8") == 2 * 4 * 8 * 8
    assert explained.flops >= 25 * 2 * 4 * 8 * 8
    assert any(line.startswith("3     25 × ") or "    25 × matmul" in line for line in str(explained).splitlines())


def test_branches_and_while_loops_are_shown():
    @cr.compile
    def step(x):
        y = cr.cond(x.sum() > 0, lambda x: cr.exp(x), lambda x: x, x)
        return cr.while_loop(lambda v: v.sum() < 100, lambda v: v * 2 + 1, y)

    kinds = {row.kind: row for row in explain(step, floats(6)).kernels}
    assert {"cond", "while"} <= kinds.keys()
    branches = [row for row in explain(step, floats(6)).kernels if row.times == 0.5]
    assert any("exp" in row.name for row in branches)


def test_steps_come_after_what_they_read():
    step, x, y = mlp()
    for row in explain(step, x, y).kernels:
        assert all(number < row.number for number in row.after)
    rows = {row.number: row for row in explain(step, x, y).kernels}
    updates = [row for row in rows.values() if "sqrt" in row.name and row.shape == "map 32×20"]
    assert any("matmul" in rows[n].name for n in updates[0].after)


def test_the_shares_add_up():
    step, x, y = mlp()
    explained = explain(step, x, y)
    shares = [row.seconds * row.times / explained.seconds for row in explained.kernels]
    assert sum(shares) == pytest.approx(1)
    assert all(share >= 0 for share in shares)


# --- what is kept for the backward phase ------------------------------------------------------------------------------


def test_kept_are_exactly_the_activations_of_a_linear_network():
    a, b, c = cr.Parameter(floats(20, 32)), cr.Parameter(floats(32, 16)), cr.Parameter(floats(16, 5))

    def forward(x, y):
        first = x @ a
        second = first @ b
        wrong = second @ c - y
        loss = (wrong * wrong).sum()
        loss.backward()
        grads = a.grad, b.grad, c.grad
        a.grad = b.grad = c.grad = None
        return loss, grads

    kept = explain(cr.compile(forward), floats(64, 20), floats(64, 5)).kept
    assert [(k.type.shape, k.bytes, k.source) for k in kept] == [
        ((64, 32), 64 * 32 * 4, line_of(forward, "x @ a")),
        ((64, 16), 64 * 16 * 4, line_of(forward, "first @ b")),
        ((64, 5), 64 * 5 * 4, line_of(forward, "second @ c")),  # the error, or twice it if the kernel doubles it
    ]
    assert [k.name for k in kept[:2]] == ["matmul", "matmul"]
    assert all(k.made < k.read for k in kept)


def test_an_activation_function_is_kept_under_the_line_of_the_model():
    step, x, y = mlp()
    kept = {k.name: k for k in explain(step, x, y).kept}
    assert kept["tanh"].type == ((64, 32), np.dtype("float32"))
    assert kept["tanh"].bytes == 64 * 32 * 4
    assert kept["tanh"].source == line_of(mlp, "model(x)")
    assert all(k.source != line_of(mlp, "opt.step()") for k in kept.values())


def test_nothing_is_kept_without_a_backward_phase():
    step = cr.compile(lambda x: cr.tanh(x @ x).sum() + cr.exp(x).max())
    assert explain(step, floats(30, 30)).kept == []


def test_the_carries_of_a_scan_are_kept_and_what_a_checkpoint_computes_again_is_not():
    w = cr.Parameter(floats(8, 8))

    @cr.compile
    def recurrent(xs):
        loss = cr.scan(lambda h, x: (cr.tanh(h @ w + x), None), cr.zeros((4, 8)), xs)[0].sum()
        loss.backward()
        return w.grad

    kept = {k.type.shape: k.name for k in explain(recurrent, floats(25, 4, 8)).kept}
    assert kept[25, 4, 8] == "scan"

    def block(x):
        return cr.sin(cr.tanh(x @ w) @ w)

    def total(f):
        step = cr.compile(lambda x: cr.value_and_grad(lambda x: (f(f(x)) ** 2).sum())(x))
        return sum(k.bytes for k in explain(step, floats(64, 8)).kept)

    assert total(cr.checkpoint(block)) < total(block)


def test_a_second_backward_phase_keeps_values_of_the_first():
    def penalty(x):
        return (cr.grad(lambda x: (cr.sin(x) * x).sum())(x) ** 2).sum()

    step = cr.compile(cr.grad(penalty))
    program = step.program_for(floats(4000))
    assert {node.phase for node in program.graph.nodes} == {0, 1, 2}


def test_phases_outlive_the_passes_and_eager_code_has_none():
    step, x, y = mlp()
    graph = step.program_for(x, y).graph
    gradients = [node for node in graph.nodes if node.primitive.name == "dot" and node.phase == 1]
    assert len(gradients) == 3  # by two weights and one activation
    assert all(node.phase == 0 for node in graph.nodes if node.source == line_of(mlp, "opt.step()"))
    assert all(node.phase == 1 for node in graph.nodes if node.source == line_of(mlp, "loss.backward()"))


def test_what_is_computed_again_under_a_budget_is_not_kept_and_marked():
    weights = [cr.Parameter(floats(32, 32)) for _ in range(4)]

    def step(x):
        for w in weights:
            x = cr.exp(cr.sin(x @ w)) * x
        x.sum().backward()
        return [w.grad for w in weights]

    x = floats(1000, 32)
    free, bound = explain(cr.compile(step), x), explain(cr.compile(step, memory_budget=500_000), x)
    assert sum(k.bytes for k in bound.kept) < sum(k.bytes for k in free.kept)
    again = [row for row in bound.kernels if row.again]
    assert again
    assert len(bound.kernels) == len(free.kernels) + len(again)
    assert not any(row.again for row in free.kernels)
    assert "(again)" in str(bound)


# --- memory and state -------------------------------------------------------------------------------------------------


def test_state_is_named_and_the_peak_contains_it():
    step, x, y = mlp()
    explained = explain(step, x, y)
    assert {use.name: use.bytes for use in explained.cells if use.name} == {
        "0.weight": 2560, "0.bias": 128, "2.weight": 640, "2.bias": 20,
    }  # fmt: skip
    assert all(use.read and use.written and use.kind == "parameter" for use in explained.cells if use.name)
    others = [use for use in explained.cells if not use.name]
    assert sum(use.bytes for use in others) == 2 * (2560 + 128 + 640 + 20) + 8 + 8  # moments, rate, steps
    assert [use.bytes for use in others if not use.written] == [8]
    assert explained.memory["parameters"] == 2560 + 128 + 640 + 20
    assert explained.peak == sum(explained.memory.values())
    assert explained.memory["arena"] >= sum(k.bytes for k in explained.kept)


def test_a_cell_that_is_only_written_is_state_too():
    last = cr.Cell(cr.zeros((300,)))

    @cr.compile
    def step(x):
        last.assign(x * 2)

    (use,) = explain(step, floats(300)).cells
    assert (use.bytes, use.read, use.written) == (1200, False, True)


def test_a_run_allocates_no_more_than_the_peak():
    w = cr.Parameter(floats(256, 256))
    step = cr.compile(lambda x: (cr.tanh(x @ w), cr.exp(x) @ w))
    x = floats(512, 256)
    explained = explain(step, x)
    step(x)
    tracemalloc.start()
    try:
        kept = step(x)
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    results = sum(value.numpy().nbytes for value in kept)
    assert explained.memory["results"] == results <= held
    assert most <= explained.peak
    assert most <= results + 20_000  # nothing beside the results and some Python objects


# --- forms ------------------------------------------------------------------------------------------------------------


def test_the_page_parses_and_has_each_kernel_in_table_and_drawing(tmp_path):
    step, x, y = mlp()
    explained = explain(step, x, y)
    path = tmp_path / "step.html"
    explained.to_html(path)
    html = path.read_text(encoding="utf-8")
    parser = checked(html)
    assert {f"k{row.number}" for row in explained.kernels} <= parser.ids
    assert {f"#k{row.number}" for row in explained.kernels} == parser.links
    svg = drawing(html)
    titles = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}title")]
    for row, title in zip(explained.kernels, titles, strict=True):
        assert title.startswith(f"{row.number}: {row.name}")
    edges = len(list(svg.iter("{http://www.w3.org/2000/svg}path")))
    assert edges == sum(len(row.after) for row in explained.kernels)
    assert "Kept for the backward phase" in html


def test_boxes_do_not_overlap_and_stand_below_what_they_read():
    step, x, y = mlp()
    explained = explain(step, x, y)
    boxes = list(drawing(explained.html()).iter("{http://www.w3.org/2000/svg}rect"))
    corners = [(float(b.get("x")), float(b.get("y"))) for b in boxes]
    assert len(set(corners)) == len(boxes)
    height = dict(zip([row.number for row in explained.kernels], [y for _, y in corners], strict=True))
    for row in explained.kernels:
        assert all(height[number] < height[row.number] for number in row.after)


def test_text_has_a_line_for_each_kernel_and_each_kept_value():
    step, x, y = mlp()
    explained = explain(step, x, y)
    text = str(explained)
    assert text == repr(explained) == explained.text()
    lines = text.splitlines()
    for row in explained.kernels:
        assert any(line.split()[:1] == [str(row.number)] and row.name in line for line in lines)
    assert "peak memory" in text
    assert "0.weight" in text
    assert f"explain_harness.py:{line_of(mlp, 'model(x)').rpartition(':')[2]}" in text
    narrow = explained.text(width=100).splitlines()
    assert max(len(line) for line in narrow if "peak memory" not in line and "FLOP," not in line) <= 100


def test_data_can_be_written_as_json():
    step, x, y = mlp()
    explained = explain(step, x, y)
    data = json.loads(json.dumps(explained.to_dict()))
    assert len(data["kernels"]) == len(explained.kernels)
    assert data["memory"]["peak"] == explained.peak
    assert {"name": "tanh", "shape": [64, 32], "dtype": "float32", "bytes": 8192}.items() <= next(
        k for k in data["kept"] if k["name"] == "tanh"
    ).items()


def test_explaining_runs_nothing():
    step, x, y = mlp()
    model = [cell for cell in step.program_for(x, y)._inputs if hasattr(cell, "cell")]
    before = [source.cell.numpy() for source in model]
    explain(step, x, y)
    for source, value in zip(model, before, strict=True):
        np.testing.assert_array_equal(source.cell.numpy(), value)


def test_a_function_that_is_not_compiled_is_refused_with_the_fix():
    def step(x):
        return x

    with pytest.raises(ArgumentError, match=r"\[explain\].*Received: step.*@cr\.compile.*cr\.explain\(cr\.compile"):
        explain(step, 1.0)


def test_an_explanation_of_an_empty_program():
    explained = explain(cr.compile(lambda x: None), floats(3))
    assert isinstance(explained, Explanation)
    assert explained.kernels == []
    assert "0 kernels" in str(explained)
    checked(explained.html())
