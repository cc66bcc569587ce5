"""The command line. Parsing only: every command imports what it needs when it runs, so `--help` is quick."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def build() -> typer.Typer:
    """The command line as a typer app."""
    # Not at the head of the module: Ctrl-C while it is imported belongs to `main`.
    import typer

    from promptad.cli import (
        accept,
        bench,
        damage,
        data,
        demo,
        evaluate,
        fit,
        inspect,
        models,
        review,
        train,
        verify,
        watch,
    )

    app = typer.Typer(
        name="promptad",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # it would take "[c]" in the help texts for markup
        add_completion=True,
        help="Prompt-guided visual anomaly detection: photos and words in, verdicts and heat maps out.",
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version.", is_eager=True, callback=_show_version
        ),
    ) -> None:
        pass

    for command in (fit, inspect, watch, verify, review, accept, train, evaluate, bench, damage, demo):
        app.command(_name(command))(getattr(command, _name(command)))
    app.add_typer(data.app, name="data", help="Look through a data set, write it as a list or for a server.")
    app.add_typer(models.app, name="models", help="List, pull and check CLIP weights.")
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        import typer

        from promptad import __version__

        typer.echo(f"promptad {__version__}")
        raise typer.Exit


def _name(module: ModuleType) -> str:
    """Of a module with one command, which is called as it is."""
    return module.__name__.rpartition(".")[2]


def main() -> None:
    """Entry point of the `promptad` script and of `python -m promptad`."""
    try:
        from promptad.cli.console import show_notices
        from promptad.notices import collected_notices

        with show_notices(), collected_notices():  # a report shows what its command said before, too
            build()()
    except KeyboardInterrupt:  # while the command line itself is being built
        raise SystemExit(130) from None
