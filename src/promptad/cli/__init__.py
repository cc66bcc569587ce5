"""The command line. Parsing only: every command imports what it needs when it runs, so `--help` is quick."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def build() -> typer.Typer:
    """The command line as a typer app."""
    # Not at the head of the module: Ctrl-C while it is imported belongs to `main`.
    import typer

    from promptad.cli import bench, damage, data, demo, evaluate, fit, inspect, models, review, train, verify, watch

    app = typer.Typer(
        name="promptad",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # it would take "[c]" in the help texts for markup
        add_completion=True,
        help="Prompt-guided visual anomaly detection: photos and words in, verdicts and heat maps out.",
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            from promptad import __version__

            typer.echo(f"promptad {__version__}")
            raise typer.Exit

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", help="Print the version.", is_eager=True, callback=show_version
        ),
    ) -> None:
        pass

    app.command("fit")(fit.fit)
    app.command("inspect")(inspect.inspect)
    app.command("watch")(watch.watch)
    app.command("verify")(verify.verify)
    app.command("review")(review.review)
    app.command("train")(train.train)
    app.command("evaluate")(evaluate.evaluate)
    app.command("bench")(bench.bench)
    app.command("damage")(damage.damage)
    app.command("demo")(demo.demo)
    app.add_typer(data.app, name="data", help="Look through a data set, write it as a list or for a server.")
    app.add_typer(models.app, name="models", help="List, pull and check CLIP weights.")
    return app


def main() -> None:
    """Entry point of the `promptad` script and of `python -m promptad`."""
    try:
        from promptad.cli.console import show_notices
        from promptad.notices import collected_notices

        with show_notices(), collected_notices():  # a report shows what its command said before, too
            build()()
    except KeyboardInterrupt:  # while the command line itself is being built
        raise SystemExit(130) from None
