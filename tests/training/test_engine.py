from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn.utils import get_total_norm

from pipeline.common.errors import UserError
from pipeline.data.store import center_input
from pipeline.inference.predict import Predictor
from pipeline.inference.tta import TTA
from pipeline.keypoints import geometry
from pipeline.keypoints.metrics import mae, nme
from pipeline.keypoints.skeleton import SKELETONS
from pipeline.models import build_model
from pipeline.models.checkpoint import ResumeState
from pipeline.models.device import Runtime
from pipeline.models.losses import build_loss
from pipeline.training import engine
from pipeline.training.distributed import SINGLE
from pipeline.training.engine import Trainer
from pipeline.training.loader import EpochSampler, make_batches, train_loader
from pipeline.training.settings import Augmentation, Schedule

POINTS = SKELETONS["ibug68"]
NETWORK = {"name": "resnet", "backbone": "resnet10t",
           "pretrained": False, "width": 0.25, "stem": "sum", "head": "average", "dropout": 0.2}
SCHEDULE = {"epochs": 4, "batch_size": 8, "optimizer": "adamw", "lr": 2e-3, "schedule": "cosine", "weight_decay": 0.05,
            "warmup_epochs": 1.0, "freeze_epochs": 0, "grad_clip": 5.0, "ema_decay": 0.9, "patience": None}
AUGMENT = {"rotate": 30.0, "scale": 0.2, "shift": 0.05, "flip": 0.5, "brightness": 0.3, "contrast": 0.3, "blur": 0.2,
           "noise": 0.2, "dropout": 0.3}
FLOAT32 = Runtime(device=torch.device("cpu"), dtype=torch.float32)


def batches_of(store, backend="auto", device=FLOAT32.device, **changes):
    augmentation = Augmentation(backend=backend, **AUGMENT | changes)
    return make_batches(store, augmentation, POINTS.flip, device)


def trainer_of(store, *, seed=0, runtime=FLOAT32, loss=("smooth_l1", {"beta": 0.05}), validate_every=1, **schedule):
    torch.manual_seed(seed)
    network, codec = build_model(NETWORK, {"name": "regression"}, num_points=68, channels=1, size=32)
    return Trainer(network=network, codec=codec, loss=build_loss(codec, loss[0], **loss[1]), store=store, seed=seed,
                   schedule=Schedule(**SCHEDULE | schedule), runtime=runtime, validate_every=validate_every,
                   eyes=POINTS.eyes)


def train(store, resume, *, backend="auto", **settings):
    trainer = trainer_of(store, **settings)
    network, history = trainer.fit(batches_of(store, backend), np.arange(16), np.arange(16, 24), resume)
    return network.state_dict(), history


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def results(history):
    return [[row[name] for name in ("epoch", "lr", "train_loss", "val_loss", "val_mae", "val_nme")] for row in history]


