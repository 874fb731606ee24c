"""`planner manifests`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from planner.cli.options import find_scenario
from planner.cli.output import warn, write_file
from planner.cli.plan_documents import is_document, plan_document

PARTS = ("autoscaling", "exporter", "monitoring")


class _Folder(click.Path):
    """A folder to write into. An empty text, as of a variable that is not set, would be the current one."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error for an empty one."""
        if str(value) == "":
            self.fail("is empty; give a folder, or . for this one.", param, ctx)
        return super().convert(value, param, ctx)


@click.command(short_help="A plan as Kubernetes objects, or as a Compose project for one box.")
@click.argument("source", metavar="PLAN")
@click.option(
    "--out",
    type=_Folder(),
    metavar="DIR",
    help="Write a file for each kind and a kustomization.yaml to DIR instead of standard output.",
)
@click.option("--compose", "as_compose", is_flag=True, help="A Compose project for one box instead.")
@click.option("--name", metavar="NAME", help="Beginning of every object's name (default: from the scenario's name).")
@click.option("--namespace", metavar="NAMESPACE", help="Namespace to write into every object (default: none).")
@click.option("--image", metavar="IMAGE", help="vLLM's image, best by digest (default: that of the plan's version).")
@click.option("--planner-image", metavar="IMAGE", help="The planner's own image (default: by this version's name).")
@click.option("--checkpoint", metavar="NAME", help="Repository or path to serve, in the plan's own weight format.")
@click.option(
    "--vllm-arg", "vllm_args", multiple=True, metavar="FLAG=VALUE", help="One more flag of vLLM's; repeatable."
)
@click.option("--model-cache", metavar="CLAIM", help="Keep downloaded weights on this existing volume claim.")
@click.option("--prometheus-url", metavar="URL", help="Where the autoscaler and the exporter ask.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="One more label of PodMonitors and PrometheusRule, as release=NAME; repeatable.",
)
@click.option(
    "--cpu", type=click.IntRange(1, 1024), metavar="N", help="CPUs that a replica asks for (default: a rule)."
)
@click.option(
    "--autoscale",
    is_flag=True,
    help="Let KEDA scale; else it is held at the plan's size, unless the plan has an autoscaler.",
)
@click.option("--without", multiple=True, type=click.Choice(PARTS), help="Leave a part out; may be repeated.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Of a scenario: change a key; may be repeated."
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of a scenario: queries to count in a run, after its warm-up.",
)
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Of a scenario: random seed.  [default: 0]")
def manifests(
    source: str,
    out: Path | None,
    as_compose: bool,
    name: str | None,
    namespace: str | None,
    image: str | None,
    planner_image: str | None,
    checkpoint: str | None,
    vllm_args: tuple[str, ...],
    model_cache: str | None,
    prometheus_url: str | None,
    labels: tuple[str, ...],
    cpu: int | None,
    autoscale: bool,
    without: tuple[str, ...],
    settings: tuple[str, ...],
    requests: int | None,
    seed: int | None,
) -> None:
    """What deploys a plan: vLLM's replicas, router, disruption budgets, autoscaler, monitoring, exporter, load test.

    PLAN is the JSON document that `planner plan --out` wrote, or a scenario or example, which is then planned first.
    Of other files only those are read that its scenario names, from PLAN's folder on; exporter and load test get what
    they hold. Standard output has the objects that stand; --out also writes the load test, into a folder of its own.
    Keys come from a secret that you make, NAME-secrets with hf-token, api-key and prometheus-token; they are never
    written.

    \b
    planner plan ai-search --out plan.json
    planner manifests plan.json --namespace search | kubectl apply --server-side -f -
    planner manifests plan.json --out fleet && kubectl apply --server-side -k fleet
    planner manifests demo --compose > compose.yaml && docker compose up
    """
    from planner.manifests.autoscaling import LEFT_OUT
    from planner.manifests.compose import ROUTERS, compose
    from planner.manifests.facts import one_size, read_facts
    from planner.manifests.haproxy import admission_notes
    from planner.manifests.kubernetes import kubernetes
    from planner.manifests.scenario_files import notes
    from planner.manifests.settings import checked_settings
    from planner.manifests.text import COMPOSE_FILE, folder_files, headed, one_document, yaml_text

    chosen = checked_settings(
        name=name,
        namespace=namespace,
        image=image,
        planner_image=planner_image,
        checkpoint=checkpoint,
        vllm_args=vllm_args,
        model_cache=model_cache,
        prometheus_url=prometheus_url,
        labels=labels,
        cpu=cpu,
        autoscale=autoscale,
        without=without,
    )
    if labels and "monitoring" in without:
        raise click.UsageError("--label: nothing to label with --without monitoring.")
    if autoscale and "autoscaling" in without:
        raise click.UsageError("--autoscale: there is no autoscaler with --without autoscaling; give only one of them.")
    if as_compose and namespace is not None:
        raise click.UsageError("--namespace: a Compose project has none; it is named by --name.")
    document, where = plan_document(source, settings, requests, seed)
    path = Path(source)
    facts = read_facts(document, where, (path if is_document(path) else find_scenario(source)).parent)
    for note in notes(facts.files):
        warn(note)
    if as_compose:
        text = one_document(compose(facts, chosen))
        files = {COMPOSE_FILE: text}
        for note in [*admission_notes(one_size(facts), ROUTERS), *([LEFT_OUT] if facts.scaler is not None else [])]:
            warn(note)
    else:
        made = kubernetes(facts, chosen)
        for note in made.notes:
            warn(note)
        text = headed(yaml_text(made.standing))
        files = folder_files(made, namespace) if out is not None else {}
    if out is None:
        click.echo(text, nl=False)
    else:
        _write(out, files)


