"""The tables of an experiment's TOML file: their keys, types, defaults and ranges."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def as_tuple(value: Any) -> Any:
    """A TOML list as the tuple that a frozen table holds."""
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(as_tuple)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], BeforeValidator(as_tuple), Field(min_length=1)
]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Named = str | dict[str, Any]
"""A set or a method: its name, or a table of its ``name`` and arguments."""
Activation = Literal["relu", "tanh", "sigmoid", "softplus", "elu", "silu", "identity"]


class Table(BaseModel):
    """A table that refuses unknown keys and does not convert types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataTable(Table):
    """``[data]``: where the rows come from and how they are prepared."""

    source: str
    """``"digits"``, ``"diabetes"``, ``"breast_cancer"``, ``"wine"``, ``"hmda"``, or a CSV or Parquet file."""
    target: str | None = None
    """The column to predict; a data set of scikit-learn has one of its own."""
    task: Literal["auto", "classification", "regression", "distribution"] = "auto"
    """``"distribution"``: the rows are outcomes with a number each, the network's output is their probability, and
    what is wanted is the largest entropy."""
    features: Names | None = None
    """The columns to predict from; by default all others."""
    exclude: Names = ()
    """Columns to leave out, such as identifiers."""
    groups: Names = ()
    """Columns of categories whose rates can be compared; they stay features unless they are excluded."""
    missing: Literal["refuse", "drop"] = "refuse"
    """What becomes of rows with missing values."""
    scaling: Literal["standard", "unit", "none"] = "standard"
    """Features with mean 0 and deviation 1, or from 0 to 1, both on the training rows; or as they are."""
    complement: bool = False
    """Whether every feature x (scaled to the unit interval) comes with its complement 1 − x."""
    target_unit: Literal["auto"] | Positive = "auto"
    """A regression's target is divided by this; ``"auto"``: by the power of ten nearest its deviation."""
    test_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Which part of the rows is held out; 0: none, and what is said of held-out rows is said of all."""
    split_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _complements_need_the_unit_interval(self) -> Self:
        if self.complement and self.scaling != "unit":
            raise PydanticCustomError("complement", 'complement = true needs scaling = "unit"')
        return self


class ModelTable(Table):
    """``[model]``: a multilayer perceptron, layers ``hidden1``, ``hidden2``, … and ``head``."""

    hidden: Widths = (32,)
    activation: Activation | Annotated[tuple[Activation, ...], BeforeValidator(as_tuple)] = "relu"
    """One for all hidden layers, or a list with one for each."""
    output: Literal["linear", "exp", "softplus", "relu", "square", "sigmoid"] = "linear"
    bias: bool = True

    @property
    def activations(self) -> tuple[Activation, ...]:
        """The activation behind each hidden layer."""
        one = self.activation
        return (one,) * len(self.hidden) if isinstance(one, str) else one

    @model_validator(mode="after")
    def _one_activation_a_layer(self) -> Self:
        if len(self.activations) != len(self.hidden):
            message = (
                f"activation must be one name, or a list of {len(self.hidden)}: one for each hidden layer"
            )
            raise PydanticCustomError("activations", "{message}", {"message": message})
        return self


class TrainingTable(Table):
    """``[training]``: the optimizer, its step and the regulariser of the weight matrices."""

    optimizer: Literal["adam", "adamw", "sgd", "lbfgs", "projected-lbfgs", "stochastic-lbfgs"] = "adam"
    """``"lbfgs"`` and ``"projected-lbfgs"`` search along lines, four iterations a step: give them all rows at once."""
    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the learning rate stays, or falls to 0 along a cosine until the last epoch."""
    batch_size: Count = 64
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Amount = 0.0
    l1: Amount = 0.0
    l2: Amount = 0.0


class RateTable(Table):
    """``rate``: a rate of decisions for one class, on the samples at hand."""

    name: Literal[
        "accuracy", "recall", "precision", "false_positive_rate", "false_negative_rate", "selection_rate"
    ]
    positive: str
    """The class that is decided for, or against all others."""
    by: str | None = None
    """A column of ``groups``: the rate of every other group minus that of the first, by the alphabet."""
    temperature: Positive = 1.0


class ConstraintTable(Table):
    """``[[constraints]]``: a set, and the weights, computed value or rate that must be in it."""

    name: str | None = None
    weights: str | None = None
    """A pattern over parameter names, such as ``"*.weight"``."""
    mask: Annotated[tuple[Any, ...], BeforeValidator(as_tuple)] | None = None
    """Lists of true and false: which entries of the weights (or of every row) the set speaks of."""
    value: Literal["prediction", "expectation"] | None = None
    """The network's output, in units of ``target_unit``; or the target's mean, with the output as probability."""
    rate: RateTable | None = None
    set: Named
    exclude: Names = ()
    per: Literal["value", "sample", "index"] = "sample"
    tolerance: Amount | None = None
    """What the samples' reduced distance may be; of an expectation or a rate: the distance at which it obeys."""
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The decay of a running mean, for values that the batches make noisy."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if sum(target is not None for target in (self.weights, self.value, self.rate)) != 1:
            message = (
                'a constraint needs one target: weights = "…" (a pattern), value = "prediction" '
                'or "expectation", or rate = { name = "…", positive = "…" }'
            )
            raise PydanticCustomError("one_target", message)
        return self

    @property
    def title(self) -> str:
        """The name, or what the constraint speaks of."""
        return self.name or self.weights or self.value or (self.rate.name if self.rate else "")


class OwnConstraintTable(ConstraintTable):
    """``[[methods.NAME.constraints]]``: what this method alone enforces, and by what."""

    by: Named | None = None


class PolishTable(Table):
    """``[polish]``: after the training, discrete weights are improved one by one and the others trained again."""

    steps: Annotated[int, Field(ge=0)] = 500
    """Of the second training, in which the discrete weights no longer move."""
    learning_rate: Positive = 1e-3


class SearchTable(Table):
    """``search`` of a method: every choice is trained, all at once, in the place of one training."""

    steps: Count = 500
    """Of each choice, on all training rows at a time."""
    learning_rate: Positive = 1e-2
    starts: Count = 1
    """Initialisations of the other weights that each choice gets."""


class MethodTable(Table):
    """``[methods.NAME]``: one row of the comparison; without ``by`` the constraints are only measured."""

    label: str | None = None
    by: Named | None = None
    """A method for all constraints, or a table from the constraints' names to methods."""
    per: Literal["value", "sample", "index"] | None = None
    search: SearchTable | None = None
    """Try every member of the sets on weights; in the place of ``by``."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``[model]`` that differ for this row."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Keys of ``[training]`` that differ for this row."""
    constraints: Annotated[tuple[OwnConstraintTable, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _search_is_a_method(self) -> Self:
        if self.search is not None and self.by is not None:
            raise PydanticCustomError("search", "search tries every member itself: leave out by")
        return self


class BudgetTable(Table):
    """``[budget]``: how often and how long each method trains."""

    seeds: Count | Seeds = 3
    """How many seeds, counted from 0, or which."""
    epochs: Count = 50
    seconds: Positive | None = None
    """A training stops after the epoch in which it has used so much processor time."""
    threads: Count = 1
    """Of torch: more are slower on networks this small, and their number changes the last digits."""

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds one by one."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


class KnownTable(Table):
    """``[known]``: what the constrained problem's solution is known to be."""

    loss: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The least loss on the training rows."""
    weights: dict[str, list[Any]] = Field(default_factory=dict)
    """The weights there, by their names."""


class QuickTable(Table):
    """``[quick]``: the budget of a first look."""

    seeds: Count | Seeds = 1
    epochs: Count | None = None
