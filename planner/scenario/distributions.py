"""The ways to say how many tokens a prompt or an answer has."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from planner.scenario.types import MOST, Count, NotNegative, Section, Text, as_tuple, broken, member, one_key, tag

Mean = Annotated[float, Field(ge=1, le=MOST)]


class Uniform(Section):
    """Whole numbers from a to b, both included, equally likely."""

    uniform: Annotated[tuple[Count, Count], BeforeValidator(as_tuple)]

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.uniform[0] > self.uniform[1]:
            raise broken("the lower end must come first: [a, b] with a <= b", "uniform")
        return self


class LognormalMoments(Section):
    """Mean in tokens and coefficient of variation of the tokens (not of their logarithm)."""

    mean: Mean
    cv: Annotated[float, Field(ge=0, le=100)]


class Lognormal(Section):
    """exp of a normal variate, given by the moments of the token count itself."""

    lognormal: LognormalMoments


class NormalMoments(Section):
    """Mean and standard deviation in tokens; draws beyond `min` or `max` take that value."""

    mean: Mean
    sd: NotNegative
    min: Count = 1
    max: Count | None = None

    @model_validator(mode="after")
    def _possible(self) -> NormalMoments:
        if self.max is not None and self.max < self.min:
            raise broken(f"must be at least min (={self.min})", "max")
        if self.mean < self.min or (self.max is not None and self.mean > self.max):
            raise broken("must lie between min and max", "mean")
        return self


class Normal(Section):
    """A normal variate, rounded, held between min and max."""

    normal: NormalMoments


class HistogramFile(Section):
    """A CSV file with a header line; one sample per row in `column`."""

    file: Text
    column: Text


class Histogram(Section):
    """Drawn with replacement from the samples of a file."""

    histogram: HistogramFile


class JointFile(Section):
    """A CSV file with a header line; `columns` name the input and the output tokens of a row."""

    file: Text
    columns: Annotated[tuple[Text, Text], BeforeValidator(as_tuple)]


class Joint(Section):
    """Input and output drawn together, a row at a time, with replacement.

    Stands in `prompt_tokens`, and `output_tokens` is left out (or repeats the very same joint).
    """

    joint: JointFile


SHAPES = ("uniform", "lognormal", "normal", "histogram", "joint")


Distribution = Annotated[
    Annotated[Count, Tag(tag("number"))]
    | Annotated[Uniform, Tag(tag("uniform"))]
    | Annotated[Lognormal, Tag(tag("lognormal"))]
    | Annotated[Normal, Tag(tag("normal"))]
    | Annotated[Histogram, Tag(tag("histogram"))]
    | Annotated[Joint, Tag(tag("joint"))],
    Discriminator(member("number")),
    one_key(SHAPES, (int, float), "a whole number of tokens"),
]
