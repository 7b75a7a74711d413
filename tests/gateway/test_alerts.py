"""Alerts reach the URL they are for, in order, and nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from northstar_core.gateway.alerts import KEPT, AlertPost
from northstar_core.gateway.secrets import Secret
from northstar_core.model.world import AlertRaised, FeedDown

TS = 1_709_562_300_123 * 10**6


class Hook:
    """A chat service: keeps what it is sent; answers with the statuses it is told, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[dict[str, Any]] = []
        self.requests = 0
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.requests += 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.got.append(await request.json())
        return web.Response(status=status)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Hook]:
        app = web.Application()
        app.router.add_post("/T0/B0/hook-secret", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/T0/B0/hook-secret"
        try:
            yield self
        finally:
            await runner.cleanup()


def alert(severity: str = "critical", text: str = "books differ") -> AlertRaised:
    return AlertRaised(TS, severity, "live-1", text)


def with_hook(hook: Hook, act: Callable[[AlertPost], Awaitable[None]], least: str = "warning") -> AlertPost:
    async def run() -> AlertPost:
        async with hook.up():
            post = AlertPost(Secret(hook.url), least=least, desk="desk", again_s=(0.0, 0.0))
            await post.start()
            await act(post)
            await post.close(30.0)
            return post

    return asyncio.run(run())


def test_an_alert_is_posted_with_everything_that_says_what_it_is() -> None:
    hook = Hook()

    async def act(post: AlertPost) -> None:
        post.raised(17, alert())

    post = with_hook(hook, act)
    told = {
        "desk": "desk", "seq": 17, "time": "2024-03-04T14:25:00.123+00:00", "severity": "critical", "about": "live-1",
        "text": "books differ",
    }  # fmt: skip
    assert hook.got == [{"text": "critical: live-1: books differ", "alert": told, "dropped": 0}]
    assert (post.sent, post.dropped) == (1, 0)


@pytest.mark.parametrize(("least", "sent"), [("info", 3), ("warning", 2), ("critical", 1)])
def test_what_is_less_severe_than_wanted_stays_here(least: str, sent: int) -> None:
    hook = Hook()

    async def act(post: AlertPost) -> None:
        for n, severity in enumerate(("info", "warning", "critical")):
            post.raised(n, alert(severity))
        post.raised(9, FeedDown(TS, "massive", "gone"))

    with_hook(hook, act, least)
    assert [got["alert"]["seq"] for got in hook.got] == [0, 1, 2][3 - sent :]


def test_a_stumbling_service_is_tried_again_and_the_order_stays() -> None:
    hook = Hook(500, 429, 200)

    async def act(post: AlertPost) -> None:
        for n in range(5):
            post.raised(n, alert())

    post = with_hook(hook, act)
    assert [got["alert"]["seq"] for got in hook.got] == [0, 1, 2, 3, 4]
    assert (hook.requests, post.sent, post.dropped) == (7, 5, 0)


@pytest.mark.parametrize(("statuses", "requests"), [((404,), 2), ((302,) * 3, 4)])
def test_what_is_refused_is_given_up_told_and_counted(
    caplog: pytest.LogCaptureFixture, statuses: tuple[int, ...], requests: int
) -> None:
    hook = Hook(*statuses)

    async def act(post: AlertPost) -> None:
        post.raised(1, alert())
        post.raised(2, alert())

    with caplog.at_level(logging.WARNING, "northstar.alerts"):
        post = with_hook(hook, act)
    assert (hook.requests, post.sent, post.dropped) == (requests, 1, 1)
    assert [(got["alert"]["seq"], got["dropped"]) for got in hook.got] == [(2, 1)]
    assert caplog.messages == [f"alert 1 could not be sent: status {statuses[0]}"]


def test_nobody_there_costs_the_gateway_nothing_and_the_url_stays_secret(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> AlertPost:
        hook = Hook()
        async with hook.up():
            url = hook.url
        post = AlertPost(Secret(url), again_s=())
        await post.start()
        for n in range(3):
            post.raised(n, alert())
        await post.close(30.0)
        return post

    with caplog.at_level(logging.WARNING):
        post = asyncio.run(run())
    assert (post.sent, post.dropped) == (0, 3)
    assert "hook-secret" not in caplog.text and "127.0.0.1" not in caplog.text


def test_of_a_flood_the_newest_are_kept() -> None:
    async def run() -> AlertPost:
        post = AlertPost(Secret("http://127.0.0.1:9/"))
        for n in range(KEPT + 50):
            post.raised(n, alert())
        return post

    post = asyncio.run(run())
    assert post.dropped == 50 and [waiting["alert"]["seq"] for waiting in post._waiting] == list(range(50, KEPT + 50))
