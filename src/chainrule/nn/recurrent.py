"""Recurrent networks, as layers over sequences and as cells of one step; gates and biases are those of PyTorch.

All of them are loops by `chainrule.scan`. What the inputs add to the gates is one product over all times in front of
the loop; in it are the product with the state and the gates alone. A network with another step is such a loop, too:

>>> def step(h, x):  # a leaky average
...     h = 0.5 * h + 0.5 * x
...     return h, h
>>> last, every = cr.scan(step, cr.zeros((1, 1)), cr.swapaxes(cr.tensor([[[1.0], [2.0]]]), 0, 1))  # (N, T, C)
>>> last
tensor([[1.25]])
"""

from __future__ import annotations

import math
from typing import Any

from .. import functions as F, scan
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor, TensorLike
from . import functional, init
from .module import Module
from .windows import same_dtype

States = tuple[Tensor, ...]

# --- one step ---------------------------------------------------------------------------------------------


class _Recurrent(Module):
    """Weights under a suffix, and the step that they define: what the layers and the cells have in common."""

    gates: int
    input_size: int
    hidden_size: int
    bias: bool

    def _make(self, suffix: str, n_in: int, n_hidden: int, dtype: Any) -> None:
        """Make the weights of one step; all start uniform in ``+-1 / sqrt(hidden_size)``."""
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, n_in), "weight_hh": (rows, n_hidden)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if n_hidden != self.hidden_size:
            shapes["weight_hr"] = (n_hidden, self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, name + suffix, init.parameter(shape, init.uniform(1 / math.sqrt(self.hidden_size)), dtype))

    def _weights(self, kind: str, suffix: str) -> tuple[Any, Any]:
        """The weight of a kind, and its bias or None."""
        return getattr(self, f"weight_{kind}{suffix}"), getattr(self, f"bias_{kind}{suffix}", None)

    def _of_inputs(self, x: Tensor, suffix: str) -> Tensor:
        """What can be added to the gates before the loop: (..., C) -> (..., gates * H)."""
        x = functional.linear(x, *self._weights("ih", suffix))
        _, bias = self._weights("hh", suffix)
        return x if bias is None else x + bias

    def _of_state(self, h: Tensor, suffix: str) -> Tensor:
        """What is left to be added in the loop: (..., H) -> (..., gates * H)."""
        return functional.linear(h, self._weights("hh", suffix)[0])

    def _step(self, x: Tensor, states: States, suffix: str) -> States:
        """The next states, of which the first is the result, from what the inputs add to the gates."""
        raise NotImplementedError

    def _sizes(self) -> tuple[int, ...]:
        """The last axes of the states."""
        return (self.hidden_size,)

    # --- arguments ----------------------------------------------------------------------------------------

    def _checked_sizes(self, input_size: int, hidden_size: int, bias: bool) -> None:
        if hidden_size < 1:
            raise ArgumentError(type(self).__name__, "hidden_size is at least 1", received=repr(hidden_size))
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _input(self, input: TensorLike, like: Tensor, axes: str) -> Tensor:
        kind = type(self).__name__
        x = same_dtype(kind, input, like)
        ndim = axes.count(",") + 1
        if x.ndim not in (ndim, ndim - 1) or x.shape[-1] != self.input_size:
            raise ShapeError(
                kind,
                f"needs an input ({axes}), or one without the batch axis N, with C = {self.input_size}",
                received=f"shape {x.shape}",
                fix=f"make it with input_size={x.shape[-1]}" if x.ndim in (ndim, ndim - 1) else "",
            )
        return x

    def _states(self, hx: Any, lead: tuple[int, ...], like: Tensor) -> States:
        """The states before the first step, zeros unless they are given."""
        kind = type(self).__name__
        shapes = [(*lead, n) for n in self._sizes()]
        if hx is None:
            return tuple(F.zeros(shape, dtype=like.dtype) for shape in shapes)
        given = (hx,) if len(shapes) == 1 else hx
        if not isinstance(given, (tuple, list)) or len(given) != len(shapes):
            raise ArgumentError(kind, "the state is a pair (h_0, c_0)", received=type(hx).__name__)
        states = tuple(same_dtype(kind, state, like) for state in given)
        if [s.shape for s in states] != shapes:
            received = " and ".join(f"shape {s.shape}" for s in states)
            raise ShapeError(kind, "the state must have the shape " + " and ".join(map(str, shapes)), received=received)
        return states


def _one_or_all(states: States) -> Any:
    return states[0] if len(states) == 1 else states


class _Elman(_Recurrent):
    gates = 1

    def _choose(self, nonlinearity: str) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(type(self).__name__, "nonlinearity is 'tanh' or 'relu'", received=repr(nonlinearity))
        self.nonlinearity = nonlinearity

    def _step(self, x: Tensor, states: States, suffix: str) -> States:
        new = x + self._of_state(states[0], suffix)
        return (F.tanh(new) if self.nonlinearity == "tanh" else F.relu(new),)


