"""Objects as YAML: one text of several documents, and the files of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from planner.manifests.kubernetes import Manifests
from planner.manifests.naming import checksum

MARK = "# Rendered by planner manifests"
_HEADER = f"{MARK}; change the scenario and render again. Checksum "
KUSTOMIZATION = "kustomization.yaml"
COMPOSE_FILE = "compose.yaml"
LOAD_TEST = "loadtest"
_FLEET = re.compile(r"^(?:name| +app\.kubernetes\.io/instance): '?([a-z][-a-z0-9]*)'?$", re.MULTILINE)
_ORDER = ("apiVersion", "kind", "metadata", "spec", "data", "name", "services")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, which people can read and compare; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def yaml_text(documents: Iterable[Mapping[str, Any]]) -> str:
    """Several YAML documents in one text, without a header; keys sorted but for an object's own first few."""
    return "".join(f"---\n{_document(document)}" for document in documents)


def headed(text: str) -> str:
    """A text below the header, which holds its checksum: what people changed by hand is known by it."""
    return f"{_HEADER}{checksum(text)}\n{text}"


def is_unchanged(text: str) -> bool:
    """Whether a text with a header is still as it was rendered. Line ends do not count: some tools change them."""
    plain = text.replace("\r\n", "\n")
    return headed(plain.partition("\n")[2]) == plain


def fleet_name(text: str) -> str | None:
    """The name of the fleet whose objects, or Compose project, a rendered text has; None of a text without one."""
    found = _FLEET.search(text)
    return None if found is None else found[1]


def one_document(document: Mapping[str, Any]) -> str:
    """A single YAML document with the header."""
    return headed(_document(document))


def folder_files(manifests: Manifests, namespace: str | None = None) -> dict[str, str]:
    """{relative path: text} of a folder that `kubectl apply -k` takes: one file for each kind, and the load test in a
    folder of its own that nothing but `kubectl apply -k …/loadtest` runs.
    """
    return {
        **_kustomized(manifests.standing, "", namespace),
        **(_kustomized(manifests.load_test, f"{LOAD_TEST}/", namespace) if manifests.load_test else {}),
    }


def _kustomized(objects: list[dict[str, Any]], folder: str, namespace: str | None) -> dict[str, str]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for made in objects:
        kinds.setdefault(made["kind"], []).append(made)
    files = {f"{kind.lower()}.yaml": headed(yaml_text(made)) for kind, made in kinds.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **({"namespace": namespace} if namespace else {}),
        "resources": sorted(files),
    }
    return {f"{folder}{name}": text for name, text in (*files.items(), (KUSTOMIZATION, one_document(kustomization)))}


def _document(document: Mapping[str, Any]) -> str:
    first = [key for key in _ORDER if key in document]
    ordered = {key: _sorted(document[key]) for key in (*first, *sorted(document.keys() - set(first)))}
    text: str = yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _sorted(value: Any) -> Any:
    """Keys in order; `name` first, as people look for it."""
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: (key != "name", key))
        return {key: _sorted(value[key]) for key in keys}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value
