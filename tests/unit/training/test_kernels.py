"""Kernels give what torch gives, but for rounding."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from models.families import FAMILIES, adapted, wide
from tunesmith.training import kernels as compiled
from tunesmith.training.attention import blocks
from tunesmith.training.examples import micro_batch_of
from tunesmith.training.kernels import Found, Kernels, Results, paired
from tunesmith.training.packed import pack

CPU = torch.device("cpu")
TOKENS, WIDTH, RANKS = 13, 64, 6
"""Tokens that are no multiple of what is worked on together, and ranks that are not either."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def fast() -> Kernels:
    found = compiled.found()
    if found == Found():
        pytest.skip("this processor has no AVX-512 for bf16")
    assert found.kernels is not None, found.lacking
    return found.kernels


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.bfloat16)


def assert_rounded(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Expect `found`, bf16, to be `wanted` with one rounding; a last place may be another one."""
    assert found.dtype is torch.bfloat16
    assert torch.allclose(found.float(), wanted.float(), rtol=2**-8, atol=1e-6)
    assert (found == rounded(wanted)).float().mean() > 0.97


class Layers:
    """Gate and up as a product has left them, the first with a bias and both with adapters."""

    def __init__(self) -> None:
        self.rows = rounded(torch.randn(TOKENS, 2 * WIDTH + 2 * RANKS))
        self.seconds = rounded(torch.randn(2, RANKS, WIDTH)).float()
        self.bias = torch.randn(WIDTH)
        inner = self.rows[:, 2 * WIDTH :]
        self.gate = Results(self.rows[:, :WIDTH], inner[:, :RANKS], self._second(0), self.bias)
        up = self.rows[:, WIDTH : 2 * WIDTH]
        self.up = Results(up, inner[:, RANKS:], self._second(1), bias=None)

    def _second(self, number: int) -> torch.Tensor:
        return paired(self.seconds[number].t() / 2, 2.0)

    def plain(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both in fp32, as torch makes them."""
        whole = self.rows.float()
        inner = whole[:, 2 * WIDTH :]
        gate = whole[:, :WIDTH] + inner[:, :RANKS] @ self.seconds[0] + self.bias
        return gate, whole[:, WIDTH : 2 * WIDTH] + inner[:, RANKS:] @ self.seconds[1]


def test_a_layer_is_its_frozen_result_its_bias_and_what_its_adapter_adds(fast: Kernels) -> None:
    layers, made = Layers(), torch.zeros(TOKENS, 2 * WIDTH)
    fast.complete(layers.gate, into=made[:, :WIDTH])
    fast.complete(layers.up, into=made[:, WIDTH:])
    assert torch.allclose(made, torch.cat(layers.plain(), dim=1), atol=1e-5)


def test_a_layer_without_an_adapter_is_its_frozen_result(fast: Kernels) -> None:
    frozen, made = rounded(torch.randn(TOKENS, WIDTH)), torch.zeros(TOKENS, WIDTH)
    fast.complete(Results(frozen, None, None, None), into=made)
    assert torch.equal(made, frozen.float())


@pytest.mark.parametrize("gelu", [False, True])
def test_gate_and_up_are_joined_and_their_gradients_are_torchs(
    fast: Kernels, *, gelu: bool
) -> None:
    activation = partial(functional.gelu, approximate="tanh") if gelu else functional.silu
    layers, between = Layers(), rounded(torch.zeros(TOKENS, WIDTH))
    # In double: of a small gate, torch's gelu in fp32 keeps few places.
    gate, up = (each.double().requires_grad_() for each in layers.plain())
    wanted = activation(gate) * up
    gradient = rounded(torch.randn(TOKENS, WIDTH))
    torch.autograd.backward(wanted, gradient.double())
    assert gate.grad is not None
    assert up.grad is not None

    fast.gated(layers.gate, layers.up, gelu=gelu, between=between)
    assert_rounded(between, wanted.detach())

    into = rounded(torch.zeros(TOKENS, 2 * WIDTH + RANKS))
    again = torch.empty_like(between)
    given = {"between": again, "gradient": gradient, "into": into}
    fast.gated_back(layers.gate, layers.up, gelu=gelu, **given)
    assert torch.equal(again, between)
    assert_rounded(into[:, :WIDTH], gate.grad)
    assert_rounded(into[:, WIDTH : 2 * WIDTH], up.grad)
    assert not into[:, 2 * WIDTH :].any()


def test_large_gates_stay_what_they_are_and_infinite_ones_no_finite_number(fast: Kernels) -> None:
    values = [0.0, -0.0, 200.0, -200.0, 30.0, -30.0, torch.inf, -torch.inf]
    gate = rounded(torch.tensor([values * 2]))
    between, up = torch.empty_like(gate), Results(torch.ones_like(gate), None, None, None)
    fast.gated(Results(gate, None, None, None), up, gelu=False, between=between)
    wanted = functional.silu(gate.float())
    assert torch.allclose(between[0, :6].float(), wanted[0, :6], rtol=2**-8, atol=1e-30)
    assert not between[0, 6:8].isfinite().any()


def test_what_is_no_number_stays_none(fast: Kernels) -> None:
    states = torch.full((2, 1, 16), torch.nan)
    # All bits of the fraction set: rounding must not carry over.
    states.view(torch.int32)[1] = 0x7FFFFFFF
    laid = rounded(torch.zeros(1, 1, 2, 16))
    fast.aside(states, tokens=torch.tensor([0, 1]), into=laid, absent=None)
    assert laid.isnan().all()
    normed, _ = fast.norm(states, scale=torch.ones(16), epsilon=1e-5)
    assert normed.isnan().all()
    weights = rounded(torch.zeros(1, 2, 2))
    fast.weigh(laid[:, 0, :, :2], weights, scale=1.0, queries=(0, 2), window=None)
    assert weights[0, 1].isnan().all()
    losses, _ = fast.losses(laid[0, 0].clone(), torch.tensor([0, 1]), bias=None, learning=False)
    assert losses.isnan().all()


def test_a_norm_and_its_gradient_are_torchs(fast: Kernels) -> None:
    states = torch.randn(1, TOKENS, WIDTH, requires_grad=True)
    scale, gradient = torch.randn(WIDTH), torch.randn(1, TOKENS, WIDTH)
    wanted = functional.rms_norm(states, (WIDTH,), scale, eps=1e-5)
    torch.autograd.backward(wanted, gradient)

    made, inverse = fast.norm(states.detach(), scale=scale, epsilon=1e-5)
    back = fast.norm_back(gradient, states.detach(), scale=scale, inverse=inverse)

    assert torch.allclose(made, wanted, atol=1e-5)
    assert states.grad is not None
    assert torch.allclose(back, states.grad, atol=1e-5)


def test_halves_are_turned_and_turned_back(fast: Kernels) -> None:
    states = torch.randn(1, TOKENS, 3, WIDTH).transpose(1, 2)
    angles = torch.randn(TOKENS, WIDTH // 2).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()
    low, high = states.chunk(2, dim=-1)
    wanted = states * cos + torch.cat([-high, low], dim=-1) * sin

    turned = fast.turn(states, cos=cos, sin=sin, sign=1.0)

    assert torch.allclose(turned, wanted, atol=1e-6)
    assert torch.allclose(fast.turn(turned, cos=cos, sin=sin, sign=-1.0), states, atol=1e-6)


@pytest.mark.parametrize("window", [None, 3, 40])
@pytest.mark.parametrize("longest", [1, 7, 16, 33, 200])
def test_a_query_weighs_the_keys_up_to_its_own_place(
    fast: Kernels, longest: int, window: int | None
) -> None:
    for begin, end in blocks(longest):
        queries, keys = torch.arange(begin, end)[:, None], torch.arange(end)
        hidden = keys > queries
        if window is not None:
            hidden |= keys <= queries - window
        scores = rounded(4 * torch.randn(3, 2 * (end - begin), end))
        apart = scores.view(3, 2, end - begin, end).float() / 8
        wanted = torch.softmax(apart.masked_fill(hidden, -torch.inf), dim=-1).view_as(scores)

        made = torch.full_like(scores, torch.nan)
        fast.weigh(scores, made, scale=1 / 8, queries=(begin, end), window=window)

        assert_rounded(made, wanted)
        assert not made.view(3, 2, end - begin, end)[:, :, hidden].any()


def test_texts_are_laid_aside_with_their_heads_apart(fast: Kernels) -> None:
    states = torch.randn(2, 6, 32).transpose(0, 1)
    tokens = torch.tensor([0, 1, 2, 2, 3, 4, 5, 5])
    absent = torch.tensor([False] * 3 + [True] + [False] * 4)
    wanted = rounded(states[tokens].view(2, 4, 2, 32).transpose(1, 2))

    made = torch.empty(2, 2, 4, 32, dtype=torch.bfloat16)
    fast.aside(states, tokens=tokens, into=made, absent=None)
    assert torch.equal(made, wanted)

    fast.aside(states, tokens=tokens, into=made, absent=absent)
    assert not made[0, :, 3].any()
    assert torch.equal(made[1], wanted[1])


@pytest.mark.parametrize("words", [16, 101, 1024])
@pytest.mark.parametrize("biased", [False, True])
def test_losses_and_their_gradients_are_torchs(fast: Kernels, words: int, *, biased: bool) -> None:
    logits, wanted = rounded(3 * torch.randn(9, words)), torch.randint(words, (9,))
    wanted[1] = words - 1
    bias = torch.randn(words) if biased else None
    plain = logits.float() + (bias if bias is not None else 0.0)
    slopes = torch.softmax(plain, dim=1)
    slopes[torch.arange(9), wanted] -= 1.0

    made = logits.clone()
    losses, foreseen = fast.losses(made, wanted, bias=bias, learning=False)
    assert torch.allclose(losses, functional.cross_entropy(plain, wanted, reduction="none"))
    assert torch.equal(foreseen, plain.argmax(dim=1) == wanted)
    assert torch.equal(made, logits)

    again, _ = fast.losses(made, wanted, bias=bias, learning=True)
    assert torch.equal(again, losses)
    assert_rounded(made, slopes)


def test_a_word_that_the_head_has_not_is_refused(fast: Kernels) -> None:
    with pytest.raises(IndexError, match="40 words, not 41"):
        fast.losses(rounded(torch.zeros(1, 40)), torch.tensor([40]), bias=None, learning=False)


def test_of_words_with_the_same_logit_the_first_was_foreseen(fast: Kernels) -> None:
    logits = rounded(torch.zeros(2, 40))
    logits[:, [7, 30]] = 5.0
    _, foreseen = fast.losses(logits, torch.tensor([7, 30]), bias=None, learning=False)
    assert foreseen.tolist() == [True, False]


def test_as_many_threads_as_there_are_give_the_same_bits(fast: Kernels) -> None:
    states, scale = torch.randn(1, 301, WIDTH), torch.randn(WIDTH)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(fast.norm(states, scale=scale, epsilon=1e-5)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_only_products_of_bf16_on_the_processor_have_kernels(dtype: torch.dtype) -> None:
    assert compiled.kernels(dtype, CPU) is None
    assert compiled.kernels(torch.bfloat16, torch.device("meta")) is None


EVERYWHERE = {"complete", "weigh", "aside", "losses"}
GATED = {"gated", "gated_back"}
NORMED = {"norm", "norm_back"}
USED = {
    "llama": EVERYWHERE | GATED | NORMED | {"turn"},
    "smollm2": EVERYWHERE | GATED | NORMED,
    "qwen2": EVERYWHERE | GATED | NORMED | {"turn"},
    "qwen3": EVERYWHERE | GATED | NORMED | {"turn"},
    "mistral": EVERYWHERE | GATED | NORMED | {"turn"},
    "gemma3": EVERYWHERE | GATED | NORMED | {"turn"},
    "phi": EVERYWHERE,
    "phi3": EVERYWHERE | GATED | NORMED | {"turn"},
    "gpt2": EVERYWHERE,
    "opt": EVERYWHERE,
}
"""What each family has kernels for: Phi turns but a part of 16 numbers, SmolLM2's heads are too
narrow here, the last two have norms of another kind, and none of Phi and them has gates."""


def learnt(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return losses and the adapter's gradient of a random model of the family `name`."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(wide(FAMILIES[name](300)), dtype=torch.float32)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data.normal_(std=0.07)
    model = adapted(model.to(dtype), rank=4)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.data = weight.data.float()
    network = pack(model, dtype)
    drawn = torch.Generator().manual_seed(3)
    texts = [torch.randint(300, (length,), generator=drawn) for length in (19, 3, 11, 1, 140)]
    # They begin alike, so that some places of the texts are no token's own.
    texts[2][:8] = texts[4][:8] = texts[0][:8]
    batch = micro_batch_of(texts)
    losses = network.losses(batch, batch.learn.nonzero().squeeze(1))[0]
    torch.autograd.backward(losses.mean())
    found = [weight.grad.flatten() for weight in trained if weight.grad is not None]
    return losses.detach(), torch.cat(found)


@pytest.mark.parametrize("name", USED)
def test_models_learn_with_kernels_as_exactly_as_without(
    fast: Kernels, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, call = set[str](), Kernels._call

    def noting(self: Kernels, function: str, *given: Any) -> None:
        used.add(function)
        call(self, function, *given)

    monkeypatch.setattr(Kernels, "_call", noting)
    # The weights of the longest text are made anew on the way back.
    monkeypatch.setattr("tunesmith.training.attention._LONGEST_KEPT", 100)
    losses, gradient = learnt(name, torch.bfloat16)
    assert used == USED[name]
    monkeypatch.setattr(compiled, "found", Found)
    plain_losses, plain_gradient = learnt(name, torch.bfloat16)
    exact_losses, exact_gradient = learnt(name, torch.float32)

    wrong, plainly = (each - exact_gradient for each in (gradient, plain_gradient))
    assert float(wrong.norm()) < 1.2 * float(plainly.norm())
    assert float(wrong.norm()) < 0.1 * float(exact_gradient.norm())
    off, plainly_off = (each - exact_losses for each in (losses, plain_losses))
    assert float(off.abs().mean()) < 1.2 * float(plainly_off.abs().mean()) + 1e-4