class _LSTM(_Recurrent):
    gates = 4
    proj_size = 0

    def _sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def _step(self, x: Tensor, states: States, suffix: str) -> States:
        h, c = states
        i, f, g, o = F.split(x + self._of_state(h, suffix), self.hidden_size, axis=-1)
        c = F.sigmoid(f) * c + F.sigmoid(i) * F.tanh(g)
        h = F.sigmoid(o) * F.tanh(c)
        return (functional.linear(h, *self._weights("hr", suffix)) if self.proj_size else h), c


class _GRU(_Recurrent):
    gates = 3

    def _of_inputs(self, x: Tensor, suffix: str) -> Tensor:
        return functional.linear(x, *self._weights("ih", suffix))

    def _of_state(self, h: Tensor, suffix: str) -> Tensor:
        """With ``b_hh``, since the reset gate scales a part of it."""
        return functional.linear(h, *self._weights("hh", suffix))

    def _step(self, x: Tensor, states: States, suffix: str) -> States:
        h = states[0]
        r, z, n = F.split(x, self.hidden_size, axis=-1)
        r_h, z_h, n_h = F.split(self._of_state(h, suffix), self.hidden_size, axis=-1)
        n = F.tanh(n + F.sigmoid(r + r_h) * n_h)
        return (n + F.sigmoid(z + z_h) * (h - n),)


# --- cells ------------------------------------------------------------------------------------------------


