from collections.abc import Callable
from pathlib import Path

import torch

from rl.logprobs import scatter, token_logprobs, trained_positions
from rl.models import Role, load_model
from rl.sample import Sample, pad


def test_selected_logprobs_equal_the_full_computation(
    tiny_model_path: Path, make_samples: Callable[..., list[Sample]]
) -> None:
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32)
    batch = pad(make_samples(4))
    outputs = model(batch.token_ids, batch.loss_mask)
    everything = model.model(batch.token_ids).logits.log_softmax(-1)  # [B, T, V]
    expected = everything[:, :-1].gather(2, batch.token_ids[:, 1:, None]).squeeze(2)
    entropy = -(everything.exp() * everything).sum(-1)[:, :-1]
    mask = batch.loss_mask[:, 1:]
    torch.testing.assert_close(outputs["logprobs"][:, 1:][mask], expected[mask])
    torch.testing.assert_close(outputs["entropy"][:, 1:][mask], entropy[mask])
    assert not outputs["logprobs"][~batch.loss_mask].any()


def test_padding_and_neighbours_do_not_change_logprobs(
    tiny_model_path: Path, make_samples: Callable[..., list[Sample]]
) -> None:
    model = load_model(tiny_model_path, Role(name="policy"), dtype=torch.float32)
    samples = make_samples(5)
    together = pad(samples)
    rows = model(together.token_ids, together.loss_mask)["logprobs"]
    for row, sample in enumerate(samples):
        alone = pad([sample])
        single = model(alone.token_ids, alone.loss_mask)["logprobs"][0, : len(sample)]
        torch.testing.assert_close(rows[row, : len(sample)], single, atol=1e-6, rtol=1e-5)


def test_gradients_of_logprobs_and_entropy_are_exact() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 11, requires_grad=True)
    token_ids = torch.randint(0, 11, (6,))
    weights, entropy_weights = torch.randn(6), torch.randn(6)
    logprobs, entropy = token_logprobs(logits, token_ids)
    (gradient,) = torch.autograd.grad((logprobs * weights + entropy * entropy_weights).sum(), logits)
    everything = logits.log_softmax(-1)
    expected_loss = (
        everything[range(6), token_ids] @ weights - (everything.exp() * everything).sum(-1) @ entropy_weights
    )
    (expected,) = torch.autograd.grad(expected_loss, logits)
    torch.testing.assert_close(gradient, expected)
    (gradient,) = torch.autograd.grad(token_logprobs(logits, token_ids)[0].sum(), logits)
    (expected,) = torch.autograd.grad(logits.log_softmax(-1)[range(6), token_ids].sum(), logits)
    torch.testing.assert_close(gradient, expected)


def test_logprobs_of_bf16_logits_are_fp32() -> None:
    logits = torch.randn(3, 50, dtype=torch.bfloat16)
    logprobs, entropy = token_logprobs(logits, torch.tensor([1, 2, 3]))
    assert logprobs.dtype == entropy.dtype == torch.float32
    torch.testing.assert_close(logprobs, logits.float().log_softmax(-1)[range(3), [1, 2, 3]])


def test_scatter_puts_values_at_their_tokens() -> None:
    mask = torch.tensor([[False, True, False], [False, False, True]])
    positions = trained_positions(mask)
    assert scatter(torch.tensor([1.0, 2.0]), positions, mask.shape).tolist() == [[0, 1, 0], [0, 0, 2]]
