"""The gateway's process: ``python -m northstar_core.gateway --config FILE --home DIR``.

Prints one JSON line when it is ready and logs JSON lines to ``logs/gateway.log``. SIGTERM and SIGINT end it in order.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

from northstar_core.gateway.alerts import AlertPost
from northstar_core.gateway.clock import clock_of
from northstar_core.gateway.gateway import Gateway, socket_path
from northstar_core.gateway.logs import log_to
from northstar_core.gateway.observe import preflight
from northstar_core.gateway.one_trade import OneTrade
from northstar_core.gateway.remote import listen
from northstar_core.gateway.secrets import Redaction, account_secrets, feed_key, webhook_of
from northstar_core.gateway.settings import Settings, load_settings
from northstar_core.gateway.wiring import broker_of, feed_of
from northstar_core.model.errors import NorthstarError
from northstar_core.store.postgres import open_database

log = logging.getLogger("northstar.gateway")


def secrets_of(settings: Settings) -> Redaction:
    """Return what hides every secret of a configuration.

    Raises
    ------
    SettingsError
        If one cannot be read.
    """
    found = [secret for name in settings.accounts for secret in account_secrets(settings, name).values()]
    found += [feed_key(settings, name) for name, feed in settings.feeds.items() if feed.key]
    hook = webhook_of(settings)
    return Redaction([*found, hook] if hook is not None else found)


async def serve(settings: Settings) -> None:
    """Run a gateway until it is asked to stop."""
    async with open_database(settings.home) as database:
        gateway = Gateway(
            settings, database, clock_of(settings.clock), brokers=broker_of, feeds=feed_of, version=version("northstar-core"),
            observe=preflight, rules=OneTrade.of(settings),
        )  # fmt: skip
        handler = log_to(settings.home / "logs" / "gateway.log", lambda: gateway.desk.log.seq if gateway.ready else 0, secrets_of(settings))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, gateway.stopping.set)
        hook = webhook_of(settings)
        post = AlertPost(hook, least=settings.alerts.severity, desk=settings.desk.name) if hook is not None else None
        try:
            await gateway.start()
            # what starting left is here to stay; looking through it at each collection would hold up the desk for 0.1 s
            gc.collect()
            gc.freeze()
            if post is not None:
                await post.start()
                gateway.desk.on_fact.append(post.raised)
            ready = {"ready": True, "pid": os.getpid(), "socket": str(socket_path(settings.home)), "epoch": gateway.writer.epoch}
            print(json.dumps(ready), flush=True)
            log.info("ready, epoch %s", gateway.writer.epoch)
            remote = None if settings.remote is None else await listen(gateway.server, settings, settings.remote)
            try:
                await gateway.run()
            finally:
                if remote is not None:
                    remote.close()
            log.info("going down")
        finally:
            await gateway.close()
            if post is not None:
                await post.close()
            handler.close()
        if gateway.writer.failed is not None:
            raise NorthstarError(f"the event store failed: {gateway.writer.failed}")


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m northstar_core.gateway")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    given = parser.parse_args()
    try:
        asyncio.run(serve(load_settings(given.config, given.home)))
    except NorthstarError as error:
        print(f"northstar gateway: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