@pytest.mark.parametrize("worst", [0.1, 1e3, np.nan, np.inf])
def test_clip_any_gradient_equals_clip_grad_norm(worst):
    network, like = torch.nn.Linear(20, 30), torch.nn.Linear(20, 30)
    for mine, theirs in zip(network.parameters(), like.parameters(), strict=True):
        mine.grad = torch.rand_like(mine)
        mine.grad[0] = worst
        theirs.grad = mine.grad.clone()
    engine._clip(network, 100.0)
    torch.nn.utils.clip_grad_norm_(like.parameters(), 100.0)
    for mine, theirs in zip(network.parameters(), like.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", ["torch", "albumentations"])
def test_training_same_seed_and_other_workers_gives_equal_weights(store, tmp_path, backend):
    first, history = train(store, ResumeState(tmp_path, "a"), backend=backend)
    second, again = train(store, ResumeState(tmp_path, "b"), backend=backend, runtime=replace(FLOAT32, workers=2))
    assert same(first, second)
    assert results(history) == results(again)
    other, _ = train(store, ResumeState(tmp_path, "c"), backend=backend, seed=1)
    assert not same(first, other)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("settings", [{"freeze_epochs": 0}, {"freeze_epochs": 2}, {"optimizer": "muon"}])
def test_training_interrupted_and_resumed_equals_uninterrupted(store, tmp_path, monkeypatch, settings):
    """Killed in the third epoch, where the rate starts anew; the epochs before it are kept."""
    monkeypatch.setattr(engine, "SAVING", np.inf)
    uninterrupted, history = train(store, ResumeState(tmp_path, "a"), **settings)
    steps, real = [], Trainer.batch_loss

    def dying(*args):
        steps.append(1)
        if len(steps) == 6:  # two batches an epoch
            raise Killed
        return real(*args)

    monkeypatch.setattr(Trainer, "batch_loss", dying)
    with pytest.raises(Killed):
        train(store, ResumeState(tmp_path, "b"), **settings)
    assert len(ResumeState(tmp_path, "b").load()["history"]) == 2
    resumed, again = train(store, ResumeState(tmp_path, "b"), **settings)
    assert len(steps) == 6 + 4  # not those of the first two epochs again
    assert same(uninterrupted, resumed)
    assert results(history) == results(again)


@pytest.mark.parametrize(("seconds", "epochs"), [(0.04, [1, 2, 3, 4]), (0.12, [1, 4])])
def test_state_is_saved_seldom_where_that_takes_long(store, tmp_path, monkeypatch, seconds, epochs):
    """An epoch takes one second; a twentieth of the time may go into saving."""
    resume, saved, clock = ResumeState(tmp_path, "a"), [], [0.0]

    def save(state):
        saved.append(len(state["history"]))
        clock[0] += seconds

    def train_one_epoch(*_):
        clock[0] += 1.0
        return 0.5

    monkeypatch.setattr(engine.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(Trainer, "train_one_epoch", train_one_epoch)
    monkeypatch.setattr(resume, "save", save)
    train(store, resume)
    assert saved == epochs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", [{"optimizer": "adamw"}, {"optimizer": "muon"},
                                      {"optimizer": "muon", "freeze_epochs": 3}])
def test_cuda_graph_trains_as_kernel_by_kernel(store, tmp_path, settings):
    """Over the warm-up of the rate, and again where the phases change; sums on a GPU differ in the last digits."""
    found = []
    for graphed in (True, False):
        trainer = trainer_of(store, runtime=replace(FLOAT32, device=torch.device("cuda")), epochs=6, **settings)
        assert trainer.graphed
        trainer.graphed = graphed
        batches = batches_of(store, device=torch.device("cuda"))
        network, history = trainer.fit(batches, np.arange(16), np.arange(16, 24), ResumeState(tmp_path, str(graphed)))
        assert (getattr(trainer.step, "graph", None) is not None) == graphed
        found.append((network.state_dict(), results(history)))
    (weights, rows), (like, rows_like) = found
    np.testing.assert_allclose(rows, rows_like, rtol=0.02)
    for name, value in weights.items():
        torch.testing.assert_close(value, like[name], rtol=0.02, atol=0.01)


# Shares of the highest rate, two steps an epoch. A cosine of n steps is (1 + cos(π·t/n)) / 2 at step t; a warm-up of
# two steps starts at 0.01 and is at 0.01 + 0.99/2 = 0.505 in the middle.
@pytest.mark.parametrize(("schedule", "shares"), [
    ({"schedule": "constant", "epochs": 3, "warmup_epochs": 0.0}, [1] * 6),
    ({"schedule": "constant", "epochs": 2, "warmup_epochs": 1.0}, [0.01, 0.505, 1, 1]),
    ({"schedule": "constant", "epochs": 4, "warmup_epochs": 1.0, "freeze_epochs": 2}, [0.01, 0.505, 1, 1] * 2),
    ({"schedule": "cosine", "epochs": 2, "warmup_epochs": 0.0}, [1, 0.853553, 0.5, 0.146447]),
    ({"schedule": "cosine", "epochs": 2, "warmup_epochs": 1.0}, [0.01, 0.505, 0.5, 0.146447]),
    ({"schedule": "cosine", "epochs": 3, "warmup_epochs": 0.0, "freeze_epochs": 1},
     [1, 0.5, 1, 0.853553, 0.5, 0.146447]),
    ({"schedule": "cosine", "epochs": 1, "warmup_epochs": 0.0, "freeze_epochs": 3}, [1, 0.5]),
])
def test_learning_rate_of_each_step_follows_the_schedule(store, tmp_path, monkeypatch, schedule, shares):
    rates, real = [], Trainer.batch_loss

    def recording(trainer, *args):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return real(trainer, *args)

    monkeypatch.setattr(Trainer, "batch_loss", recording)
    train(store, ResumeState(tmp_path, "a"), lr=2e-3, **schedule)
    assert rates == pytest.approx([2e-3 * share for share in shares], rel=1e-5)


