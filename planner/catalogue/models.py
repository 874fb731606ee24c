"""Models by name, alias or the path of a Hugging Face config.json."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from planner.catalogue.hf_config import read_config
from planner.catalogue.tables import Row, flag, names_of, read_rows, read_table, whole
from planner.errors import UnknownNameError, nearest_names
from planner.provenance import Kind, Provenance
from planner.specs import Experts, LatentAttention, Model, Quantization

if TYPE_CHECKING:
    import pandas as pd

FILE = "models.csv"
INSTRUCT = "-instruct"


def model(name_or_path: str, base: Path | None = None) -> Model:
    """The model of a catalogue name, an alias, or a config.json.

    Names do not depend on case. Aliases are the full Hugging Face name and either name with `-instruct`, which
    selects the instruction-tuned repository of the same shape. A value that ends in `.json`, or that names
    something on disk, is a path relative to `base` (the scenario's directory; None: as it stands).

    Raises `UnknownNameError` with the nearest names, and for a path whatever `hf_config.read_config` raises.
    """
    if not name_or_path.lower().endswith(".json"):
        found = _by_name().get(name_or_path.strip().lower())
        if found:
            return found
    path = (base or Path()) / name_or_path
    if name_or_path.lower().endswith(".json") or _exists(path):
        return read_config(path)
    wanted = name_or_path.rsplit("/", 1)[-1].lower().removesuffix(INSTRUCT)
    raise UnknownNameError(
        "model",
        name_or_path,
        "is not in the catalogue; give a name of `planner catalogue models` or the path of a config.json",
        nearest_names(wanted, model_names()),
    )


def model_names() -> list[str]:
    """Every catalogue name, without aliases, in the order of the catalogue."""
    return [row["name"] for row in read_rows(FILE)]


def models_table() -> pd.DataFrame:
    """The catalogue's models, one row each, columns as in `data/models.csv`."""
    return read_table(FILE)


def model_provenance(model: Model) -> list[Provenance]:
    """Where the model's shape and its published weight format come from."""
    kind: Kind = "assumed" if model.shape_assumed else "datasheet"
    shape = f"{model.layers} layers, hidden {model.hidden}, {model.heads} heads, {model.kv_heads} KV heads"
    errs = "unknown" if model.shape_assumed else ""
    return [Provenance(f"model.{model.name}", kind, model.source, value=shape, errs=errs)]


@cache
def _by_name() -> dict[str, Model]:
    known: dict[str, Model] = {}
    for row in read_rows(FILE):
        base = _model(row)
        names = [base.name, *names_of(row), *([base.hf_repo.lower()] if base.hf_repo else [])]
        tuned = replace(base, hf_repo=row["instruct_repo"] or base.hf_repo)
        for name in names:
            known[name] = base
            if base.hf_repo and not name.endswith(INSTRUCT):
                known[name + INSTRUCT] = tuned
        if row["instruct_repo"]:
            known[row["instruct_repo"].lower()] = tuned
    return known


def _model(row: Row) -> Model:
    def optional(column: str) -> int | None:
        return whole(row[column]) if row[column] else None

    experts = latent = None
    if row["experts"]:
        experts = Experts(
            count=whole(row["experts"]),
            per_token=whole(row["experts_per_token"]),
            ffn=whole(row["expert_ffn"]),
            shared_ffn=whole(row["shared_ffn"]),
            dense_layers=whole(row["dense_layers"]),
        )
    if row["mla_kv_rank"]:
        latent = LatentAttention(
            kv_rank=whole(row["mla_kv_rank"]),
            rope_dim=whole(row["mla_rope_dim"]),
            q_rank=whole(row["mla_q_rank"]),
            nope_dim=whole(row["mla_nope_dim"]),
            value_dim=whole(row["mla_value_dim"]),
        )
    inferred = f"; inferred: {row['inferred'].replace(';', ', ')}" if row["inferred"] else ""
    return Model(
        name=row["name"],
        hf_repo=row["hf_repo"] or None,
        architecture=row["architecture"],
        layers=whole(row["layers"]),
        hidden=whole(row["hidden"]),
        heads=whole(row["heads"]),
        kv_heads=whole(row["kv_heads"]),
        head_dim=whole(row["head_dim"]),
        ffn=whole(row["ffn"]),
        vocab=whole(row["vocab"]),
        tied_embeddings=flag(row["tied_embeddings"]),
        max_position=whole(row["max_position_tokens"]),
        gated_ffn=flag(row["gated_ffn"]),
        experts=experts,
        latent=latent,
        sliding_window=optional("sliding_window_tokens"),
        windowed_layers=optional("windowed_layers") or 0,
        checkpoint=cast("Quantization", row["checkpoint"]),
        quantized_experts_only=flag(row["quantized_experts_only"]),
        shape_assumed=row["shape"] == "assumed",
        source=f"{row['source']}{inferred}, read {row['date']}",
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for a file system is a name all the same
        return False
