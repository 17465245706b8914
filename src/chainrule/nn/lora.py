"""Low-rank adaptation: a trained model is kept, and small matrices beside its weights are trained.

Source: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv 2106.09685.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any

from .. import functions as F
from ..errors import ArgumentError, StateError
from ..tensor import Parameter, Tensor, TensorLike
from . import functional, init, state
from .embedding import Embedding
from .layers import Conv1d, Conv2d, Conv3d, Linear
from .module import Module

Targets = str | Iterable[str] | Callable[[str, Module], bool] | None


class Adapter(Module):
    """A frozen layer and two matrices whose product is added to its weight: ``W + alpha / rank * B A``.

    ``B`` starts at zero, so at first the layer does what it did.

    Args:
        base: the layer; it is frozen.
        rank: the inner size of the product, at least 1.
        alpha: over ``rank``, the factor of the product.

    Attributes:
        lora_A: shape (rank, in...), uniform in ``+-1 / sqrt(in)`` at first.
        lora_B: shape (out, rank).

    Raises:
        ArgumentError: ``rank`` is below 1.
    """

    def __init__(self, base: Any, rank: int = 8, alpha: float = 16.0) -> None:
        if rank < 1:
            raise ArgumentError(type(self).__name__, "the rank is at least 1", received=str(rank))
        self.base = base.freeze()
        self.rank, self.scaling = rank, alpha / rank
        self.merged = False
        (out, *inner), dtype = base.weight.shape, base.weight.dtype
        rule = init.uniform(1 / math.sqrt(math.prod(inner)))
        self.lora_A = init.parameter((rank, *inner), rule, dtype)
        self.lora_B = init.parameter((out, rank), init.constant(0.0), dtype)
        self._plain: Tensor | None = None

    def _delta(self) -> Tensor:
        """What is added to the weight of the layer."""
        rows = F.reshape(self.lora_A, (self.rank, -1))
        return F.reshape(self.scaling * (self.lora_B @ rows), self.base.weight.shape)

    @property
    def weight(self) -> Tensor:
        """The weight with what is added, a tensor."""
        return F.asarray(self.base.weight) if self.merged else self.base.weight + self._delta()

    @property
    def bias(self) -> Parameter | None:
        """The bias of the layer."""
        return self.base.bias

    def merge(self) -> None:
        """Add the product to the weight of the layer, which then costs what it did."""
        if not self.merged:
            self._plain = self.base.weight.detach()
            self.base.weight.assign(self.weight.detach())
            self.merged = True

    def unmerge(self) -> None:
        """Put the weight of the layer back, exactly as it was."""
        if self._plain is not None:
            self.base.weight.assign(self._plain)
            self._plain, self.merged = None, False

    def extra_repr(self) -> str:
        """The rank."""
        return f"rank={self.rank}, scaling={self.scaling:g}" + (", merged" if self.merged else "")


class LoRALinear(Adapter):
    """A frozen `Linear` with a trained product beside its weight: ``x W^T + b + alpha / rank * (x A^T) B^T``.

    Args:
        base: the layer; it is frozen.
        rank: the inner size of the product, at least 1.
        alpha: over ``rank``, the factor of the product.
        dropout: the probability with which elements of ``x`` are dropped on the way to ``A``, in training.

    Shapes: lora_A (rank, in), uniform in ``+-1 / sqrt(in)`` at first; lora_B (out, rank), zero at first.

    Raises:
        ArgumentError: ``rank`` is below 1, or ``dropout`` no probability.

    Source: Hu et al., arXiv 2106.09685, equation 3.

    >>> layer = nn.Linear(3, 2)
    >>> adapted = nn.lora.LoRALinear(layer, rank=1)
    >>> x = cr.ones((4, 3))
    >>> bool((adapted(x) == layer(x)).all()), [p.shape for p in adapted.parameters() if p.trainable]
    (True, [(1, 3), (2, 1)])
    """

    def __init__(self, base: Linear, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0) -> None:
        if not 0 <= dropout <= 1:
            raise ArgumentError("LoRALinear", "dropout is a probability, 0 to 1", received=repr(dropout))
        super().__init__(base, rank, alpha)
        self.dropout = dropout

    def forward(self, x: TensorLike) -> Tensor:
        """(..., in) -> (..., out)."""
        y = self.base(x)
        if self.merged:
            return y
        x = functional.dropout(x, self.dropout, self.training) if self.dropout else x
        return y + self.scaling * functional.linear(functional.linear(x, self.lora_A), self.lora_B)


class LoRAEmbedding(Adapter):
    """A frozen `Embedding` with a trained product beside its table, of which only the rows used are computed.

    Args:
        base: the layer; it is frozen.
        rank: the inner size of the product, at least 1.
        alpha: over ``rank``, the factor of the product.

    Shapes: lora_A (rank, embedding_dim), uniform at first; lora_B (num_embeddings, rank), zero at first.

    >>> layer = nn.Embedding(5, 3)
    >>> nn.lora.LoRAEmbedding(layer, rank=2)(cr.tensor([1, 4])).shape
    (2, 3)
    """

    def forward(self, x: TensorLike) -> Tensor:
        """(...) -> (..., embedding_dim)."""
        y = self.base(x)
        if self.merged:
            return y
        rows = functional.embedding(x, self.lora_B, self.base.padding_idx, self.base.sparse)
        return y + self.scaling * (rows @ self.lora_A)


class LoRAConv(Adapter):
    """A frozen convolution with a trained one of few channels beside it, whose result ``B`` takes to all channels.

    Args:
        base: a `Conv1d`, `Conv2d` or `Conv3d` with one group and ``padding_mode="zeros"``; it is frozen.
        rank: the number of channels in between, at least 1.
        alpha: over ``rank``, the factor of the product.

    Shapes: lora_A (rank, kernel..., in), uniform at first; lora_B (out, rank), zero at first.

    >>> layer = nn.Conv2d(3, 8, 3, padding=1)
    >>> nn.lora.LoRAConv(layer, rank=2)(cr.ones((1, 4, 4, 3))).shape
    (1, 4, 4, 8)
    """

    def __init__(self, base: Any, rank: int = 8, alpha: float = 16.0) -> None:
        if not _is_plain(base):
            raise ArgumentError(
                "LoRAConv", "the convolution has one group and padding_mode='zeros'", received=repr(base)
            )
        super().__init__(base, rank, alpha)

    def forward(self, x: TensorLike) -> Tensor:
        """(N, spatial..., C) -> (N, spatial..., O)."""
        y, base = self.base(x), self.base
        if self.merged:
            return y
        few = F.conv(x, self.lora_A, None, base.stride, base.padding, base.dilation)
        return y + self.scaling * functional.linear(few, self.lora_B)


def _is_plain(layer: Any) -> bool:
    return layer.groups == 1 and layer.padding_mode == "zeros"


KINDS: dict[type, type[Adapter]] = {
    Linear: LoRALinear, Embedding: LoRAEmbedding, Conv1d: LoRAConv, Conv2d: LoRAConv, Conv3d: LoRAConv,
}  # fmt: skip
"""The layers that can be adapted; subclasses of them are left alone."""


# --- whole models -----------------------------------------------------------------------------------------


def apply(model: Module, rank: int = 8, alpha: float = 16.0, targets: Targets = None, dropout: float = 0.0) -> Module:
    """Freeze a model, and put an adapter in place of each layer that ``targets`` names.

    Train with an optimizer over ``nn.lora.parameters(model)``. Whatever else is to be trained, such as a new head, is
    unfrozen afterwards. A layer that is used in several places stays one.

    Args:
        model: a trained model.
        rank, alpha: as of `LoRALinear`.
        targets: names of layers, whole (``"0.fc"``) or the last part (``"fc"``); or ``targets(name, layer)``, which
            says whether; None for every `Linear`.
        dropout: of the `LoRALinear` among them.

    Returns:
        the model, or the adapter if the model is a layer.

    Raises:
        ArgumentError: there is no such layer, or it cannot be adapted.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> model = nn.lora.apply(model, rank=2, targets="0")
    >>> list(nn.lora.state_dict(model))
    ['0.lora_A', '0.lora_B']
    """
    chosen = _chosen(model, targets)
    model.freeze()
    made: dict[int, Module] = {}
    for layer in chosen:
        kind = KINDS[type(layer)]
        more = {"dropout": dropout} if kind is LoRALinear else {}
        made[id(layer)] = kind(layer, rank, alpha, **more)
    return _exchanged(model, made)


def _chosen(model: Module, targets: Targets) -> list[Module]:
    """The layers to be adapted; those that are already are passed over."""
    adapted = {id(m.base) for m in adapters(model).values()}
    layers = [(name, m) for name, m in model.named_modules() if id(m) not in adapted]
    named: list[tuple[str, Module]]
    if targets is None:
        named = [(name, m) for name, m in layers if type(m) is Linear]
    elif callable(targets):
        named = [(name, m) for name, m in layers if targets(name, m)]
    else:
        names = [targets] if isinstance(targets, str) else list(targets)
        named = [(name, m) for name, m in layers if not {name, name.rpartition(".")[2]}.isdisjoint(names)]
        missing = [t for t in names if not any(t in (name, name.rpartition(".")[2]) for name, _ in named)]
        if missing:
            raise ArgumentError("lora.apply", "the model has no such layer", received=", ".join(missing))
    wrong = [f"{name} ({type(m).__name__})" for name, m in named if type(m) not in KINDS]
    if wrong or not named:
        raise ArgumentError(
            "lora.apply",
            "adapters exist for " + ", ".join(kind.__name__ for kind in KINDS),
            received=", ".join(wrong) or "no layer",
            fix="name such layers by targets=",
        )
    return [m for _, m in named]


def _exchanged(model: Module, made: Mapping[int, Module]) -> Module:
    """Put other modules in the place of some; those are known by identity."""

    def convert(value: Any) -> Any:
        if isinstance(value, Module):
            return made.get(id(value), value)
        if isinstance(value, (list, tuple)):
            items = [convert(item) for item in value]
            return value if all(map(is_, items, value)) else type(value)(items)
        if isinstance(value, dict):
            entries = {key: convert(item) for key, item in value.items()}
            return value if all(map(is_, entries.values(), value.values())) else type(value)(entries)
        return value

    for module in list(model.modules()):
        for name, value in list(vars(module).items()):
            new = value if name.startswith("_") else convert(value)
            if new is not value:
                setattr(module, name, new)
    return convert(model)


def adapters(model: Module) -> dict[str, Adapter]:
    """Return the adapters in a model by name.

    >>> list(nn.lora.adapters(nn.lora.apply(nn.Sequential(nn.Linear(2, 2)))))
    ['0']
    """
    return {name: m for name, m in model.named_modules() if isinstance(m, Adapter)}


def parameters(model: Module) -> list[Parameter]:
    """Return what the adapters in a model train.

    >>> [p.shape for p in nn.lora.parameters(nn.lora.apply(nn.Sequential(nn.Linear(4, 2)), rank=1))]
    [(1, 4), (2, 1)]
    """
    return list(dict.fromkeys(p for m in adapters(model).values() for p in (m.lora_A, m.lora_B)))


def state_dict(model: Module) -> dict[str, Tensor]:
    """Return the values of the adapters alone, by name.

    >>> model = nn.lora.apply(nn.Sequential(nn.Linear(4, 2)), rank=1)
    >>> {name: value.shape for name, value in nn.lora.state_dict(model).items()}
    {'0.lora_A': (1, 4), '0.lora_B': (2, 1)}
    """
    names = {f"{name}.{part}".lstrip(".") for name in adapters(model) for part in ("lora_A", "lora_B")}
    return {name: value for name, value in state.state_dict(model).items() if name in names}


def load_state_dict(model: Module, values: Mapping[str, Any]) -> None:
    """Assign the values of the adapters, as `state_dict` gave them for a model adapted alike.

    Raises:
        StateError: names or shapes do not fit, or adapters are merged; then nothing is assigned.

    >>> make = lambda: nn.lora.apply(nn.Sequential(nn.Linear(4, 2)), rank=1)
    >>> model, other = make(), make()
    >>> nn.lora.load_state_dict(other, nn.lora.state_dict(model))
    """
    if values.keys() != state_dict(model).keys():
        wrong = sorted(values.keys() ^ state_dict(model).keys())
        raise StateError("lora.load_state_dict", "the adapters do not fit", received=", ".join(wrong))
    if any(m.merged for m in adapters(model).values()):
        raise StateError("lora.load_state_dict", "adapters are merged", fix="call nn.lora.unmerge(model) first")
    state.load_state_dict(model, values, strict=False)


def merge(model: Module) -> None:
    """Merge all adapters in a model into their layers: it computes the same, at the cost of the layers alone.

    Files that are saved then hold the sums; `unmerge` before saving to go on training.

    Raises:
        ArgumentError: the weight of an adapted layer is used elsewhere too, which would change as well.

    >>> model = nn.lora.apply(nn.Sequential(nn.Linear(4, 2)), rank=1)
    >>> nn.lora.merge(model)
    >>> model[0].merged
    True
    """
    uses = Counter(id(cell) for _, cell in model.named_cells())
    found = adapters(model)
    tied = [name for name, adapter in found.items() if uses[id(adapter.base.weight)] > 1]
    if tied:
        raise ArgumentError("lora.merge", "the weight of a layer is tied to another", received=", ".join(tied))
    for adapter in found.values():
        adapter.merge()


def unmerge(model: Module) -> None:
    """Undo `merge`, exactly.

    >>> model = nn.lora.apply(nn.Sequential(nn.Linear(4, 2)), rank=1)
    >>> before = model[0].base.weight.numpy()
    >>> nn.lora.merge(model)
    >>> nn.lora.unmerge(model)
    >>> bool((model[0].base.weight.numpy() == before).all())
    True
    """
    for adapter in adapters(model).values():
        adapter.unmerge()
