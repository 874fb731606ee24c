"""The calibration file: what a load test said about one deployment's step cost, as JSON that is checked when read.

A factor multiplies one part of the planner's own step cost (`planner.deployment.parts` cuts it).
`reference` is that part's size by the planner that calibrated, so that a later planner with other constants still
arrives at the seconds that were measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from planner.errors import DataFileError, nearest_names
from planner.scenario.types import as_tuple, whole

SCHEMA_VERSION = 1
MOST_BYTES = 20_000_000
SYMMETRIC = 1e-6  # relative: what rounding may leave between a covariance and its mirror image
Part = Literal[
    "step",
    "tokens",
    "sequences",
    "experts",
    "decode_attention",
    "prefill_attention",
    "prefill_step",
    "frontend",
    "frontend_token",
]
Number = Annotated[float, Field(gt=0, le=1e12)]
Spread = Annotated[float, Field(ge=0, le=20)]
Size = Annotated[int, Field(ge=1, le=2**40), BeforeValidator(whole)]
Row = Annotated[tuple[float, ...], BeforeValidator(as_tuple)]


class _Checked(BaseModel):
    """A mapping of the file: strict types, unknown keys refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Identity(_Checked):
    """What a calibration belongs to: none of this may differ in the deployment that uses it."""

    model: str
    hardware: str
    quantization: str
    kv_cache_dtype: str
    tensor_parallel_size: Size
    pipeline_parallel_size: Size
    data_parallel_size: Size
    enable_expert_parallel: bool
    enforce_eager: bool
    async_scheduling: bool
    vllm_version: str  # the release, "0.32"


class Memory(_Checked):
    """What the reported KV cache depends on beside the identity."""

    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)]
    max_num_seqs: Size
    max_num_batched_tokens: Size


class Coefficient(_Checked):
    """One part of the step cost. `low` and `high` are the ends of the factor's 95 % interval.

    `kept`: the recorded runs could not tell the factor, nor did it matter in them; it is the planner's own.
    `largest_share` is the part's share of the time that it belongs to, in the run where it is largest.
    """

    part: Part
    status: Literal["calibrated", "kept"]
    factor: Number
    low: Number
    high: Number
    reference: Number
    reference_at: str
    seconds: Annotated[float, Field(ge=0, le=1e12)]
    largest_share: Annotated[float, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Coefficient:
        if not self.low <= self.factor <= self.high:
            raise ValueError("must lie between low and high")
        return self


class Record(_Checked):
    """A file that the calibration was made from. `ended`: None where its format does not say how the run did."""

    file: str
    sha256: str
    format: str
    requests: Size
    answered: Size
    duration_s: Annotated[float, Field(ge=0)]
    ended: Literal["complete", "interrupted", "failed", "killed"] | None = None


class Compared(_Checked):
    """A figure measured and simulated with the calibrated cost; `error` = simulated ÷ measured − 1."""

    measured: float
    simulated: float
    error: float


class Residual(_Checked):
    """How well the calibrated simulator repeats one run it was calibrated on."""

    run: str
    figures: dict[str, Compared]


class Range(_Checked):
    """What the recorded runs covered: 1st and 99th percentile over engine steps or requests."""

    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(ge=0)]


class Calibration(_Checked):
    """A calibration file. `covariance` is of the logs of the calibrated factors, in the order of `coefficients`;
    `misfit_log_sd` is what those factors leave unexplained between runs.
    """

    schema_version: Literal[1]
    date: str
    deployment: Identity
    memory: Memory
    kv_cache_tokens: Size | None = None
    server: dict[str, Any] = {}
    coefficients: Annotated[tuple[Coefficient, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    covariance: Annotated[tuple[Row, ...], BeforeValidator(as_tuple)]
    misfit_log_sd: Spread
    covered: dict[str, Range] = {}
    records: Annotated[tuple[Record, ...], BeforeValidator(as_tuple), Field(min_length=1)]
    residuals: Annotated[tuple[Residual, ...], BeforeValidator(as_tuple)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Calibration:
        parts = [one.part for one in self.coefficients]
        if len(set(parts)) < len(parts):
            raise ValueError("names a part twice")
        size = len(self.calibrated)
        if len(self.covariance) != size or any(len(row) != size for row in self.covariance):
            raise ValueError(f"must have {size} rows and columns, one for each calibrated coefficient")
        for index, row in enumerate(self.covariance):
            if row[index] < 0 or not all(math.isfinite(value) for value in row):
                raise ValueError("must hold finite numbers, none below 0 on its diagonal")
            if any(abs(value - self.covariance[at][index]) > SYMMETRIC for at, value in enumerate(row)):
                raise ValueError("must be symmetric")
            if any(value**2 > row[index] * self.covariance[at][at] + SYMMETRIC for at, value in enumerate(row)):
                raise ValueError("must hold no covariance above its two standard deviations' product")
        return self

    @property
    def calibrated(self) -> tuple[Coefficient, ...]:
        """The coefficients that the recorded runs told."""
        return tuple(one for one in self.coefficients if one.status == "calibrated")


def read_calibration(path: Path, key: str = "calibration") -> Calibration:
    """The file that a scenario's `calibration` names. Raises DataFileError with key, value and rule."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataFileError(key, path, f"larger than {MOST_BYTES // 1_000_000} MB")
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataFileError(key, path, "no such file; planner calibrate writes one") from None
    except OSError as error:
        raise DataFileError(key, path, f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise DataFileError(key, path, f"is not JSON: {error}") from None
    return checked_calibration(document, path, key)


def checked_calibration(document: Any, path: Path, key: str = "calibration") -> Calibration:
    """The document as a Calibration; DataFileError for the first of its faults."""
    if not isinstance(document, Mapping) or "coefficients" not in document:
        raise DataFileError(key, path, "is no calibration file; planner calibrate writes one")
    if document.get("schema_version") != SCHEMA_VERSION:
        rule = f"{path.name}: is not a version that this planner reads"
        raise DataFileError(f"{key}.schema_version", document.get("schema_version"), rule, str(SCHEMA_VERSION))
    try:
        return Calibration.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    first = problems[0]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"])
    more = f" (and {len(problems) - 1} more to correct)" if len(problems) > 1 else ""
    whole_mapping = first["type"] in ("missing", "value_error")
    rule = f"{path.name}: {_rule(first)}{more}"
    known = [*Calibration.model_fields, *Coefficient.model_fields, *Identity.model_fields, *Memory.model_fields]
    unknown = first["type"] == "extra_forbidden"
    nearest = nearest_names(str(first["loc"][-1]), known, count=1) if unknown else None
    raise DataFileError(f"{key}{place}", None if whole_mapping else first["input"], rule, nearest)


def _rule(problem: Any) -> str:
    context = problem.get("ctx", {})
    if problem["type"] == "value_error":
        return str(context.get("error", problem["msg"]))
    for name, sign in {"gt": ">", "ge": ">=", "le": "<="}.items():
        if name in context:
            return f"must be {sign} {context[name]:g}"
    known = {
        "missing": "is required",
        "extra_forbidden": "is an unknown key",
        "finite_number": "must be finite",
        "float_type": "must be a number",
        "int_type": "must be a whole number",
        "bool_type": "must be true or false",
        "string_type": "must be text",
        "too_short": "must not be empty",
    }
    if problem["type"] == "literal_error":
        return f"must be {context['expected']}"
    return known.get(problem["type"], "is not valid")
