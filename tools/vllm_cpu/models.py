"""Write the two tiny models that real vLLM serves on a CPU: configurations and a tokenizer, no weights.

vLLM fills the weights with random numbers (`--load-format dummy`), which costs what real ones cost. The
configurations are the examples' own, so that a scenario and the server speak of one model.

    python tools/vllm_cpu/models.py DIR         writes DIR/cpu-tiny and DIR/cpu-tiny-moe
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DENSE, MOE = "cpu-tiny", "cpu-tiny-moe"

# One word is one token and no token is added, so that a text of n words is a prompt of exactly n tokens.
CHAT_TEMPLATE = "{{ messages | map(attribute='content') | join(' ') }}"


def write_models(directory: Path) -> list[Path]:
    """Write both models below `directory` and give their folders back, dense first."""
    return [write_model(directory / name, EXAMPLES / name / "config.json") for name in (DENSE, MOE)]


def write_model(folder: Path, config: Path) -> Path:
    """Write what vLLM needs to serve `config` with random weights into `folder`, and give it back."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config, folder / "config.json")
    settings = json.loads(config.read_text())
    words = [f"w{token}" for token in range(settings["vocab_size"])]
    bos, eos = words[settings["bos_token_id"]], words[settings["eos_token_id"]]
    write_json(folder / "tokenizer.json", tokenizer(words, [bos, eos]))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "eos_token": eos,
            "unk_token": words[0],
            "model_max_length": settings["max_position_embeddings"],
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": settings["bos_token_id"], "eos_token_id": settings["eos_token_id"]},
    )
    return folder


def tokenizer(words: list[str], special: list[str]) -> dict[str, object]:
    """A word-level tokenizer in the `tokenizers` library's own format; an unknown word is `words[0]`."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": words.index(word),
                "content": word,
                "single_word": True,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for word in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(words)}, "unk_token": words[0]},
    }


def write_json(path: Path, document: dict[str, object]) -> None:
    """Write `document` as indented JSON."""
    path.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: models.py DIR")
    for written in write_models(Path(sys.argv[1])):
        print(written)