@pytest.mark.parametrize("spoil", [
    lambda state: state.pop("optimizer"), lambda state: state.update(network={"other.weight": torch.zeros(3)}),
    lambda state: state["average"].popitem(), lambda state: state.update(history=[{"epoch": 1}]),
    lambda state: state.update(history=7),
])
def test_training_with_a_resume_state_that_does_not_fit_starts_anew(store, tmp_path, capsys, spoil):
    untouched, history = train(store, ResumeState(tmp_path, "a"), epochs=1)
    resume = ResumeState(tmp_path, "b")
    train(store, resume, epochs=1, seed=1)
    state = resume.load()
    spoil(state)
    resume.save(state)
    found, again = train(store, resume, epochs=1)
    assert same(untouched, found) and results(history) == results(again)
    assert "not a state of this training" in "".join(capsys.readouterr())


def test_training_with_a_loss_that_is_not_finite_stops_and_keeps_the_state_before(store, tmp_path, monkeypatch):
    real, steps = Trainer.batch_loss, []

    def spoilt(*args):
        steps.append(1)
        return real(*args) * (torch.inf if len(steps) == 4 else 1)  # two batches an epoch

    monkeypatch.setattr(Trainer, "batch_loss", spoilt)
    sampler = EpochSampler(np.arange(16), 8, seed=0)
    sampler.epoch = 1
    faces = ", ".join(map(str, [*sampler][1][1]))
    with pytest.raises(UserError, match=f"loss is inf in epoch 2, step 2, of faces {faces}; lower the model's lr"):
        train(store, ResumeState(tmp_path, "a"))
    state = ResumeState(tmp_path, "a").load()
    assert len(state["history"]) == 1
    assert all(value.isfinite().all() for value in state["network"].values())


def test_training_whose_last_step_diverges_fails_in_validation(store, tmp_path):
    with pytest.raises(UserError, match="validation loss is (nan|inf) after epoch 1"):
        train(store, ResumeState(tmp_path, "a"), epochs=1, batch_size=16, warmup_epochs=0.0, lr=1e30, ema_decay=0.0)


def test_training_15_epochs_lowers_the_error(store, tmp_path):
    _, history = train(store, ResumeState(tmp_path, "a"), epochs=15, lr=4e-3)
    assert history[-1]["val_mae"] < 0.7 * history[0]["val_mae"]
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    rates = [row["lr"] for row in history]
    assert max(rates) == pytest.approx(4e-3, rel=0.05)
    assert rates[-1] < 0.05 * max(rates)


def test_training_in_bfloat16_lowers_the_error(store, tmp_path):
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.bfloat16)
    _, history = train(store, ResumeState(tmp_path, "a"), runtime=runtime, epochs=6, lr=4e-3)
    assert history[-1]["val_mae"] < history[0]["val_mae"]


@pytest.mark.parametrize(("every", "validated"), [(2, [2, 4, 5]), (3, [3, 5])])
def test_validation_every_few_epochs_includes_the_last(store, tmp_path, every, validated):
    _, history = train(store, ResumeState(tmp_path, "a"), epochs=5, validate_every=every)
    assert [epoch for epoch, row in enumerate(history, 1) if np.isfinite(row["val_mae"])] == validated


