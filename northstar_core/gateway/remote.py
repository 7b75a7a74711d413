"""Sessions from other hosts: the same protocol over TCP with TLS. A token opens a session there as here; nothing is spoken in the clear."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from northstar_core.gateway.files import owned_secret
from northstar_core.gateway.sessions import Connection, SessionServer
from northstar_core.gateway.settings import RemoteSettings, Settings
from northstar_core.model.errors import SettingsError


def context_of(settings: Settings, remote: RemoteSettings) -> ssl.SSLContext:
    """Return the gateway's side of TLS: version 1.2 or later.

    Raises
    ------
    SettingsError
        If the certificate or its key cannot be read, do not belong together, or the key is open to others.
    """
    base = settings.path.parent
    certificate = base / Path(remote.certificate).expanduser()
    key = base / Path(remote.key.removeprefix("file:")).expanduser()
    owned_secret(key)  # refuses one that others could read
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"remote: {certificate} and its key: {error}") from None
    return context


async def listen(server: SessionServer, settings: Settings, remote: RemoteSettings) -> asyncio.Server:
    """Let sessions in from other hosts.

    Raises
    ------
    SettingsError
        If TLS cannot be set up, or the port is taken.
    """
    context = context_of(settings, remote)
    try:
        return await asyncio.get_running_loop().create_server(
            lambda: Connection(server), remote.host, remote.port, ssl=context
        )
    except OSError as error:
        raise SettingsError(f"remote: {remote.host}:{remote.port} cannot be listened on: {error.strerror or error}") from None
