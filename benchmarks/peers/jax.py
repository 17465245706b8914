"""JAX: functions of a dictionary of parameters, channels-last; the whole step is one jitted function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, nn

TITLE = "JAX"
REQUIRES = ("jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8", "numpy==2.4.6")
MODES = ("jit",)
CACHES = ("JAX_COMPILATION_CACHE_DIR",)

Array = Any
Weights = dict[str, Array]
States = dict[str, Array]  # of batch norm

# --- layers, by the path of their weights -----------------------------------------------------------------------------


def linear(p: Weights, path: str, x: Array) -> Array:
    y = x @ p[f"{path}.weight"]
    return y + p[f"{path}.bias"] if f"{path}.bias" in p else y


def conv(p: Weights, path: str, x: Array, stride: int = 1, padding: int = 0) -> Array:
    names = ("NHWC", "HWIO", "NHWC") if x.ndim == 4 else ("NWC", "WIO", "NWC")
    n = x.ndim - 2
    y = lax.conv_general_dilated(
        x, p[f"{path}.weight"], (stride,) * n, [(padding, padding)] * n, dimension_numbers=names
    )
    return y + p[f"{path}.bias"] if f"{path}.bias" in p else y


def pool(x: Array) -> Array:
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def batch_norm(p: Weights, s: States, path: str, x: Array) -> Array:
    """Normalize by the statistics of the batch, and keep running ones in ``s`` as PyTorch does."""
    mean = x.mean((0, 1, 2))
    var = jnp.maximum((x * x).mean((0, 1, 2)) - mean * mean, 0)  # in one pass, as Flax does
    n = x.size // mean.size
    kept = s.get(path, jnp.stack([jnp.zeros_like(mean), jnp.ones_like(var)]))
    s[path] = 0.9 * kept + 0.1 * jnp.stack([mean, var * n / (n - 1)])
    return (x - mean) * (lax.rsqrt(var + 1e-5) * p[f"{path}.weight"]) + p[f"{path}.bias"]


def layer_norm(p: Weights, path: str, x: Array) -> Array:
    centered = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt((centered * centered).mean(-1, keepdims=True) + 1e-5)
    return centered * scale * p[f"{path}.weight"] + p[f"{path}.bias"]


def attention(q: Array, k: Array, v: Array, heads: int, causal: bool) -> Array:
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) / math.sqrt(q.shape[-1])
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    mixed = jnp.einsum("nhqk,nkhd->nqhd", nn.softmax(scores), v)
    return mixed.reshape(*mixed.shape[:2], -1)


def block(
    p: Weights,
    path: str,
    x: Array,
    causal: bool,
    activation: Callable[[Array], Array],
    heads: int,
    memory: Array = None,
) -> Array:
    """A layer of a transformer, normalizing first, which may look at a memory."""
    q, k, v = jnp.split(linear(p, f"{path}.qkv", layer_norm(p, f"{path}.norm1", x)), 3, -1)
    x = x + linear(p, f"{path}.out", attention(q, k, v, heads, causal))
    if memory is not None:
        q = linear(p, f"{path}.q", layer_norm(p, f"{path}.norm_q", x))
        k, v = jnp.split(linear(p, f"{path}.kv", memory), 2, -1)
        x = x + linear(p, f"{path}.looked", attention(q, k, v, heads, False))
    inner = activation(linear(p, f"{path}.up", layer_norm(p, f"{path}.norm2", x)))
    return x + linear(p, f"{path}.down", inner)


def recurrent(cell: Callable[..., Any], start: Any, p: Weights, suffix: str, x: Array, reverse: bool = False) -> Any:
    """Scan a cell over times, (T, N, C), after one product with all inputs: the last state, and all states."""
    given = x @ p[f"rnn.weight_ih{suffix}"] + p[f"rnn.bias_ih{suffix}"]
    weight, bias = p[f"rnn.weight_hh{suffix}"], p[f"rnn.bias_hh{suffix}"]
    return lax.scan(lambda state, gates: cell(state, gates, weight, bias), start, given, reverse=reverse)


def lstm_cell(state: Any, given: Array, weight: Array, bias: Array) -> Any:
    h, c = state
    i, f, g, o = jnp.split(given + h @ weight + bias, 4, -1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    h = nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru_cell(h: Array, given: Array, weight: Array, bias: Array) -> Any:
    (r, z, n), (r_h, z_h, n_h) = jnp.split(given, 3, -1), jnp.split(h @ weight + bias, 3, -1)
    z = nn.sigmoid(z + z_h)
    h = (1 - z) * jnp.tanh(n + nn.sigmoid(r + r_h) * n_h) + z * h
    return h, h


# --- models: weights, statistics, inputs -> result --------------------------------------------------------------------


def mlp(p: Weights, s: States, x: Array, sizes: list[int], activation: str) -> Array:
    last = len(sizes) - 2
    for i in range(last):
        x = getattr(nn, activation.lower())(linear(p, f"{2 * i}", x))
    return linear(p, f"{2 * last}", x)


def lenet(p: Weights, s: States, x: Array) -> Array:
    x = pool(nn.relu(conv(p, "3", pool(nn.relu(conv(p, "0", x))))))
    return linear(p, "9", nn.relu(linear(p, "7", x.reshape(x.shape[0], -1))))


def cats_and_dogs(p: Weights, s: States, x: Array) -> Array:
    for i in range(0, 20, 4):
        x = pool(nn.relu(batch_norm(p, s, f"{i + 1}", conv(p, f"{i}", x, padding=1))))
    return linear(p, "22", x.mean((1, 2)))


def resnet(p: Weights, s: States, x: Array, depth: int) -> Array:
    x = nn.relu(batch_norm(p, s, "1", conv(p, "0", x, padding=1)))
    count = (depth - 2) // 2
    for i in range(3, 3 + count):
        stride = 2 if f"{i}.shortcut.0.weight" in p else 1
        inner = nn.relu(batch_norm(p, s, f"{i}.norm1", conv(p, f"{i}.conv1", x, stride, 1)))
        inner = batch_norm(p, s, f"{i}.norm2", conv(p, f"{i}.conv2", inner, padding=1))
        if stride == 2:
            x = batch_norm(p, s, f"{i}.shortcut.1", conv(p, f"{i}.shortcut.0", x, 2))
        x = nn.relu(inner + x)
    return linear(p, f"{count + 5}", x.mean((1, 2)))


def series(p: Weights, s: States, x: Array) -> Array:
    zero = jnp.zeros((x.shape[0], 128))
    (h, _), _ = recurrent(lstm_cell, (zero, zero), p, "_l0", jnp.swapaxes(x, 0, 1))
    return linear(p, "head", h)


def language_model(p: Weights, s: States, x: Array, length: int, width: int, depth: int, heads: int) -> Array:
    h = p["characters.weight"][x] + p["places.weight"]
    for i in range(depth):
        h = block(p, f"blocks.{i}", h, True, functools.partial(nn.gelu, approximate=True), heads)
    return linear(p, "head", layer_norm(p, "norm", h))


def translator(p: Weights, s: States, sentence: Array, before: Array) -> Array:
    words = p["words.weight"]
    width = words.shape[1]
    angles = np.arange(32)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
    places = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(32, width).astype(np.float32)
    memory, h = (words[x] * math.sqrt(width) + places for x in (sentence, before))
    for i in range(3):
        memory = block(p, f"encoder.{i}", memory, False, nn.relu, 4)
    memory = layer_norm(p, "encoder_norm", memory)
    for i in range(3):
        h = block(p, f"decoder.{i}", h, True, nn.relu, 4, memory)
    return layer_norm(p, "decoder_norm", h) @ words.T


def speech(p: Weights, s: States, x: Array) -> Array:
    x = nn.relu(conv(p, "conv2", nn.relu(conv(p, "conv1", x, 2, 2)), 1, 2))
    x, zero = jnp.swapaxes(x, 0, 1), jnp.zeros((x.shape[0], 128))
    both = [recurrent(gru_cell, zero, p, f"_l0{suffix}", x, bool(suffix))[1] for suffix in ("", "_reverse")]
    return jnp.swapaxes(linear(p, "head", jnp.concatenate(both, -1)), 0, 1)


MODELS: dict[str, Callable[..., Array]] = {
    "mlp": mlp, "lenet": lenet, "resnet": resnet, "series": series, "language_model": language_model,
    "translator": translator, "speech": speech, "cats_and_dogs": cats_and_dogs,
}  # fmt: skip


# --- losses and optimizers --------------------------------------------------------------------------------------------


def ctc(scores: Array, target: Array) -> Array:
    """Each divided by its number of labels, as PyTorch does."""
    losses = optax.ctc_loss(scores, jnp.zeros(scores.shape[:2]), target, jnp.zeros(target.shape))
    return (losses / target.shape[1]).mean()


LOSSES: dict[str, Callable[[Array, Array], Array]] = {
    "cross_entropy": lambda x, y: -jnp.take_along_axis(nn.log_softmax(x), y[..., None], -1).mean(),
    "mse": lambda x, y: ((x - y) ** 2).mean(),
    "ctc": ctc,
}


def sgd(lr: float, momentum: float, weight_decay: float = 0.0) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.sgd(lr, momentum))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "Adam": lambda lr: optax.adam(lr), "AdamW": lambda lr, weight_decay: optax.adamw(lr, weight_decay=weight_decay),
    "SGD": sgd,
}  # fmt: skip


# --- the step ---------------------------------------------------------------------------------------------------------


def in_layout(weights: dict[str, np.ndarray], flattened: dict[str, list[int]]) -> Weights:
    """Weights with inputs before outputs and channels last: (O, I), (O, I, H, W) -> (I, O), (H, W, I, O)."""
    made = {}
    for path, value in weights.items():
        if path in flattened:
            value = np.moveaxis(value.reshape(-1, *flattened[path]), 1, -1).reshape(len(value), -1)
        embedding = path.split(".")[0] in ("characters", "places", "words")
        if value.ndim > 1 and not embedding:
            value = np.moveaxis(value, (0, 1), (-1, -2))
        made[path] = jnp.asarray(np.ascontiguousarray(value))
    return made


def build(job: Any, mode: str, threads: int) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    for name in ("min_compile_time_secs", "min_entry_size_bytes"):
        jax.config.update(f"jax_persistent_cache_{name}", 0)
    model = functools.partial(MODELS[job.how["model"]], **job.how["sizes"])
    loss_of = LOSSES[job.how["loss"]]
    kind, settings = job.how["optimizer"]
    optimizer = OPTIMIZERS[kind](**settings)
    data = [jnp.asarray(a) for a in job.data]

    def losses(p: Weights, s: States, *arguments: Array) -> tuple[Array, States]:
        *inputs, target = arguments
        s = dict(s)
        return loss_of(model(p, s, *inputs), target), s

    @functools.partial(jax.jit, donate_argnums=(0, 1, 2))
    def train(p: Weights, s: States, o: Any, *arguments: Array) -> Any:
        (loss, s), gradients = jax.value_and_grad(losses, has_aux=True)(p, s, *arguments)
        updates, o = optimizer.update(gradients, o, p)
        return (optax.apply_updates(p, updates), s, o), loss

    weights = in_layout(job.weights, job.how["flattened"])
    # The batch norms' states are the mean 0 and variance 1 of each: found by tracing, not by running.
    _, shapes = jax.eval_shape(losses, weights, {}, *data)
    states = {path: jnp.zeros(shape.shape).at[1].set(1) for path, shape in shapes.items()}
    state = weights, states, jax.jit(optimizer.init)(weights)

    def step() -> Array:
        nonlocal state
        state, loss = train(*state, *data)
        return loss

    return step, float
