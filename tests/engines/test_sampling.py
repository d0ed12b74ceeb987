"""Sampling of one token."""

import torch

from synpro.engines.cpu.sampling import TOP, sample, uniforms


def reference(logits: torch.Tensor, u: float, temperature: float, top_p: float) -> int:
    """The definition, one row, one token at a time."""
    probabilities = (logits.double() / temperature).softmax(-1)
    order = sorted(range(len(logits)), key=lambda i: -float(probabilities[i]))
    kept, total = [], 0.0
    for i in order:
        if total >= top_p:
            break
        kept.append(i)
        total += float(probabilities[i])
    below = 0.0
    for i in kept:
        below += float(probabilities[i])
        if below > u * total:
            return i
    return kept[-1]


def test_agrees_with_the_definition_on_sharp_and_on_flat_rows() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(40, 3000, generator=generator) * torch.linspace(0.01, 8, 40)[:, None]
    u = torch.rand(40, generator=generator, dtype=torch.float64)
    for top_p in (0.1, 0.5, 0.9, 0.99):
        got = sample(logits, u, 0.7, top_p).tolist()
        want = [reference(row, float(x), 0.7, top_p) for row, x in zip(logits, u, strict=True)]
        # fp32 against double: a draw within rounding of a boundary may land on its neighbour
        assert sum(a != b for a, b in zip(got, want, strict=True)) <= 1


def test_a_flat_row_is_wider_than_the_first_look() -> None:
    logits = torch.zeros(1, 4 * TOP)
    chosen = sample(logits, torch.tensor([0.999], dtype=torch.float64), 1.0, 0.9)
    assert int(chosen) >= TOP
    assert int(chosen) < 0.9 * 4 * TOP + 1


def test_the_ends_of_the_interval_never_choose_an_impossible_token() -> None:
    logits = torch.tensor([[-float("inf"), 0.0, 0.0, -float("inf")]])
    for top_p in (0.9, 1.0):
        for u in (0.0, 1.0 - 2**-53):
            assert int(sample(logits, torch.tensor([u], dtype=torch.float64), 1.0, top_p)) in (1, 2)


def test_frequencies_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(20000, 4)
    u = uniforms(0, [1, 2], 0, 20000)
    shares = torch.bincount(sample(logits, u, 1.0, 0.9), minlength=4) / 20000
    want = torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95
    assert torch.allclose(shares, want, atol=0.015)


def test_zero_temperature_is_greedy() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(0))
    assert sample(logits, torch.full((5,), 0.5), 0, 0.9).tolist() == logits.argmax(-1).tolist()


def test_streams_depend_on_seed_prompt_and_index_only() -> None:
    one = uniforms(3, [5, 6, 7], 1, 8)
    assert torch.equal(one, uniforms(3, [5, 6, 7], 1, 8))
    assert torch.equal(one[:4], uniforms(3, [5, 6, 7], 1, 4))
    for other in (uniforms(4, [5, 6, 7], 1, 8), uniforms(3, [5, 6, 8], 1, 8), uniforms(3, [5, 6, 7], 2, 8)):
        assert not torch.equal(one, other)
