"""The picture of curvature under constraints: a projection against charts, loss against gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import feasible as fs

EVALUATIONS = 400
LINES = {
    "ProjectedLBFGS": ("#d9541e", "-"),
    "L-BFGS, w = |z|": ("#2f7ec2", "-"),
    "L-BFGS, w = softplus(z)": ("#2f7ec2", "--"),
    "L-BFGS, w = z²": ("#2f7ec2", ":"),
    "Adam, projected": ("#888888", "-"),
}


class Regression(nn.Module):
    """Non-negative least squares whose columns differ in size by a factor of 30."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.design, noise, truth = (
            torch.randn(*shape, dtype=torch.float64, generator=generator)
            for shape in ((300, 100), (300,), (100,))
        )
        self.design *= torch.logspace(0, -1.5, 100, dtype=torch.float64)
        self.target = self.design @ truth.clamp_min(0) + 0.5 * noise
        self.weight = nn.Parameter(torch.full((100,), 0.5, dtype=torch.float64))

    def loss(self) -> Tensor:
        """The mean squared residual."""
        return (self.design @ self.weight - self.target).square().mean()


class Network(nn.Module):
    """A network with weights and biases ≥ 0 that learns the sum of the squares of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.x = torch.rand(256, 2, dtype=torch.float64)
        self.y = self.x.square().sum(1, keepdim=True)
        layers = nn.Sequential(
            nn.Linear(2, 20), nn.Softplus(), nn.Linear(20, 20), nn.Softplus(), nn.Linear(20, 1)
        )
        self.layers = layers.double()
        for weight in self.parameters():
            weight.data.abs_()

    def loss(self) -> Tensor:
        """The mean squared error."""
        return (self.layers(self.x) - self.y).square().mean()


Task = Regression | Network


def ways() -> Iterator[tuple[str, fs.methods.Method, Callable[..., torch.optim.Optimizer]]]:
    """Name, method and optimizer of every line."""
    search = {
        "max_iter": EVALUATIONS,
        "max_eval": EVALUATIONS,
        "tolerance_grad": 0.0,
        "tolerance_change": 0.0,
    }
    yield "ProjectedLBFGS", fs.Project(), lambda w: fs.optim.ProjectedLBFGS(w, **search)
    for name, chart in (("|z|", "abs"), ("softplus(z)", "softplus"), ("z²", "square")):
        by = fs.Reparametrize(chart)
        yield (
            f"L-BFGS, w = {name}",
            by,
            lambda w: torch.optim.LBFGS(w, line_search_fn="strong_wolfe", **search),
        )
    yield "Adam, projected", fs.Project(), lambda w: torch.optim.Adam(w, lr=0.02)


def race(make: Callable[[], Task]) -> dict[str, list[float]]:
    """The best loss after so many gradients, for every line."""
    curves = {}
    for name, method, optimizer_of in ways():
        task = make()
        problem = fs.Problem(task)
        problem.constrain("*", fs.NonNegative(), by=method)
        optimizer = problem.attach(optimizer_of(task.parameters()))
        seen: list[float] = []

        def closure(
            task: Task = task, problem: fs.Problem = problem, optimizer=optimizer, seen=seen
        ) -> Tensor:
            optimizer.zero_grad()
            loss = problem.loss(task.loss())
            loss.backward()
            seen.append(min(float(loss.detach()), seen[-1] if seen else float("inf")))
            return loss

        while len(seen) < EVALUATIONS:
            before = len(seen)
            optimizer.step(closure)
            if len(seen) <= before + 1 and not name.startswith("Adam"):
                break  # arrived
        curves[name] = seen[:EVALUATIONS]
    return curves


def draw(path: Path) -> None:
    """Both tasks side by side: how far the loss is above the least that any of them found."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for axes, (title, make) in zip(
        panels, {"non-negative regression": Regression, "non-negative network": Network}.items()
    ):
        for name, gap in gaps(race(make)).items():
            color, style = LINES[name]
            axes.semilogy(range(1, len(gap) + 1), gap, style, color=color, label=name, linewidth=1.4)
        axes.set(title=title, xlabel="gradients")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("loss − least loss")
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=110)


def gaps(curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """How far above the least loss that any line has found; the last ones repeat where a line has arrived."""
    least = min(curve[-1] for curve in curves.values())
    return {name: [max(value - least, 1e-14 * least) for value in curve] for name, curve in curves.items()}


if __name__ == "__main__":
    draw(Path(__file__).parent / "images" / "curvature.png")
    for make in (Regression, Network):
        for name, gap in gaps(race(make)).items():
            shown = (f"{gap[min(k, len(gap)) - 1]:.1e}" for k in (20, 50, 100, 200, 400))
            print(f"{make.__name__:<12}{name:<26}", *shown)
