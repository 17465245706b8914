"""Language models: drawing tokens, generation and translation with and without what is kept of earlier tokens."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from chainrule.nn import models

sys.path.append(str(Path(__file__).parents[1] / "compiler"))
import both_modes

# --- drawing ----------------------------------------------------------------------------------------------


def drawn(scores, **how):
    """How often each class is drawn, out of 4000."""
    many = cr.asarray(np.tile(scores, (4000, 1)))
    return np.bincount(models.sample(many, **how, generator=cr.Generator(1)).numpy(), minlength=len(scores)) / 4000


def test_classes_are_drawn_by_their_probabilities():
    p = np.array([0.05, 0.5, 0.15, 0.3])
    scores = np.log(p)
    np.testing.assert_allclose(drawn(scores), p, atol=0.03)
    np.testing.assert_allclose(drawn(scores, temperature=0.5), p**2 / (p**2).sum(), atol=0.03)
    np.testing.assert_allclose(drawn(scores, top_k=2), [0, 0.625, 0, 0.375], atol=0.03)
    np.testing.assert_allclose(drawn(scores, top_p=0.7), [0, 0.625, 0, 0.375], atol=0.03)
    np.testing.assert_allclose(drawn(scores, top_p=0.9), np.array([0, 0.5, 0.15, 0.3]) / 0.95, atol=0.03)
    np.testing.assert_allclose(drawn(scores, top_k=3, top_p=0.01), [0, 1, 0, 0])
    for greedy in ({"temperature": 0.0}, {"temperature": 1e-30}, {"top_k": 1}):
        np.testing.assert_array_equal(drawn(scores, **greedy), [0, 1, 0, 0])
    np.testing.assert_allclose(drawn([-np.inf, 0.0, 0.0, -np.inf]), [0, 0.5, 0.5, 0], atol=0.03)


def test_draws_have_a_shape_and_limits():
    assert models.sample(cr.zeros((2, 3, 5))).shape == (2, 3)
    for wrong in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ArgumentError, match="temperature is 0 or more"):
            models.sample(cr.zeros((2, 3)), **wrong)


# --- one language ----------------------------------------------------------------------------------------


def language_model(rotary=False):
    cr.manual_seed(5)
    model = models.GPT(11, 16, width=12, depth=2, heads=3, dropout=0.5, rotary=rotary).double().eval()
    for p in model.parameters():  # far from the small numbers of the start, so that tokens differ
        p.assign(p * 8)
    return model


PROMPT = cr.asarray(np.array([[1, 2, 3], [9, 4, 6]]))


@pytest.mark.parametrize("rotary", [False, True])
def test_generation_with_kept_keys_is_that_without(rotary):
    model = language_model(rotary)
    found = model.generate(PROMPT, 12, temperature=0.0)
    x = PROMPT
    for _ in range(12):
        x = cr.concat([x, cr.argmax(model(x)[:, -1], axis=-1)[:, None]], axis=1)
    np.testing.assert_array_equal(found.numpy(), x.numpy())
    assert len(set(found.numpy().ravel().tolist())) > 3


@pytest.mark.parametrize("rotary", [False, True])
def test_one_program_steps_through_all_positions(rotary):
    model = language_model(rotary)
    text = cr.asarray(np.random.default_rng(0).integers(0, 11, (2, 9)))
    caches = model.caches(2)

    @cr.compile
    def step(tokens):
        with cr.no_grad():
            return model(tokens, caches)

    found = [step(text[:, :4]), *(step(text[:, t : t + 1]) for t in range(4, 9))]
    np.testing.assert_allclose(cr.concat(found, axis=1).numpy(), model(text).numpy(), atol=1e-11)
    assert int(caches[-1].length) == 9
    assert len(step.programs) == 2


def test_generation_compiled_draws_the_same():
    model = language_model()
    how = {"temperature": 0.9, "top_k": 6, "top_p": 0.9}
    results = []
    for wrap in (lambda g: g, cr.compile):
        generator = cr.Generator(4)

        def generate(prompt, generator=generator):
            return model.generate(prompt, 8, **how, generator=generator)

        results.append([wrap(generate)(PROMPT).numpy() for _ in range(2)])
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0][0], results[0][1])


def test_gpt_has_the_size_of_gpt2_and_one_table():
    assert sum(p.size for p in models.GPT(50257, 1024, 768, 12, 12).parameters()) == 124_439_808
    model = models.GPT(7, 8, width=6, depth=1, heads=2)
    names = [name for name, _ in model.named_parameters()]
    assert sum(name.startswith("tokens") for name in names) == 1
    model.eval()
    early = model(cr.tensor([[1, 2, 3, 4]]))[:, :2]
    np.testing.assert_allclose(model(cr.tensor([[1, 2, 6, 5]]))[:, :2].numpy(), early.numpy(), atol=1e-6)


def test_what_a_language_model_cannot_read():
    model = models.GPT(7, 8, width=6, depth=1, heads=2)
    with pytest.raises(ShapeError, match=r"the context is 8 tokens.*9 tokens"):
        model(cr.zeros((1, 9), "int64"))
    with pytest.raises(ShapeError, match=r"the context is 8 tokens.*10 tokens"):
        model.generate(cr.zeros((1, 4), "int64"), 6)
    with pytest.raises(ShapeError, match=r"tokens \(N, T\)"):
        model(cr.zeros((4,), "int64"))
    with pytest.raises(DTypeError, match="whole numbers"):
        model(cr.zeros((1, 4)))
    with pytest.raises(ArgumentError, match="a token or more"):
        model.generate(cr.zeros((1, 0), "int64"), 2)
    with pytest.raises(ArgumentError, match="temperature"):
        model.generate(cr.zeros((1, 2), "int64"), 2, temperature=-1.0)
    with pytest.raises(IndexOutOfRangeError, match="room for 3 tokens"):
        model(cr.zeros((1, 4), "int64"), model.caches(1, 3))
    with pytest.raises(ArgumentError, match="must divide"):
        models.GPT(7, 8, width=6, depth=1, heads=4)
    with pytest.raises(ArgumentError, match="depth is 1"):
        models.GPT(7, 8, depth=0)
    dropping = models.GPT(7, 8, width=6, depth=1, heads=2, dropout=0.1)
    with pytest.raises(ArgumentError, match=r"dropout would disturb.*model.eval\(\)"):
        dropping.generate(cr.tensor([[1]]), 1)
    assert model.generate(cr.tensor([[1, 2]]), 0).shape == (1, 2)
    assert model.generate(cr.tensor([[1, 2]]), 1).shape == (1, 3)


# --- translation ------------------------------------------------------------------------------------------

SOURCE = cr.asarray(np.array([[3, 4, 5, 6, 2], [7, 8, 2, 0, 0], [5, 2, 0, 0, 0]]))
START, END = 1, 2


def translator(scale=1.5):
    cr.manual_seed(1)
    model = models.Seq2SeqTransformer(9, None, 12, 2, 2).double().eval()
    for p in model.parameters():
        p.assign(p * scale)
    return model


def log_p(model, source, tokens):
    """The logarithm of the probability of tokens up to the end, the padding left out of what may come."""
    given = cr.asarray(np.array([[START, *tokens[:-1]]]))
    scores = model(source[None], given).numpy()[0].copy()
    scores[:, 0] = -np.inf
    scores = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    return sum(row[token] for row, token in zip(scores, tokens, strict=True))


def without_padding(tokens):
    tokens = [int(t) for t in tokens]
    return tokens[: tokens.index(END) + 1] if END in tokens else tokens


def test_greedy_translation_by_whole_passes():
    model = translator()
    found = model.greedy(SOURCE, START, END, 7).numpy()
    for source, tokens in zip(SOURCE, found, strict=True):
        wanted = [START]
        while len(wanted) < 8 and wanted[-1] != END:
            scores = model(source[None], cr.asarray(np.array([wanted]))).numpy()[0, -1].copy()
            scores[0] = -np.inf
            wanted.append(int(scores.argmax()))
        np.testing.assert_array_equal(tokens, wanted[1:] + [0] * (8 - len(wanted)))
    beam, _ = model.beam_search(SOURCE, START, END, 7, width=1)
    np.testing.assert_array_equal(beam[:, 0].numpy(), found)


def test_beams_are_ordered_by_their_probabilities():
    model = translator()
    beams, scores = model.beam_search(SOURCE, START, END, 5, width=4, length_penalty=0.6)
    lengths = set()
    for source, rows, values in zip(SOURCE, beams.numpy(), scores.numpy(), strict=True):
        assert len({tuple(row) for row in rows.tolist()}) == 4
        assert sorted(values, reverse=True) == values.tolist()
        for row, value in zip(rows, values, strict=True):
            tokens = without_padding(row)
            assert not row[len(tokens) :].any()
            lengths.add(len(tokens))
            np.testing.assert_allclose(
                value, log_p(model, source, tokens) / ((5 + len(tokens)) / 6) ** 0.6, rtol=1e-9, atol=1e-12
            )
    assert len(lengths) > 1


def test_wide_beams_find_the_most_probable_of_all():
    model = translator()
    beams, scores = model.beam_search(SOURCE[:1], START, END, 2, width=8, length_penalty=0.0)
    every = [[END], *([a, b] for a in (1, *range(3, 9)) for b in range(1, 9))]
    values = {tuple(tokens): log_p(model, SOURCE[0], tokens) for tokens in every}
    best = max(values, key=values.get)
    assert tuple(without_padding(beams.numpy()[0, 0])) == best
    np.testing.assert_allclose(float(scores[0, 0]), values[best], rtol=1e-9)


def test_translation_compiled_is_the_same():
    model = translator()
    for decode in (lambda x: model.beam_search(x, START, END, 6, 3), lambda x: model.greedy(x, START, END, 6)):
        both_modes.same(decode(SOURCE), cr.compile(decode)(SOURCE))


def test_padding_of_the_source_has_no_influence():
    model = translator()
    target = cr.tensor([[1, 5, 6]])
    np.testing.assert_allclose(model(SOURCE[1:2], target).numpy(), model(SOURCE[1:2, :3], target).numpy(), atol=1e-12)


def test_what_cannot_be_translated():
    model = models.Seq2SeqTransformer(9, None, 6, 1, 2, dropout=0.0)
    with pytest.raises(ArgumentError, match="width is 1 to 8"):
        model.beam_search(SOURCE, START, END, 5, width=9)
    with pytest.raises(ArgumentError, match="not padding"):
        model.greedy(SOURCE, START, 0, 5)
    with pytest.raises(ArgumentError, match="tokens below 9"):
        model.greedy(SOURCE, START, 9, 5)
    with pytest.raises(ArgumentError, match="dropout"):
        models.Seq2SeqTransformer(9, None, 6, 1, 2).greedy(SOURCE, START, END, 5)
    with pytest.raises(ArgumentError, match="depth is 1"):
        models.Seq2SeqTransformer(9, depth=0)
    with pytest.raises(DTypeError, match="whole numbers"):
        model(cr.zeros((1, 3)), SOURCE)
