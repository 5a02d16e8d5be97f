"""Random features: where they bend, how the scale is chosen, what is refused."""

import math

import pytest
import torch
from torch import nn

import feasible as fs
from feasible.pde.features import init_features_

SQUARE = (torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 5.0]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_bend_inside_the_domain(dtype: torch.dtype) -> None:
    layer = nn.Linear(2, 4000, dtype=dtype)
    scales = init_features_(layer, SQUARE, (3.0, 0.5), generator=generator())
    assert scales.tolist() == [3.0, 0.5]
    weight = layer.weight.detach()
    assert (weight.abs() <= torch.tensor([3.0, 0.5], dtype=dtype)).all()
    assert weight.std(0) / scales == pytest.approx([3**-0.5] * 2, rel=0.05)
    corners = torch.cartesian_prod(*torch.stack(SQUARE).T).to(dtype)
    heights = layer(corners)
    assert ((heights.amin(0) <= 0) & (heights.amax(0) >= 0)).all()


def test_phases_of_waves_are_uniform() -> None:
    layer = nn.Linear(2, 4000)
    init_features_(layer, SQUARE, 16.0, activation="sin", generator=generator())
    assert layer.bias.abs().max() <= math.pi
    assert layer.bias.std().item() == pytest.approx(math.pi / 3**0.5, rel=0.05)


class Sampled:
    def sample(self, n: int, generator: torch.Generator | None) -> torch.Tensor:
        return 7 + torch.rand(n, 1, generator=generator)


@pytest.mark.parametrize(
    "domain", [Sampled(), fs.pde.Interval(7.0, 8.0), ([7.0], [8.0])], ids=["own", "pde", "pair"]
)
def test_domains_of_all_kinds(domain: object) -> None:
    layer = nn.Linear(1, 50)
    init_features_(layer, domain, 4.0, generator=generator())
    centres = -layer.bias / layer.weight[:, 0]
    assert ((centres > 6.99) & (centres < 8.01)).all()


def test_the_same_numbers_from_the_same_generator() -> None:
    layers = [nn.Linear(2, 9) for _ in range(3)]
    for layer, seed in zip(layers, (1, 1, 2), strict=True):
        init_features_(layer, SQUARE, generator=generator(seed))
    assert torch.equal(layers[0].weight, layers[1].weight)
    assert not torch.equal(layers[0].weight, layers[2].weight)


def fitting(frequency: float) -> tuple[nn.Module, list]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 1)).double()
    x = torch.linspace(0, 1, 120, dtype=torch.float64)[:, None]
    return model, [
        (lambda m: m(x) - torch.sin(frequency * x), fs.Equal(0.0)),
        (lambda m: m(x[:1]), fs.Equal(0.0)),
    ]


@pytest.mark.parametrize("frequency", [2.0, 40.0])
def test_the_searched_scale_is_about_the_best(frequency: float) -> None:
    errors = {}
    x = torch.rand(500, 1, dtype=torch.float64)
    unit = ([0.0], [1.0])
    for scale in (None, 0.25, 1.0, 4.0, 16.0, 64.0):
        model, rows = fitting(frequency)
        kept = model[2].weight.detach().clone()
        options = {"model": model, "constraints": rows, "parameters": "2.*"} if scale is None else {}
        init_features_(model[0], unit, scale, generator=generator(), **options)
        assert torch.equal(model[2].weight, kept)
        fs.project_parameters(model, rows, "2.*")
        errors[scale] = float((model(x) - torch.sin(frequency * x)).detach().square().mean().sqrt())
    best = min(error for scale, error in errors.items() if scale is not None)
    assert errors[None] <= max(3 * best, 1e-8)


def test_a_score_of_one_s_own_decides() -> None:
    layer = nn.Linear(1, 2000)
    scales = init_features_(
        layer, ([0.0], [1.0]), score=lambda: (layer.weight.abs().max() - 16).abs(), generator=generator()
    )
    assert scales.item() == 16.0


MODEL = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1)).double()
LINE = torch.linspace(0, 1, 30, dtype=torch.float64)[:, None]
UNIT = ([0.0], [1.0])
BAD = {
    "scale": (UNIT, {"scale": -1.0}, "scale must be positive"),
    "scales": (UNIT, {"scale": (1.0, 2.0)}, "one for each of 1 inputs"),
    "activation": (UNIT, {"activation": "step"}, "activation must be one of"),
    "domain": (3, {"scale": 1.0}, "expected a domain"),
    "corners": (([1.0], [0.0]), {"scale": 1.0}, "lower < upper"),
    "coordinates": (SQUARE, {"scale": 1.0}, "the domain has 2 coordinates"),
    "half": (UNIT, {"model": MODEL}, "belong together"),
    "both": (UNIT, {"model": MODEL, "score": abs}, "not both"),
    "inequality": (
        UNIT,
        {"model": MODEL, "constraints": [(lambda m: m(LINE), fs.NonNegative())], "parameters": "2.*"},
        "equations alone",
    ),
    "bent": (
        UNIT,
        {"model": MODEL, "constraints": [lambda m: m(LINE) ** 2 - 1], "parameters": "2.*"},
        "not affine",
    ),
    "few": (UNIT, {"model": MODEL, "constraints": [lambda m: m(LINE[:3])], "parameters": "2.*"}, "too few"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    domain, options, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        init_features_(MODEL[0], domain, **options)


def test_a_layer_without_bias_is_refused() -> None:
    with pytest.raises(ValueError, match="no bias"):
        init_features_(nn.Linear(1, 3, bias=False), UNIT, 1.0)