@pytest.mark.parametrize(("errors", "kept"), [([5.0, 4.0, 4.5, 4.2, 3.0, 2.0], 4), ([5.0, 6.0, 7.0, 4.0, 3.0, 2.0], 3),
                                             ([5.0, 5.0, 5.0, 4.0, 3.0, 2.0], 3), ([5.0, 6.0, 4.0, 6.0, 3.0, 6.0], 6)])
def test_training_without_a_better_mae_stops_after_patience(store, tmp_path, monkeypatch, errors, kept):
    values = iter(errors)
    monkeypatch.setattr(Trainer, "evaluate", lambda *args: {"val_loss": 1.0, "val_mae": next(values), "val_nme": 1.0})
    monkeypatch.setattr(Trainer, "train_one_epoch", lambda *args: 1.0)
    _, history = train(store, ResumeState(tmp_path, "a"), epochs=6, patience=2)
    assert [row["val_mae"] for row in history] == errors[:kept]


def test_training_draws_new_batches_and_a_new_rate_at_each_step(store, tmp_path, monkeypatch):
    """Two steps an epoch: none repeats the points, and so the order and the augmentation, of another epoch."""
    real, points, rates = Trainer.batch_loss, [], []

    def spy(trainer, network, batch):
        points.append(batch[1])
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return real(trainer, network, batch)

    monkeypatch.setattr(Trainer, "batch_loss", spy)
    train(store, ResumeState(tmp_path, "a"), epochs=3, grad_clip=None)
    assert len(points) == len(set(rates)) == 6
    assert not any(torch.equal(one, other) for one, other in combinations(points, 2))


def test_training_clips_the_gradient_of_each_step(store, tmp_path, monkeypatch):
    trainer, norms = trainer_of(store, epochs=1, grad_clip=0.01), []
    step = trainer.optimizer.step

    def spy(*args, **options):
        grads = [part.grad for part in trainer.network.parameters() if part.grad is not None]
        norms.append(float(get_total_norm(grads)))
        return step(*args, **options)

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    trainer.fit(batches_of(store), np.arange(16), np.arange(16, 24), ResumeState(tmp_path, "a"))
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


def test_training_validates_and_returns_the_averaged_network(store, tmp_path):
    trainer = trainer_of(store, epochs=2)  # in the first, the average warms up
    network, history = trainer.fit(batches_of(store), np.arange(16), np.arange(16, 24), ResumeState(tmp_path, "a"))
    assert network is trainer.average.module
    assert not same(network.state_dict(), trainer.network.state_dict())
    with torch.no_grad():
        for part in trainer.network.parameters():
            part.fill_(np.nan)
    scores = trainer.evaluate(np.arange(16, 24), trainer.schedule.batch_size)
    assert scores == {name: history[-1][name] for name in engine.VALIDATION}


def test_fit_validates_no_more_faces_at_once_than_it_trains(store, tmp_path, monkeypatch):
    sizes = []
    to_images = engine.to_images
    monkeypatch.setattr(engine, "to_images", lambda crops: sizes.append(len(crops)) or to_images(crops))
    trainer = trainer_of(store, epochs=1)
    trainer.fit(batches_of(store), np.arange(10), np.arange(10, 24), ResumeState(tmp_path, "a"))
    assert sum(sizes) == 14 and max(sizes) == min(trainer.schedule.batch_size, 10)


def test_muon_makes_the_update_of_a_convolution_orthogonal_and_as_large_as_adamws(store):
    trainer = trainer_of(store, optimizer="muon", lr=1e-3, weight_decay=0.0)
    weight = trainer.network.backbone.conv1[3].weight
    before = weight.detach().clone()
    trainer.batch_loss(trainer.network, next(iter(train_loader(
        batches_of(store), np.arange(16), batch_size=16, seed=0, workers=0, distributed=SINGLE)))).backward()
    trainer.optimizer.step()
    update = (weight.detach() - before).flatten(1)
    np.testing.assert_allclose(torch.linalg.svdvals(update), 0.2 * max(update.shape) ** 0.5 * 1e-3, rtol=0.3)


