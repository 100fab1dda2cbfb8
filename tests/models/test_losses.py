import pytest
import torch

from pipeline.common.errors import UserError
from pipeline.models.codecs import CODECS, Heatmap, Regression, Sigmoid, SimCC
from pipeline.models.losses import build_loss

CASES = [(name, codec) for codec in CODECS.values() for name in codec.losses]


def shape(codec):
    return (2, 5, 4, 4) if codec.spatial else (2, 5, 2, 6) if codec is SimCC else (2, 5, 2)


def target_of(codec, generator):
    values = torch.rand(shape(codec), generator=generator)
    if codec is SimCC:
        return values.softmax(-1)
    return values.flatten(2).softmax(-1).reshape(values.shape) if codec is Heatmap else values


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_loss_of_missing_points_has_gradient_exactly_zero(name, codec):
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(shape(codec), generator=generator).requires_grad_()
    wanted = target_of(codec, generator)
    mask = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)
    wanted[~mask] = torch.nan  # not even NaN may leak
    loss = build_loss(codec, name)(output, wanted, mask)
    loss.backward()
    assert loss.isfinite()
    assert (output.grad[~mask] == 0).all()
    assert (output.grad[mask].flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(("name", "codec"), CASES)
def test_loss_with_missing_points_equals_the_loss_of_the_others(name, codec):
    generator = torch.Generator().manual_seed(0)
    output, wanted = torch.randn(shape(codec), generator=generator), target_of(codec, generator)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 2, dtype=torch.bool)
    loss = build_loss(codec, name)
    torch.testing.assert_close(loss(output, wanted, mask), loss(output[:, :3], wanted[:, :3], mask[:, :3]))


def test_losses_by_hand_have_golden_values():
    output, wanted = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 0.0]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert build_loss(Regression, "l1")(output, wanted, mask) == 0.5
    assert build_loss(Regression, "mse")(output, wanted, mask) == 0.5
    assert build_loss(Regression, "smooth_l1", beta=0.5)(output, wanted, mask) == pytest.approx((1 - 0.25) / 2)
    logits, share = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 0.25)
    assert build_loss(Heatmap, "cross_entropy")(logits, share, mask) == pytest.approx(1.3862944)  # ln 4
    # sigmoids 1/2, 3/4, 3/4, 1/4: ln 2 − ln 3/4 − (ln 3/4 + ln 1/4)/2 − ln 3/4 = 2.1054996, over four cells
    logits = torch.tensor([[[[0.0, 1.0986123], [1.0986123, -1.0986123]]]])  # ln 3
    heights = torch.tensor([[[[0.5, 1.0], [0.5, 0.0]]]])
    assert build_loss(Sigmoid, "binary_cross_entropy")(logits, heights, mask) == pytest.approx(0.5263749)
    by_axis = torch.tensor([[[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]]]])
    assert build_loss(SimCC, "axis_cross_entropy")(torch.zeros(1, 1, 2, 4), by_axis, mask) == pytest.approx(2.7725887)


@pytest.mark.parametrize(("name", "value"), [("l1", (0.25 + 1) / 2), ("mse", (0.125 + 1) / 2)])
def test_loss_of_several_points_is_the_mean_over_those_known(name, value):
    output = torch.tensor([[[1.0, 0.0], [2.0, 2.0], [9.0, 9.0]]])
    wanted = torch.tensor([[[0.5, 0.0], [1.0, 1.0], [0.0, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    assert build_loss(Regression, name)(output, wanted, mask) == pytest.approx(value)


def test_loss_all_points_missing_is_zero():
    loss = build_loss(Regression, "l1")(torch.ones(1, 2, 2), torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.bool))
    assert loss == 0


def test_build_loss_unfit_for_the_codec_is_an_error():
    with pytest.raises(UserError, match="choose one of cross_entropy"):
        build_loss(Heatmap, "l1")
