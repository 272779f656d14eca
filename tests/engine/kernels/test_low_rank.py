"""The fused LoRA layer computes the same as PEFT's layer."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from tuneoff.engine.kernels.low_rank import DropoutPool, fuse_lora_layers
from tuneoff.engine.parallel import MicroBatchPart, micro_batch_index, part_of_micro_batch


class Net(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.first = nn.Linear(24, 40, bias=bias)
        self.second = nn.Linear(40, 8, bias=bias)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def pair(bias: bool, dropout: float = 0.0):
    """The same network with PEFT's layers and with fused layers, and the dropout masks of the latter."""
    nets = []
    for _ in range(2):
        torch.manual_seed(0)
        net = get_peft_model(Net(bias), LoraConfig(r=4, target_modules=["first", "second"], lora_dropout=dropout))
        for name, parameter in net.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter)
        nets.append(net)
    return nets[0], nets[1], fuse_lora_layers(nets[1], dropout, seed=0)


@pytest.mark.parametrize("bias", [True, False])
def test_output_and_every_gradient_equal_peft(bias: bool) -> None:
    theirs, ours, _ = pair(bias)
    x = torch.randn(3, 5, 24)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [net(value) for net, value in zip((theirs, ours), inputs, strict=True)]
    torch.testing.assert_close(outputs[1], outputs[0])
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    for (name, one), other in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad)


def test_gradients_are_right_under_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared with plain operations on the same masks."""
    _, ours, pool = pair(True, dropout=0.3)
    ours.train()
    x = torch.randn(6, 24, dtype=torch.float32)

    def reference(masks):
        layers = [ours.base_model.model.first, ours.base_model.model.second]
        hidden = x
        for layer, mask in zip(layers, masks, strict=True):
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            base = nn.functional.linear(hidden, layer.base_layer.weight, layer.base_layer.bias)
            out = base + (hidden * mask) @ a.T @ b.T * layer.scaling["default"]
            hidden = torch.tanh(out)
        return out

    drawn = []
    draw = pool.mask

    def recorded(like):
        drawn.append(draw(like))
        return drawn[-1]

    monkeypatch.setattr(pool, "mask", recorded)
    output = ours(x)
    masks = list(drawn)
    expected = reference(masks)
    torch.testing.assert_close(output, expected)
    trained = [parameter for parameter in ours.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(output.square().sum(), trained)
    wanted = torch.autograd.grad(expected.square().sum(), trained)
    for one, other in zip(found, wanted, strict=True):
        # A few roundings of fp32 of the largest terms: a gradient is a sum in which terms cancel.
        torch.testing.assert_close(one, other, rtol=1.3e-6, atol=1e-6 * float(other.abs().max()))


def test_evaluation_mode_drops_nothing() -> None:
    theirs, ours, _ = pair(True, dropout=0.5)
    theirs.eval()
    ours.eval()
    x = torch.randn(4, 24)
    torch.testing.assert_close(ours(x), theirs(x))


def test_switching_the_adapter_off_and_merging_still_work() -> None:
    theirs, ours, _ = pair(True)
    x = torch.randn(4, 24)
    with theirs.disable_adapter(), ours.disable_adapter():
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.merge_and_unload()(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_masks_have_the_right_mean_and_dropout_rate() -> None:
    pool = DropoutPool(0.1, seed=0)
    factors = pool.mask(torch.empty(1000, 500))
    assert factors.unique().tolist() == pytest.approx([0.0, 1 / 0.9])
    # 500,000 draws: the standard error of the rate is 0.0004
    assert float((factors == 0).float().mean()) == pytest.approx(0.1, abs=0.002)
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.002)


def test_masks_depend_on_step_and_seed() -> None:
    def drawn(seed):
        pool = DropoutPool(0.5, seed)
        like = torch.empty(50, 50)
        first = pool.mask(like).clone()
        pool.next_step()
        return first, pool.mask(like).clone()

    first, second = drawn(0)
    again, other = drawn(0), drawn(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, other[0])


def test_a_trainable_bias_gets_its_gradient() -> None:
    net = get_peft_model(Net(bias=True), LoraConfig(r=4, target_modules=["first", "second"], bias="all"))
    fuse_lora_layers(net, 0.0, seed=0)
    net(torch.randn(3, 24)).square().sum().backward()
    trained = {name: parameter.grad for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert sum("bias" in name for name in trained) == 2
    assert all(gradient is not None for gradient in trained.values())


def test_bits_are_draws_of_a_step_and_a_micro_batch() -> None:
    pool, like, found = DropoutPool(0.3, seed=4), torch.zeros(50, 64), []
    for step, index in ((0, 0), (0, 1), (1, 0)):
        again = DropoutPool(0.3, seed=4)
        for one in (pool, again) if step == 0 else (pool,):
            one._step = step
            with micro_batch_index(index):
                bits = one.kept(like)
                assert not torch.equal(one.kept(like), bits)  # another layer
        found.append(bits)
        with micro_batch_index(index):
            assert torch.equal(pool.kept(like), bits)  # a batch that is repeated
        unpacked = np.unpackbits(bits.numpy(), bitorder="little")
        assert unpacked.shape == (50 * 64,)
        assert abs(unpacked.mean() - 0.7) < 5 * (0.3 * 0.7 / unpacked.size) ** 0.5
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_bits_of_a_part_are_a_part_of_the_bits() -> None:
    pools = [DropoutPool(0.3, seed=4), DropoutPool(0.3, seed=4)]
    with micro_batch_index(1):
        whole = pools[0].kept(torch.zeros(4, 7, 32))
        with part_of_micro_batch(MicroBatchPart(first_row=1, end_row=3, rows=4, missing_width=2)):
            part = pools[1].kept(torch.zeros(2, 5, 32))
    assert torch.equal(part, whole[1:3, :5])