def test_training_frozen_leaves_the_backbone_unchanged(store, tmp_path):
    torch.manual_seed(0)
    start, _ = build_model(NETWORK, {"name": "regression"}, num_points=68, channels=1, size=32)
    weights, _ = train(store, ResumeState(tmp_path, "a"), epochs=1, freeze_epochs=1, ema_decay=0.0)
    before = start.backbone.state_dict()
    assert all(torch.equal(weights[f"backbone.{name}"], value) for name, value in before.items())
    assert not torch.equal(weights["head.2.weight"], start.head[2].weight)


@pytest.mark.parametrize("backend", ["torch", "albumentations"])
def test_batches_with_missing_points_mask_them(store, backend):
    keypoints = store.keypoints.copy()
    keypoints[:, 36] = np.nan
    holes = replace(store, keypoints=keypoints)
    batches = batches_of(holes, backend, **dict.fromkeys(AUGMENT, 0.0) | {"flip": 0.5})
    loader = train_loader(batches, np.arange(16), batch_size=16, seed=0, workers=0, distributed=SINGLE)
    ((images, points, mask),) = list(loader)
    assert images.shape == (16, 1, 32, 32) and images.dtype == torch.uint8
    assert points.isfinite().all()
    missing = (~mask).nonzero()
    assert missing[:, 0].tolist() == list(range(16))
    assert set(missing[:, 1].tolist()) == {36, 45}  # its counterpart in a mirrored image


@pytest.mark.parametrize("backend", ["torch", "albumentations"])
def test_batch_without_augmentation_has_each_face_with_its_points(store, backend):
    batches = batches_of(store, backend, **dict.fromkeys(AUGMENT, 0.0))
    rows = np.array([5, 2, 9])
    images, points, _ = batches[0, rows, slice(None)]
    np.testing.assert_allclose(points, geometry.transform(store.input_affines[rows], store.keypoints[rows]), atol=1e-3)
    assert np.abs(images[:, 0].numpy().astype(int) - center_input(store.crops[rows], store.size)).max() <= 1


def test_evaluate_any_batch_size_gives_the_same_scores(store):
    keypoints = store.keypoints.copy()
    keypoints[::3, :40] = np.nan  # an eye among them
    keypoints[1] = np.nan
    holes = replace(store, keypoints=keypoints)
    trainer, rows = trainer_of(store, loss=("l1", {})), np.arange(8)

    def scores(faces, size):
        return replace(trainer, store=faces).evaluate(rows, size)

    assert scores(store, 3)["val_loss"] == pytest.approx(scores(store, 8)["val_loss"], rel=1e-5)
    one, whole = scores(holes, 3), scores(holes, 8)
    predictor = Predictor(network=trainer.network, codec=trainer.codec, flip_indices=POINTS.flip, runtime=FLOAT32,
                          tta=TTA(batch_size=8, flip=False))
    points = predictor.predict(holes, rows).points
    assert whole["val_mae"] == pytest.approx(mae(points, keypoints[rows]), rel=1e-5)
    assert whole["val_nme"] == pytest.approx(nme(points, keypoints[rows], POINTS.eyes), rel=1e-5)
    assert [one["val_mae"], one["val_nme"]] == pytest.approx([whole["val_mae"], whole["val_nme"]], rel=1e-6)


def test_sampler_other_epoch_has_another_order_of_all_faces():
    sampler = EpochSampler(np.arange(10, 30), 5, seed=0)
    orders = []
    for sampler.epoch in (0, 1):
        orders.append(np.concatenate([rows for _, rows, _ in sampler]))
    assert all(sorted(order) == list(range(10, 30)) for order in orders)
    assert (orders[0] != orders[1]).any()
    sampler.epoch = 0
    np.testing.assert_array_equal(np.concatenate([rows for _, rows, _ in sampler]), orders[0])


def test_sampler_gives_each_batch_a_seed_of_its_own():
    seeds = [seed for seed, _, _ in EpochSampler(np.arange(100), 4, seed=0)]
    assert len(set(seeds)) == 25
