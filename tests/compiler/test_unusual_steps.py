"""Steps that are not the usual one, the same numbers in both modes: who shares, repeats, swaps and nests what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import both_modes
import networks
import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional

Wrap = Callable[[Any], Any]
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 5)).astype(np.float32), RNG.integers(0, 3, 6)
SCORES = RNG.standard_normal((6, 3)).astype(np.float32)
RAMP = np.arange(100, dtype=np.float32)
CASES: list[Callable[[Wrap], Any]] = []


def case(function: Callable[[Wrap], Any]) -> Callable[[Wrap], Any]:
    CASES.append(function)
    return function


def update(opt: Any, loss: Any) -> Any:
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss


# --- options of compile -----------------------------------------------------------------------------------


def with_options(wrap: Wrap, name: str, **options: Any) -> tuple[networks.Network, Any]:
    network = networks.NETWORKS[name]()
    return network, cr.compile(network.step, **options) if wrap is cr.compile else network.step


@case
def a_small_memory_budget(wrap):
    found = []
    for name in ("residual", "transformer", "lstm"):
        network, step = with_options(wrap, name, memory_budget=1000)
        found += [[step(*network.batch(i, 8)) for i in range(3)], both_modes.states(*network.holders)]
    return found


@case
def gradients_that_are_kept(wrap):
    network, step = with_options(wrap, "lenet", keep_grads=True)
    return [(step(*network.batch(i, 8)), [p.grad for p in network.model.parameters()]) for i in range(2)]


# --- parameters and backward calls ------------------------------------------------------------------------


@case
def tied_weights(wrap):
    tokens = nn.Embedding(7, 4)
    opt = optim.Adam([tokens.weight], lr=0.1)
    step = wrap(lambda x, y: update(opt, functional.cross_entropy(tokens(x) @ tokens.weight.T, y)))
    return [step(np.arange(5), np.arange(5)) for _ in range(3)], both_modes.states(tokens, opt)


@case
def two_backward_calls(wrap):
    model = nn.Linear(5, 3)
    opt = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        opt.zero_grad()
        one, two = functional.cross_entropy(model(x), y), (model(x) ** 2).mean()
        one.backward()
        two.backward()
        opt.step()
        return one, two

    step = wrap(step)
    return [step(cr.asarray(X), Y) for _ in range(3)], both_modes.states(model)


@case
def microbatches(wrap):
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.Linear(8, 3))
    opt = optim.AdamW(model.parameters())

    def step(x, y):
        opt.zero_grad()
        total = 0.0
        for i in range(3):
            loss = functional.cross_entropy(model(x[2 * i : 2 * i + 2]), y[2 * i : 2 * i + 2]) / 3
            loss.backward()
            total = total + loss
        opt.step()
        return total

    step = wrap(step)
    return [step(cr.asarray(X), cr.asarray(Y)) for _ in range(3)], both_modes.states(model, opt)


@case
def a_generator_and_a_discriminator(wrap):
    make, judge = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5)), nn.Linear(5, 1)
    opt_make, opt_judge = optim.Adam(make.parameters(), lr=0.01), optim.Adam(judge.parameters(), lr=0.01)
    score = functional.binary_cross_entropy_with_logits

    def step(x):
        fake = make(cr.normal((6, 3)))
        one = update(opt_judge, score(judge(x), cr.ones((6, 1))) + score(judge(fake.detach()), cr.zeros((6, 1))))
        return one, update(opt_make, score(judge(fake), cr.ones((6, 1))))

    step = wrap(step)
    return [step(cr.asarray(X)) for _ in range(3)], both_modes.states(make, judge, opt_make, opt_judge)


@case
def weights_that_are_computed_in_16_bits(wrap):
    model = nn.Linear(5, 3)
    opt = optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        weights = {name: p.astype("float16") for name, p in model.named_parameters()}
        out = cr.functional_call(model, weights, x.astype("float16"))
        loss = functional.cross_entropy(out.astype("float32"), y) * 128.0
        opt.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.grad = p.grad / 128.0
        opt.step()
        return loss / 128.0

    step = wrap(step)
    return [step(cr.asarray(X), Y) for _ in range(3)]


# --- transforms in a step ---------------------------------------------------------------------------------


@case
def a_penalty_on_the_gradient(wrap):
    model = nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 1))
    opt = optim.Adam(model.parameters(), eps=1e-3)

    def step(x):
        slope = cr.grad(lambda x: model(x).sum())(x)
        return update(opt, ((cr.sqrt((slope**2).sum(axis=1) + 1e-8) - 1) ** 2).mean() + model(x).mean())

    step = wrap(step)
    return [step(cr.asarray(X)) for _ in range(3)], both_modes.states(model)


@case
def a_gradient_through_a_step(wrap):
    model = nn.Linear(5, 3)

    def tuned(x, y):
        def loss(weights):
            return functional.cross_entropy(cr.functional_call(model, weights, x), y)

        def after(weights):
            slope = cr.grad(loss)(weights)
            return loss({name: w - 0.1 * slope[name] for name, w in weights.items()})

        return cr.value_and_grad(after)({name: p.read() for name, p in model.named_parameters()})

    return wrap(tuned)(cr.asarray(X), Y)


@case
def an_epoch_as_a_scan(wrap):
    model = nn.Linear(5, 3)
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def epoch(xs, ys):
        return cr.scan(lambda c, b: (c, update(opt, functional.cross_entropy(model(b[0]), b[1]))), 0.0, (xs, ys))[1]

    epoch = wrap(epoch)
    batches = np.stack([X, 2 * X, -X, X]), np.stack([Y] * 4)
    return epoch(*batches), epoch(*batches), both_modes.states(model, opt)


@case
def a_checkpoint_with_dropout(wrap):
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3))
    opt = optim.SGD(model.parameters(), lr=0.1)
    step = wrap(lambda x, y: update(opt, functional.cross_entropy(cr.checkpoint(model)(x), y)))
    return [step(cr.asarray(X), Y) for _ in range(3)], both_modes.states(model)


@case
def descent_in_a_while_loop(wrap):
    w = cr.Parameter(cr.asarray(RAMP[:4] / 4))

    def solve(x):
        def loss(w):
            return ((w * x).sum() - 1) ** 2 + (w**4).sum()

        start = (w.read(), cr.tensor(0))
        found, _ = cr.while_loop(lambda s: s[1] < 20, lambda s: (s[0] - 0.01 * cr.grad(loss)(s[0]), s[1] + 1), start)
        w.assign(found)
        return loss(found)

    solve = wrap(solve)
    return solve(cr.asarray(RAMP[:4])), solve(cr.ones((4,))), w


@case
def cells_and_gradients_in_a_branch(wrap):
    w, seen = cr.Parameter(cr.ones((3,))), cr.Cell(cr.zeros((3,)))

    def step(x):
        def yes(x):
            seen.assign(seen + x)
            return (w * x).sum()

        def no(x):
            seen.assign(seen * 2)
            return (w * w * x).sum()

        loss = cr.cond(x.sum() > 0, yes, no, x)
        loss.backward()
        slope, w.grad = w.grad, None
        return loss, slope

    step = wrap(step)
    return [step(cr.tensor(v)) for v in ([1.0, 2.0, 3.0], [-1.0, -2.0, 1.0], [0.0, 1.0, 0.0])], seen


# --- cells ------------------------------------------------------------------------------------------------


@case
def cells_that_exchange_values(wrap):
    found = []
    for size in (3, 700, 5000):
        cells = [cr.Cell(cr.full((size,), float(i))) for i in range(5)]

        def rotate(cells=cells):
            values = [cell.read() for cell in cells]
            for i, cell in enumerate(cells):
                cell.assign(values[(i + 1) % 5] + values[i] * 0.5 if i % 2 else values[(i + 1) % 5])
            return cells[0]

        step = wrap(rotate)
        found += [step(), step(), [cell.numpy() for cell in cells]]
    return found


@case
def cells_that_move_within_themselves(wrap):
    square = cr.Cell(cr.asarray(np.arange(33 * 33, dtype=np.float32).reshape(33, 33)))
    ring, mirror, prefix = (cr.Cell(cr.asarray(RAMP)) for _ in range(3))

    def step():
        square.assign(square.T + 1)
        ring.assign(cr.concat([ring[1:], ring[:1]]))
        mirror.assign(cr.flip(mirror) * 2)
        prefix.assign(cr.concat([prefix[:50] * 3, prefix[:50]]))
        return square.sum(), ring[0], mirror[0], prefix[-1]

    step = wrap(step)
    return step(), step(), square, ring, mirror, prefix


@case
def a_buffer_that_is_filled(wrap):
    rows, count = cr.Cell(cr.zeros((10, 3))), cr.Cell(cr.tensor(0))

    def push(x):
        rows.assign(rows.at[count % 10].set(x))
        count.assign(count + 1)
        return rows.sum()

    push = wrap(push)
    return [push(cr.full((3,), float(i))) for i in range(12)], rows


@case
def a_confusion_matrix(wrap):
    table = cr.Cell(cr.zeros((3, 3), dtype="int64"))

    def count(scores, y):
        found = cr.argmax(scores, axis=-1)
        table.assign(table.at[y, found].add(1))
        return (found == y).astype("float32").mean(), cr.sort(scores, axis=1)

    count = wrap(count)
    return count(cr.asarray(SCORES), cr.asarray(Y)), count(cr.asarray(SCORES), cr.asarray(Y)), table


@case
def assignments_from_outside(wrap):
    model = nn.Linear(5, 3)
    opt = optim.SGD(model.parameters(), lr=0.1)
    step = wrap(lambda x: update(opt, (model(x) ** 2).mean()))
    found = [step(cr.asarray(X))]
    model.weight.assign(model.weight * 0 + 1.0)
    found.append(step(cr.asarray(X)))
    model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})
    return [*found, step(cr.asarray(X)), both_modes.states(model)]


@case
def a_generator_of_its_own(wrap):
    generator = cr.Generator(5)
    dropout = nn.Dropout(0.5, generator=generator)
    step = wrap(lambda x: dropout(x))
    found = [step(cr.asarray(X)), step(cr.asarray(X))]
    dropout.eval()
    found.append(step(cr.asarray(X)))
    dropout.train()
    return [*found, step(cr.asarray(X)), generator]


@case
def arguments_of_any_layout(wrap):
    model = nn.Linear(5, 3)
    step = wrap(lambda x: model(cr.asarray(x)))
    big = np.arange(120, dtype=np.float32).reshape(12, 10) / 50
    return step(big[::2, ::2]), step(big[::-2, :5]), step(np.asfortranarray(big[:6, :5]))


@case
def labels_of_any_integer_type(wrap):
    step = wrap(lambda x, y: functional.cross_entropy(cr.asarray(x), cr.asarray(y)))
    return [step(SCORES, Y.astype(dtype)) for dtype in ("int64", "int32", "int16", "int8")]


@pytest.mark.parametrize("run", CASES, ids=lambda run: run.__name__)
def test_unusual_steps(run):
    both_modes.same(*both_modes.both(run), factor=10)
