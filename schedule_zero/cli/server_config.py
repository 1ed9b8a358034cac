"""``schedule-zero-server config``: what is in force and who said it; is it right?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schedule_zero.cli.output import show_json
from schedule_zero.cli.server_root import Given, ServerGroup, main
from schedule_zero.cli.terminal import say

if TYPE_CHECKING:
    from schedule_zero.settings import Settings


@main.group(cls=ServerGroup)
def config() -> None:
    """Show the settings, or check them."""


@config.command()
@click.option("--origin", is_flag=True, help="Say for each value where it comes from.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", help="[yaml]")
@click.pass_context
def show(ctx: click.Context, origin: bool, output: str) -> None:
    """Show every setting in force, without passwords. The YAML is a valid config.yaml."""
    from schedule_zero import settings

    loaded = ctx.ensure_object(Given).load()
    if output == "yaml":
        say(_as_yaml(loaded, origin=origin), nl=False)
    elif origin:
        values = settings.values(loaded.config)
        said = loaded.origins
        show_json(
            {
                path: {"value": value, "source": said[path].source, "where": said[path].where}
                for path, value in values.items()
            }
        )
    else:
        show_json(settings.masked(loaded.config))


def _as_yaml(loaded: Settings, *, origin: bool) -> str:
    """Two levels, one line per setting, so that a comment can say where it comes from."""
    from schedule_zero import settings

    lines: list[tuple[str, str]] = []
    section = ""
    for path, value in settings.values(loaded.config).items():
        head, dot, name = path.rpartition(".")
        if dot and head != section:
            section = head
            lines.append((f"{section}:", ""))
        indent = "  " if dot else ""
        # JSON is YAML, and quotes what has to be quoted.
        lines.append((f"{indent}{name}: {json.dumps(value, ensure_ascii=False)}", str(loaded.origins[path])))
    if not origin:
        return "".join(f"{line}\n" for line, _ in lines)
    width = min(max(len(line) for line, _ in lines), 60)
    return "".join(f"{line.ljust(width)}  # {said}\n" if said else f"{line}\n" for line, said in lines)


@config.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Check settings and handler_registry.yaml; ends with 78 and a list of all errors if something is wrong."""
    from schedule_zero.ops.registry_file import RegistryFile
    from schedule_zero.state_dir import REGISTRY

    loaded = ctx.ensure_object(Given).load()
    state = Path(loaded.config.state_dir)
    rules = RegistryFile(state / REGISTRY, Path(loaded.config.handler_registry)).read()
    for warning in loaded.warnings:
        say(f"warning: {warning}", err=True)
    where = str(loaded.file) if loaded.file else "no file, defaults"
    say(f"right: {where}; handlers declared: {', '.join(sorted(rules)) or 'none'}")
