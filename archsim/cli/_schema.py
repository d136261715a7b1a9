"""``archsim schema``: JSON Schema of the files people write, for editors."""

from __future__ import annotations

import json

import click


@click.command("schema", short_help="Print the JSON Schema of a file format.")
@click.argument(
    "file",
    type=click.Choice(("architecture", "hierarchy", "spatial", "constraints", "energy", "suite")),
)
def schema_command(file: str) -> None:
    """Print the JSON Schema of a file format, for an editor's completion and checks.

    \b
    Examples:
      archsim schema architecture > architecture.schema.json
    """
    from archsim._architecture_file import architecture_schema
    from archsim._constraints_file import constraints_schema
    from archsim._energy_file import energy_schema
    from archsim._hierarchy_file import hierarchy_schema
    from archsim._spatial_file import spatial_schema
    from archsim.cli._regress_suite import suite_schema

    schemas = {
        "architecture": architecture_schema,
        "hierarchy": hierarchy_schema,
        "spatial": spatial_schema,
        "constraints": constraints_schema,
        "energy": energy_schema,
        "suite": suite_schema,
    }
    click.echo(json.dumps(schemas[file](), indent=2))
