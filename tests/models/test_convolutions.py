"""Convolutions that predict quickly give what the plain ones give, and learn as they do."""

import copy
import pickle

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicStem
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity

from maskseg.models import convolutions
from maskseg.models.convolutions import quicken

# So far may a result of Winograd's way be from the plain one, whose values are up to 10.
NEAR = {"rtol": 0, "atol": 1e-4}
winograd = pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch is without NNPACK")


@pytest.fixture(autouse=True)
def avx2(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    # Here torch may have been imported first.
    monkeypatch.setattr(convolutions, "others_get_the_cores", lambda: True)


@pytest.fixture
def ways(monkeypatch):
    """Which of the ways were gone."""
    gone = []
    for name in ("_by_winograd", "_by_product"):
        way = getattr(convolutions, name)
        monkeypatch.setattr(convolutions, name, lambda *given, way=way, name=name: gone.append(name) or way(*given))
    return gone


def norm_of(channels):
    norm = FrozenBatchNorm2d(channels)
    for part in (norm.weight, norm.bias, norm.running_mean):
        part.copy_(torch.randn(channels))
    norm.running_var.copy_(torch.rand(channels) + 0.5)
    return norm


def pair(*given, norm=False, activation=None, **options):
    """A plain convolution and a quick one of the same weights."""
    torch.manual_seed(0)
    plain = Conv2d(*given, norm=norm_of(given[1]) if norm else None, activation=activation, **options).eval()
    plain.weight.data *= 1.5
    quick = copy.deepcopy(plain)
    quicken(quick)
    return plain, quick


@winograd
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", [None, F.relu, F.relu_, nn.ReLU(), torch.tanh])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(1, 37, 41), (3, 32, 20), (8, 14, 14)])
def test_of_three_by_three(ways, norm, activation, bias, size):
    plain, quick = pair(5, 7, 3, padding=1, bias=bias, norm=norm, activation=activation)
    x = torch.randn(size[0], 5, *size[1:])
    with torch.no_grad():
        for layout in (torch.contiguous_format, torch.channels_last):
            torch.testing.assert_close(quick(x.contiguous(memory_format=layout)), plain(x), **NEAR)
    assert ways == ["_by_winograd"] * 2


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ((5, 7, 3), {"padding": 1, "stride": 2}),
        ((5, 7, 3), {"padding": 2, "dilation": 2}),
        ((6, 8, 3), {"padding": 1, "groups": 2}),
        ((5, 7, 7), {"padding": 3, "stride": 2}),
        ((5, 7, 1), {"stride": 2}),
        ((6, 8, 1), {"groups": 2}),
        ((5, 7, (1, 3)), {"padding": (0, 1)}),
        ((5, 7, 3), {"padding": 1, "padding_mode": "reflect"}),
        ((5, 7, 3), {"padding": "same"}),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_of_every_other_kind(given, options, norm):
    plain, quick = pair(*given, norm=norm, **options)
    x = torch.randn(2, given[0], 40, 44)
    with torch.no_grad():
        torch.testing.assert_close(quick(x), plain(x), **NEAR)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_of_one_by_one(ways, count, bias):
    plain, quick = pair(5, 7, 1, bias=bias, norm=not bias)
    x = torch.randn(count, 5, 9, 13)
    with torch.no_grad():
        torch.testing.assert_close(quick(x), plain(x), **NEAR)
        assert ways == ["_by_product"]
        # Where the channels are last it has nothing to gain.
        torch.testing.assert_close(quick(x.contiguous(memory_format=torch.channels_last)), plain(x), **NEAR)
    assert ways == ["_by_product"]


@winograd
@pytest.mark.parametrize("padding", [0, 1, 2, (0, 1), (2, 0)])
@pytest.mark.parametrize("height", [33, 36, 37, 43])
def test_strip_by_strip_it_is_the_same_to_the_bit(monkeypatch, padding, height):
    _, quick = pair(4, 6, 3, padding=padding)
    x = torch.randn(1, 4, height, 48)
    with torch.no_grad():
        whole = quick(x)
        for space in (0, 200_000):
            monkeypatch.setattr(convolutions, "_SPACE", space)
            assert torch.equal(quick(x), whole)


@winograd
@pytest.mark.parametrize("capability", ["AVX512", "DEFAULT", "NEON"])
def test_winograd_is_for_cpus_whose_best_is_avx2(ways, monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    plain, quick = pair(5, 7, 3, padding=1)
    with torch.no_grad():
        x = torch.randn(1, 5, 64, 64)
        torch.testing.assert_close(quick(x), plain(x), **NEAR)
    assert not ways


def test_few_positions_are_not_worth_it(ways):
    _, quick = pair(5, 7, 3, padding=1)
    with torch.no_grad():
        quick(torch.randn(1, 5, 31, 33))
    assert not ways


def test_it_learns_as_before(ways):
    plain, quick = pair(5, 7, 3, padding=1, norm=True, activation=F.relu)
    x = torch.randn(1, 5, 64, 64)
    for convolution in (plain, quick):
        convolution(x).square().mean().backward()
    assert torch.equal(quick.weight.grad, plain.weight.grad)
    assert not ways


def test_what_it_predicts_follows_its_weights_and_its_norm():
    plain, quick = pair(5, 7, 3, padding=1, norm=True)
    x = torch.randn(1, 5, 64, 64)
    for change in range(4):
        for convolution in (plain, quick):
            if change == 1:
                convolution.load_state_dict({name: value * 1.1 for name, value in convolution.state_dict().items()})
            if change == 2:
                convolution.norm.running_mean += 1
            if change == 3:
                loss = convolution(x).square().mean()
                loss.backward()
                torch.optim.SGD([convolution.weight], 0.1).step()
        with torch.no_grad():
            torch.testing.assert_close(quick(x), plain(x), rtol=1e-5, atol=1e-4)


def test_it_is_sent_and_copied_without_what_it_keeps():
    _, quick = pair(5, 7, 3, padding=1, norm=True)
    before = len(pickle.dumps(quick))
    x = torch.randn(1, 5, 64, 64)
    with torch.no_grad():
        found = quick(x)
        assert len(pickle.dumps(quick)) == before
        for copied in (copy.deepcopy(quick), pickle.loads(pickle.dumps(quick))):
            assert torch.equal(copied(x), found)
    assert {*quick.state_dict()} == {*pair(5, 7, 3, padding=1, norm=True)[0].state_dict()}


def test_mixed_precision_and_tracing_are_left_to_torch(ways):
    plain, quick = pair(5, 7, 3, padding=1, norm=True)
    x = torch.randn(1, 5, 64, 64)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(quick(x), plain(x))
        traced = torch.jit.trace(quick, x, check_trace=False)
        assert torch.equal(traced(x), plain(x))
    assert not ways


def test_weights_of_inference_mode_are_followed_too():
    with torch.inference_mode():
        plain, quick = pair(5, 7, 3, padding=1, norm=True)
        x = torch.randn(1, 5, 64, 64)
        for _ in range(2):
            torch.testing.assert_close(quick(x), plain(x), **NEAR)
            for convolution in (plain, quick):
                convolution.weight.mul_(1.1)


def test_a_norm_that_is_not_frozen_stays_one():
    plain = Conv2d(5, 7, 3, padding=1, norm=nn.BatchNorm2d(7))
    quick = copy.deepcopy(plain)
    quicken(quick)
    x = torch.randn(2, 5, 64, 64)
    for train in (True, False):
        with torch.no_grad():
            torch.testing.assert_close(quick.train(train)(x), plain.train(train)(x))
    assert torch.equal(quick.norm.running_mean, plain.norm.running_mean)


@winograd
def test_torchs_own_convolutions_too(ways):
    plain = nn.Conv2d(5, 7, 3, padding=1)
    quick = copy.deepcopy(nn.Sequential(plain, nn.ReLU()))
    quicken(quick)
    x = torch.randn(1, 5, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(quick(x), plain(x).relu(), **NEAR)
    assert ways == ["_by_winograd"]


def test_empty_batches():
    for given in ((5, 7, 3), (5, 7, 1)):
        _, quick = pair(*given, norm=True)
        with torch.no_grad():
            assert quick(torch.zeros(0, 5, 14, 14)).shape[:2] == (0, 7)


@winograd
def test_winograd_is_for_threads_that_get_the_cores(ways, monkeypatch):
    monkeypatch.setattr(convolutions, "others_get_the_cores", lambda: False)
    plain, quick = pair(5, 7, 3, padding=1)
    x, threads = torch.randn(1, 5, 40, 40), torch.get_num_threads()
    try:
        for count, used in ((2, []), (1, ["_by_winograd"])):
            torch.set_num_threads(count)
            with torch.no_grad():
                torch.testing.assert_close(quick(x), plain(x), **NEAR)
            assert ways == used
    finally:
        torch.set_num_threads(threads)


@winograd
@pytest.mark.parametrize(("others", "order"), [(True, torch.contiguous_format), (False, torch.channels_last)])
def test_a_stem_gives_its_features_in_the_order_that_the_next_one_wants(monkeypatch, others, order):
    monkeypatch.setattr(convolutions, "_STEM_SPACE", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(convolutions, "others_get_the_cores", lambda: others)
    _, quick = stem_pair()
    with torch.no_grad():
        assert quick(torch.randn(1, 3, 64, 96)).is_contiguous(memory_format=order)


def stem_pair():
    """A stem of Detectron2 and a quick one of the same weights."""
    torch.manual_seed(0)
    plain = BasicStem(3, 8, norm="FrozenBN").eval()
    plain.conv1.norm = norm_of(8)
    quick = copy.deepcopy(plain)
    quicken(quick)
    return plain, quick


@pytest.mark.parametrize(
    "size", [(1, 64, 64), (2, 37, 41), (1, 38, 40), (1, 39, 43), (1, 5, 1), (1, 1, 7), (3, 20, 20)]
)
@pytest.mark.parametrize("space", [1, 4000, 9000, 2**30])
def test_a_stem_some_rows_after_the_other(monkeypatch, size, space):
    monkeypatch.setattr(convolutions, "_STEM_SPACE", space)
    plain, quick = stem_pair()
    x = torch.randn(size[0], 3, *size[1:])
    with torch.no_grad():
        torch.testing.assert_close(quick(x), plain(x), **NEAR)


def test_a_stem_in_parts_holds_little(monkeypatch):
    """Neither what its convolution finds as a whole nor the places of the maxima, which are 64 bits each."""
    monkeypatch.setattr(convolutions, "_STEM_SPACE", 2**16)
    _, quick = stem_pair()
    x = torch.randn(1, 3, 512, 512)
    with torch.no_grad(), torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        found = quick(x)
    most = max(event.cpu_memory_usage for event in seen.events() if event.name == "aten::convolution")
    assert 0 < most <= 2**17
    assert found.shape == (1, 8, 128, 128)


def test_a_stem_learns_as_before(monkeypatch):
    monkeypatch.setattr(convolutions, "_STEM_SPACE", 1)
    plain, quick = stem_pair()
    x = torch.randn(1, 3, 40, 40)
    for stem in (plain, quick):
        stem(x).square().sum().backward()
    assert torch.equal(plain.conv1.weight.grad, quick.conv1.weight.grad)
