import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.models.losses import LOSSES, build_loss

SHAPES = {"points": (2, 5, 2), "map": (2, 5, 4, 4), "distribution": (2, 5, 4, 4)}
CASES = [(name, kind) for name, (_, kinds) in LOSSES.items() for kind in kinds]


def target(kind, generator):
    values = torch.rand(SHAPES[kind], generator=generator)
    return values.flatten(2).softmax(-1).reshape(values.shape) if kind == "distribution" else values


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_missing_points_have_gradient_exactly_zero(name, kind):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(SHAPES[kind], generator=generator).requires_grad_()
    wanted = target(kind, generator)
    mask = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)
    wanted[~mask] = torch.nan  # not even NaN may leak
    loss = build_loss(name, kind)(output, wanted, mask)
    loss.backward()
    assert loss.isfinite()
    assert (output.grad[~mask] == 0).all()
    assert (output.grad[mask].flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_missing_points_do_not_change_the_loss_of_the_others(name, kind):
    generator = torch.Generator().manual_seed(0)
    output, wanted = torch.randn(SHAPES[kind], generator=generator), target(kind, generator)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 2, dtype=torch.bool)
    loss = build_loss(name, kind)
    torch.testing.assert_close(loss(output, wanted, mask), loss(output[:, :3], wanted[:, :3], mask[:, :3]))


def test_golden_values():
    output, wanted = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert build_loss("l1", "points")(output, wanted, mask) == 0.5
    assert build_loss("mse", "points")(output, wanted, mask) == 0.5
    assert build_loss("smooth_l1", "points", beta=0.5)(output, wanted, mask) == pytest.approx((1 - 0.25) / 2)
    logits, share = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.25)
    assert build_loss("cross_entropy", "distribution")(logits, share, mask) == pytest.approx(1.3862944)  # ln 4


def test_all_missing_is_zero_not_nan():
    loss = build_loss("l1", "points")(torch.ones(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool))
    assert loss == 0


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="choose one of cross_entropy"):
        build_loss("l1", "distribution")
    with pytest.raises(UserError, match="only smooth_l1"):
        build_loss("l1", "points", beta=0.1)
