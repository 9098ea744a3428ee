"""alerts: the channels that are told when a share of a budget is reached."""

import typer

from memlane.cli.output import Output, table
from memlane.cli.session import Json

alerts = typer.Typer(no_args_is_help=True, help="The channels that are told when a share of a budget is reached.")


@alerts.callback()
def _group() -> None:
    """The channels that are told when a share of a budget is reached."""


@alerts.command("test")
def tell_channels(as_json: Json = False) -> None:
    """Send a message to each channel of MEMLANE_ALERT_URLS, as set here, and say what came of it.

    The exit code is 1 if one did not take it.

    Example: memlane alerts test
    """
    from memlane.beat.channels import tell  # only with memlane[server]
    from memlane.config.logging import configure_logging
    from memlane.config.settings import load_settings
    from memlane.errors import Misconfigured

    settings = load_settings()
    configure_logging(settings)
    if not settings.alert_urls:
        raise Misconfigured("no channel is set: MEMLANE_ALERT_URLS='[\"json://host/path\"]', as apprise writes them")
    found = tell(settings.alert_urls, "memlane: a test", "This is a test. Alerts of budgets come here.")
    rows = [(one.channel, one.why or "told") for one in found]
    Output(as_json).result(found, table("", ["channel", "what came of it"], rows))
    if any(one.why for one in found):
        raise typer.Exit(1)