class _Cell(_Recurrent):
    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = None) -> None:
        self._checked_sizes(input_size, hidden_size, bias)
        self._make("", input_size, hidden_size, dtype)

    def forward(self, input: TensorLike, hx: Any = None) -> Any:
        """(N, C) or (C,), and the state, of zeros unless given -> the next state."""
        weight, _ = self._weights("ih", "")
        x = self._input(input, weight, "N, C")
        return _one_or_all(self._step(self._of_inputs(x, ""), self._states(hx, x.shape[:-1], weight), ""))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Elman, _Cell):
    """One step of `RNN`: ``h' = tanh(W_ih x + b_ih + W_hh h + b_hh)``.

    Args:
        input_size, hidden_size: elements of ``x`` and ``h``.
        bias: whether there are ``b_ih`` and ``b_hh``.
        nonlinearity: "tanh" or "relu".
        dtype: of the weights.

    Shapes: x (N, input_size), h (N, hidden_size), or both without N; weight_ih (hidden, input), weight_hh (hidden,
    hidden), bias_ih and bias_hh (hidden,).

    >>> nn.RNNCell(3, 4)(cr.ones((2, 3))).shape
    (2, 4)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self._choose(nonlinearity)


class LSTMCell(_LSTM, _Cell):
    """One step of `LSTM`, from ``(h, c)`` to ``(h', c')``.

    Args:
        input_size, hidden_size: elements of ``x``, and of ``h`` and ``c``.
        bias: whether there are ``b_ih`` and ``b_hh``.
        dtype: of the weights.

    Shapes: x (N, input_size), h and c (N, hidden_size), or all without N; weight_ih (4 hidden, input), weight_hh
    (4 hidden, hidden), bias_ih and bias_hh (4 hidden,).

    A cell in a loop, over inputs (T, N, C):

    >>> cell, xs = nn.LSTMCell(3, 4), cr.ones((5, 2, 3))
    >>> def step(state, x):
    ...     h, c = cell(x, state)
    ...     return (h, c), h
    >>> cr.scan(step, (cr.zeros((2, 4)), cr.zeros((2, 4))), xs)[1].shape
    (5, 2, 4)
    """


class GRUCell(_GRU, _Cell):
    """One step of `GRU`.

    Args:
        input_size, hidden_size: elements of ``x`` and ``h``.
        bias: whether there are ``b_ih`` and ``b_hh``.
        dtype: of the weights.

    Shapes: x (N, input_size), h (N, hidden_size), or both without N; weight_ih (3 hidden, input), weight_hh (3 hidden,
    hidden), bias_ih and bias_hh (3 hidden,).

    >>> nn.GRUCell(3, 4)(cr.ones((2, 3))).shape
    (2, 4)
    """


# --- layers -----------------------------------------------------------------------------------------------


class _Layers(_Recurrent):
    """Layers of one or two directions, each a loop over the first axis of (T, N, C), or (T, C)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        *,
        generator: F.Generator | None = None,
    ) -> None:
        kind = type(self).__name__
        self._checked_sizes(input_size, hidden_size, bias)
        if num_layers < 1:
            raise ArgumentError(kind, "num_layers is at least 1", received=repr(num_layers))
        if not 0 <= dropout <= 1:
            raise ArgumentError(kind, "dropout is a probability, 0 to 1", received=repr(dropout))
        self.num_layers, self.batch_first, self.bidirectional = num_layers, batch_first, bidirectional
        self.dropout, self.generator = dropout, generator
        self._directions = ("", "_reverse") if bidirectional else ("",)
        n_hidden = self._sizes()[0]
        for layer in range(num_layers):
            for direction in self._directions:
                n_in = n_hidden * len(self._directions) if layer else input_size
                self._make(f"_l{layer}{direction}", n_in, n_hidden, dtype)

    def forward(
        self, input: TensorLike, hx: Any = None, *, lengths: TensorLike | None = None, mask: TensorLike | None = None
    ) -> Any:
        """(N, T, C) or (T, C), and the first state, of zeros unless given -> (output, last state)."""
        weight, _ = self._weights("ih", "_l0")
        x = self._input(input, weight, "N, T, C" if self.batch_first else "T, N, C")
        turned = x.ndim == 3 and self.batch_first
        x = F.swapaxes(x, 0, 1) if turned else x
        valid = self._valid(x, lengths, mask)
        states = self._states(hx, (self.num_layers * len(self._directions), *x.shape[1:-1]), weight)
        lasts: list[States] = []
        for layer in range(self.num_layers):
            if layer:
                x = functional.dropout(x, self.dropout, self.training, generator=self.generator)
            outs = []
            for direction in self._directions:
                start = tuple(s[len(lasts)] for s in states)
                last, out = self._loop(x, start, valid, f"_l{layer}{direction}", reverse=bool(direction))
                lasts.append(last)
                outs.append(out)
            x = F.concat(outs, axis=-1) if self.bidirectional else outs[0]
        if valid is not None:
            x = F.where(valid, x, 0.0)
        final = tuple(F.stack(parts) for parts in zip(*lasts, strict=True))
        return (F.swapaxes(x, 0, 1) if turned else x), _one_or_all(final)

    def _loop(
        self, x: Tensor, start: States, valid: Tensor | None, suffix: str, reverse: bool
    ) -> tuple[States, Tensor]:
        """(T, N, C) -> the last states, and the results (T, N, H); where ``valid`` is False nothing changes."""

        def body(states: States, here: tuple[Tensor, Tensor | None]) -> tuple[States, Tensor]:
            x, valid = here
            new = self._step(x, states, suffix)
            if valid is not None:
                new = tuple(F.where(valid, a, b) for a, b in zip(new, states, strict=True))
            return new, new[0]

        last, out = scan(body, start, (self._of_inputs(x, suffix), valid), reverse=reverse)
        return last, out

    def _valid(self, x: Tensor, lengths: TensorLike | None, mask: TensorLike | None) -> Tensor | None:
        """Which steps count, for ``x`` of (T, N, C): (T, N, 1), or None for all."""
        kind, places = type(self).__name__, (*x.shape[1:-1], x.shape[0])
        if lengths is not None and mask is not None:
            raise ArgumentError(kind, "lengths and mask say the same; give one of them")
        if lengths is not None:
            lengths = F.asarray(lengths)
            if lengths.shape != places[:-1]:
                raise ShapeError(kind, f"lengths must have shape {places[:-1]}", received=f"shape {lengths.shape}")
            if not lengths.dtype.name.startswith(("int", "uint")):
                raise DTypeError(kind, "lengths are integers", received=lengths.dtype.name)
            mask = F.arange(places[-1]) < lengths[..., None]
        if mask is None:
            return None
        mask = F.asarray(mask)
        if mask.shape != places:
            raise ShapeError(kind, f"the mask must have shape {places}", received=f"shape {mask.shape}")
        if mask.dtype.name != "bool":
            raise DTypeError(kind, "the mask is of bool, True where a step counts", received=mask.dtype.name)
        return F.moveaxis(mask, -1, 0)[..., None]

    def extra_repr(self) -> str:
        """Sizes, and what is not usual."""
        usual = {"num_layers": 1, "nonlinearity": "tanh", "bias": True, "batch_first": True, "dropout": 0.0}
        usual |= {"bidirectional": False, "proj_size": 0}
        extra = "".join(f", {k}={self.__dict__[k]}" for k, v in usual.items() if self.__dict__.get(k, v) != v)
        return f"{self.input_size}, {self.hidden_size}{extra}"


