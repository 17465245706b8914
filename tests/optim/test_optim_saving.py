"""Saving an optimizer and going on."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from optim_table import every_optimizer

import chainrule as cr
from chainrule import optim
from chainrule.errors import StateError


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    return [cr.Parameter(cr.tensor(rng.normal(size=s), dtype="float32")) for s in ((3, 2), (1, 4))]


def feed(opt, weights, seed, n):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        for w in weights:
            w.grad = cr.tensor(rng.normal(size=w.shape), dtype=w.dtype)
        opt.step()


def through_json(saved):
    """A state whose numbers have gone through text, and whose arrays are copies of their bytes."""
    plain = json.loads(json.dumps({k: v for k, v in saved.items() if k != "state"}))
    state = {
        key: {name: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape) for name, a in entries.items()}
        for key, entries in saved["state"].items()
    }
    return plain | {"state": state}


@every_optimizer
def test_going_on_from_a_saved_state_gives_the_same_bits(case):
    ws = parameters()
    opt = case.make([{"params": ws[:1], "lr": 0.03}, {"params": ws[1:]}])
    feed(opt, ws, 1, 3)
    opt.param_groups[1]["lr"] = 1 / 3
    saved, values = through_json(opt.state_dict()), [w.numpy() for w in ws]
    feed(opt, ws, 2, 4)

    again = parameters(9)
    for w, value in zip(again, values, strict=True):
        w.assign(value)
    other = case.make([{"params": again[:1]}, {"params": again[1:]}], lr=0.5)
    other.load_state_dict(saved)
    assert float(other.param_groups[1]["lr"]) == 1 / 3
    feed(other, again, 2, 4)
    assert int(other.step_count) == 7
    for w, v in zip(ws, again, strict=True):
        assert w.numpy().tobytes() == v.numpy().tobytes()
        for name, cell in opt.state[w].items():
            assert cell.numpy().tobytes() == other.state[v][name].numpy().tobytes()


@every_optimizer
def test_a_state_is_plain_and_a_copy(case):
    ws = parameters()
    opt = case.make(ws)
    saved = opt.state_dict()
    before = copy.deepcopy(saved)
    feed(opt, ws, 1, 2)
    assert list(saved["state"]) == ["0", "1"]
    for key, entries in saved["state"].items():
        for name, array in entries.items():
            assert type(array) is np.ndarray
            np.testing.assert_array_equal(array, before["state"][key][name])
    other = case.make(parameters())
    other.load_state_dict(saved)
    for entries in saved["state"].values():
        for array in entries.values():
            array[...] = 7
    assert all((cell.numpy() != 7).all() for entries in other.state.values() for cell in entries.values())


def test_named_parameters_are_saved_by_name():
    w, b = parameters()
    saved = optim.Adam([("fc.weight", w), ("fc.bias", b)]).state_dict()
    assert list(saved["state"]) == ["fc.weight", "fc.bias"]
    assert saved["param_groups"][0]["params"] == ["fc.weight", "fc.bias"]
    # where names would not tell parameters apart, numbers do
    assert list(optim.Adam([("w", w), ("w", b)]).state_dict()["state"]) == ["0", "1"]


def test_when_a_group_came_is_saved():
    ws, again = parameters(), parameters()
    opt, other = optim.Adam(ws[:1], lr=0.1), optim.Adam(again[:1], lr=0.1)
    feed(opt, ws[:1], 0, 5)  # so that the second group comes late to one of them
    for o, weights in ((opt, ws), (other, again)):
        o.add_param_group({"params": weights[1:]})
    other.load_state_dict(opt.state_dict())
    feed(opt, ws, 1, 2)
    feed(other, again, 1, 2)
    assert ws[1].numpy().tobytes() == again[1].numpy().tobytes()


def test_numbers_of_numpy_are_saved_as_plain_ones():
    opt = optim.Adam(parameters(), lr=np.float32(0.5), betas=[np.float64(0.5), np.float32(0.25)])
    group = json.loads(json.dumps(opt.state_dict()["param_groups"]))[0]
    assert (group["lr"], group["betas"]) == (0.5, [0.5, 0.25])


def broken(change):
    saved = optim.Adam(parameters()).state_dict()
    change(saved)
    return saved


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        ({}, "missing optimizer, param_groups, state, step_count"),
        (optim.SGD(parameters()).state_dict(), "that of another optimizer. Received: SGD"),
        (optim.Adam(parameters()[:1]).state_dict(), "the parameters differ. Received: missing 1"),
        (optim.Adam(parameters(), amsgrad=True).state_dict(), "the states of '0' differ. Received: unexpected max_exp"),
        (optim.Adam(parameters()[::-1]).state_dict(), "exp_avg of '0' is float32(3, 2). Received: float32(1, 4)"),
        (
            broken(lambda s: s["state"]["1"].update(exp_avg_sq=np.zeros(4))),
            "exp_avg_sq of '1' is float32(1, 4). Received: float64(4,)",
        ),
        (broken(lambda s: s["param_groups"].append({})), "has 1 parameter groups. Received: 2 groups"),
        (broken(lambda s: s["param_groups"][0].pop("eps")), "hyperparameters of group 0 differ. Received: missing eps"),
        (broken(lambda s: s["param_groups"][0].update(eps=-1.0)), "group 0: eps must be a number at least 0"),
        (broken(lambda s: s["param_groups"][0].update(params=["1", "0"])), "group 0 has other parameters"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_loaded(saved, says):
    opt = optim.Adam(parameters())
    cells = [opt.lr, opt.step_count, *(c for entries in opt.state.values() for c in entries.values())]
    with pytest.raises(StateError) as caught:
        opt.load_state_dict(saved)
    assert says in str(caught.value)
    assert str(caught.value).startswith("[Adam.load_state_dict]")
    assert {cell.version for cell in cells} == {0}