def _write(out: Path, files: dict[str, str]) -> None:
    """Write the folder, or nothing at all where something that is not ours stands in the way; say what was written.

    A file of an earlier rendering that this one has no longer is left, and named: it may be deployed. So may a fleet of
    another name, whose files these replace. A folder within that has a kustomization.yaml of its own is another's.
    """
    from planner.manifests.text import KUSTOMIZATION, LOAD_TEST, MARK, fleet_name, is_unchanged

    replaced: dict[str, str] = {}
    for path in (out / name for name in files):
        if path.exists() and not _is_ours(path, MARK):
            raise click.UsageError(f"{path}: was not written by planner manifests; give another --out DIR.")
        if path.exists() and not is_unchanged(path.read_text(encoding="utf-8", errors="replace")):
            rule = "was changed since planner manifests wrote it; delete it to have it anew, or give another --out DIR"
            raise click.UsageError(f"{path}: {rule}.")
        if path.exists():
            earlier = fleet_name(path.read_text(encoding="utf-8"))
            now = fleet_name(files[path.relative_to(out).as_posix()])
            if earlier is not None and now is not None and earlier != now:
                replaced[earlier] = now
    for folder in sorted({(out / name).parent for name in files}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.FileError(str(folder), error.strerror) from None
    for name, text in files.items():
        write_file(out / name, text)
        click.echo(f"wrote {out / name}")
    for earlier, now in replaced.items():
        warn(f"{out}: had the fleet {earlier}, now has {now}; {earlier}, if deployed, runs on until you delete it")
    others = {one.parent for one in out.rglob(KUSTOMIZATION)} - {out, out / LOAD_TEST}
    for path in sorted(out.rglob("*.yaml")):
        is_anothers = not others.isdisjoint(path.parents)
        if path.relative_to(out).as_posix() not in files and not is_anothers and _is_ours(path, MARK):
            warn(f"{path}: of an earlier rendering, no longer part of this plan; delete it")


def _is_ours(path: Path, mark: str) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(mark)) == mark.encode()
    except OSError:
        return False