class RNN(_Elman, _Layers):
    """The simple recurrent network of Elman (Cognitive Science 14, 1990).

    ``h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh)``

    Args:
        input_size, hidden_size: elements of an input ``x_t`` and of the state ``h_t``.
        num_layers: so many layers, each of which reads the outputs of the one before.
        nonlinearity: "tanh" or "relu".
        bias: whether there are ``b_ih`` and ``b_hh``.
        batch_first: whether a batch is (N, T, C), as all sequences here, or (T, N, C), PyTorch's default.
        dropout: probability of `dropout` on the outputs of each layer but the last, while training.
        bidirectional: a second loop with weights of its own goes from the last input to the first; the outputs of
            both are concatenated.
        dtype: of the weights.
        generator: random numbers of the dropout.

    Called with:
        input: shape (N, T, C), or (T, C) for one sequence.
        hx: the first state, zeros unless given, shape (num_layers * directions, N, H), or without N: both directions
            of the first layer, then of the second.
        lengths: shape (N,), integers: so many steps of each sequence count. The others leave the state as it is, and
            their output is 0; the reverse direction starts at the last that counts, as with PyTorch's packed sequences.
        mask: shape (N, T), bool, in place of ``lengths``: which steps count.

    Returns:
        the outputs ``h_t`` of the last layer, shape (N, T, directions * H), and the last state, of the shape of ``hx``.
        Without any step that is the first.

    Raises:
        ShapeError, DTypeError: an argument does not fit.

    Weights have PyTorch's names: weight_ih_l0 (hidden, input), weight_hh_l0 (hidden, hidden), bias_ih_l0 and bias_hh_l0
    (hidden,), then those with ``_l0_reverse``, then ``_l1``. All start uniform in ``+-1 / sqrt(hidden)``.

    >>> outputs, last = nn.RNN(3, 4)(cr.ones((2, 5, 3)))
    >>> outputs.shape, last.shape
    ((2, 5, 4), (1, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
        *,
        generator: F.Generator | None = None,
    ) -> None:
        self._choose(nonlinearity)
        how = num_layers, bias, batch_first, dropout, bidirectional, dtype
        super().__init__(input_size, hidden_size, *how, generator=generator)


class LSTM(_LSTM, _Layers):
    """Long short-term memory (Hochreiter and Schmidhuber, Neural Computation 9, 1997).

    With forget gates (Gers, Schmidhuber and Cummins, Neural Computation 12, 2000)::

        i   = sigmoid(W_ii x_t + b_ii + W_hi h_(t-1) + b_hi)
        f   = sigmoid(W_if x_t + b_if + W_hf h_(t-1) + b_hf)
        g   = tanh(W_ig x_t + b_ig + W_hg h_(t-1) + b_hg)
        o   = sigmoid(W_io x_t + b_io + W_ho h_(t-1) + b_ho)
        c_t = f c_(t-1) + i g
        h_t = o tanh(c_t)

    Args:
        proj_size: if not 0, ``h_t = W_hr (o tanh(c_t))`` has so many elements (Sak, Senior and Beaufays, arXiv
            1402.1128): it is then the H of outputs and ``h``, and the width of W_hh.

    All else, and how it is called, is as in `RNN`, except that the state is a pair ``(h, c)``. Weights: weight_ih_l0
    (4 hidden, input), weight_hh_l0 (4 hidden, H), bias_ih_l0 and bias_hh_l0 (4 hidden,), the rows in the order i, f, g,
    o; weight_hr_l0 (proj, hidden).

    >>> outputs, (h, c) = nn.LSTM(3, 4, bidirectional=True)(cr.ones((2, 5, 3)), lengths=cr.tensor([5, 2]))
    >>> outputs.shape, h.shape, c.shape
    ((2, 5, 8), (2, 2, 4), (2, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        dtype: Any = None,
        *,
        generator: F.Generator | None = None,
    ) -> None:
        if proj_size and not 0 < proj_size < hidden_size:
            raise ArgumentError("LSTM", "proj_size is 0 or less than hidden_size", received=repr(proj_size))
        self.proj_size = proj_size
        how = num_layers, bias, batch_first, dropout, bidirectional, dtype
        super().__init__(input_size, hidden_size, *how, generator=generator)


class GRU(_GRU, _Layers):
    """Gated recurrent units (Cho et al., arXiv 1406.1078), with the reset gate behind the product, as in PyTorch::

        r   = sigmoid(W_ir x_t + b_ir + W_hr h_(t-1) + b_hr)
        z   = sigmoid(W_iz x_t + b_iz + W_hz h_(t-1) + b_hz)
        n   = tanh(W_in x_t + b_in + r (W_hn h_(t-1) + b_hn))
        h_t = (1 - z) n + z h_(t-1)

    Arguments, and how it is called, are as in `RNN`, without ``nonlinearity``. Weights: weight_ih_l0 (3 hidden, input),
    weight_hh_l0 (3 hidden, hidden), bias_ih_l0 and bias_hh_l0 (3 hidden,), the rows in the order r, z, n.

    >>> outputs, last = nn.GRU(3, 4, num_layers=2)(cr.ones((2, 5, 3)))
    >>> outputs.shape, last.shape
    ((2, 5, 4), (2, 2, 4))
    """
