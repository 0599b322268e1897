"""Knows every part: builds them, opens them in order, closes them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from redis.asyncio import Redis

from . import pages
from .adapters import authelia, oauth2_proxy
from .adapters.callers import as_it_is, holding
from .adapters.connection import CheckServer
from .adapters.listener import CheckListener
from .adapters.oauth2_pages import Pages, whose_session
from .adapters.wire import Profile, Trusted, Wording
from .admin import AdminOptions, build
from .admin.tokens import Grant, Grants
from .alerts import Alert
from .authorizer import Authorizer
from .binding import Binding
from .config import ProfileName, Settings
from .config.settings import Assertion as AssertionSettings
from .config.settings import Policy as PolicySettings
from .credentials import CookieOptions
from .decision import Decision
from .delivery import Delivery
from .devices import load_parser
from .embedded import EmbeddedValkey
from .errors import ConfigurationError, StoreUnavailable
from .geo import Geo
from .identity import HeaderSet, standing_of
from .listening import Door, GrpcListening, Listening
from .model import Actor, CheckRequest, Standing
from .policy import Policy
from .ports import SignInRules
from .reloading import Reloading, Source
from .rules import Access, RuleSpec
from .sessions import Sessions
from .shadow import Shadow
from .sightings import Sightings
from .sockets import bind, tls_context
from .store import (
    AlertQueue,
    Lists,
    MemoryOptions,
    RedisStore,
    connect,
    link_with,
    no_link,
)
from .telemetry import CheckObserver, Metrics, NearCacheFigures, configure_logs
from .touches import Touches
from .workers import Inbox, Workers, read_assignment, report

if TYPE_CHECKING:
    from .assertion import Assertions  # imported where it is used: it takes 0.1 s

_RETRY_OPEN_S = 0.5
_POLL_S = 5.0
_REPORT_S = 1.0
_WORKER_OPENS_S = 2.0
_CANCEL_AGAIN_S = 0.1

log = structlog.get_logger("gateway")


class App:
    """One gateway process. `run` returns after SIGTERM or SIGINT, when all is closed.

    With `sockets` it is a worker: it answers checks on these and has no admin API.
    """

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        sockets: Sequence[socket.socket] = (),
        source: Source | None = None,
    ) -> None:
        self._settings = settings
        self._redis_url = redis_url
        self._sockets = sockets
        self._workers: Workers | None = None
        self._metrics = Metrics()
        native = settings.identity.native
        others = tuple(settings.identity.of(name) for name in settings.check.profiles)
        bonds = settings.binding.bonds
        self._stand = partial(
            standing_of, native=native, profiles=others, bound=bonds.are_on
        )
        self._store = self._build_store(redis_url)
        self._metrics.near_cache = self._near_cache_figures
        self._opened = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self._touches = Touches(self._store, settings.session.lifetime.touch_interval_ms)
        self._geo = Geo(settings.geo.city, settings.geo.asn, self._count_geo)
        if not sockets:
            self._geo.open()
        self._assertions = _assertions(settings.identity.assertion)
        self._sessions = Sessions(
            self._store, self._sign_in_rules(), settings.redis.partitions, (native, *others),
            self._geo.locate,
        )  # fmt: skip
        self._sightings = Sightings(self._store, self._end_for, self._geo.locate)
        self._binding = Binding(bonds, self._geo.locate, self._sightings.note)
        self._holding = holding(self._binding.hold) if bonds.are_on else as_it_is
        self._observer = CheckObserver(self._metrics, log_denials=settings.log.denials)
        self._authorizer = self._build_authorizer(
            Policy(settings.policy.specs(), locate=self._geo.locate), self._touches.note
        )
        self._use(settings.policy)
        self._reloading = Reloading(
            source or Source(None), settings, apply=self._take_over, count=self._count_reload
        )
        self._delivery = Delivery(settings, redis_url, self._metrics)
        self._trusted = Trusted(settings.check.trusted_proxies, settings.check.trusted_hops)
        self._check = self._build_check()

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        if not self._sockets:
            load_parser()
            loop.add_signal_handler(signal.SIGHUP, self._reloading.ask)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._store.close)
            stack.push_async_callback(self._delivery.close)
            await self._background(stack, self._touches.run())
            await self._background(stack, self._keep_open())
            await self._background(stack, self._geo.run())
            await self._background(stack, self._sightings.run())
            if self._sockets:
                await self._background(stack, self._report())
            else:
                await self._background(stack, self._watch_replicas())
                await self._background(stack, self._delivery.run(self._opened))
                await self._background(stack, self._alert_queue.run())
                await self._serve_admin(stack)
                await self._serve_pages(stack)
            leave = await self._serve_checks(stack)
            if not self._sockets:
                await self._background(stack, self._reloading.run())
            await self._stopping.wait()
            if self._failure is None:
                log.info("draining")
                await leave()
            if self._sockets:
                report(self._metrics.figures())
        log.info("stopped")
        if self._failure is not None:
            raise self._failure

    def _build_store(self, redis_url: str) -> RedisStore:
        redis, metrics = self._settings.redis, self._metrics
        client = connect(
            redis_url, username=redis.username, password=redis.password.get_secret_value()
        )
        self._alert_queue = self._build_alert_queue(client)
        links = self._settings.alerts.links
        return RedisStore(
            client,
            prefix=redis.prefix,
            partitions=redis.partitions,
            outbox_limit=self._settings.events.outbox_limit,
            count_error=metrics.count_store_error,
            on_lost_event=self._lost_events,
            on_alerts=self._raised,
            memory=self._memory_options(),
            stand=self._stand,
            link=no_link if links is None else link_with(links),
        )

    def _build_alert_queue(self, client: Redis) -> AlertQueue:
        redis, alerts, metrics = self._settings.redis, self._settings.alerts, self._metrics

        def count_pushed(count: int) -> None:
            metrics.alerts_pushed += count

        def count_dropped(count: int) -> None:
            metrics.alerts_dropped += count

        return AlertQueue(
            client,
            redis.prefix,
            redis.partitions,
            Lists(alerts.lists, alerts.list_limit),
            count_error=metrics.count_store_error,
            count_pushed=count_pushed,
            count_dropped=count_dropped,
        )

    def _raised(self, alerts: tuple[Alert, ...]) -> None:
        for alert in alerts:
            self._metrics.alerts[alert.type, alert.action] += 1
            log.info("alert", type=alert.type, action=alert.action, details=alert.details)
        self._alert_queue.note()

    def _count_geo(self, result: str) -> None:
        self._metrics.geo_reads[result] += 1
        self._binding.forget()

    def _near_cache_figures(self) -> NearCacheFigures | None:
        near = self._store.near
        if near is None:
            return None
        reads = {"hit": near.hits, "miss": near.misses, "untrusted": near.untrusted}
        return NearCacheFigures(reads, len(near), near.bytes, near.fresh())

    def _memory_options(self) -> MemoryOptions | None:
        near, revocation = self._settings.near_cache, self._settings.revocation
        if not near.enabled:
            return None
        return MemoryOptions(
            revocation.lease, revocation.confirm_timeout, near.max_entries, near.max_bytes
        )

    def _lost_events(self, count: int) -> None:
        self._metrics.events_lost += count
        log.error("events_lost", count=count, why="Redis had no memory for them")

    def _build_check(self) -> CheckListener:
        settings = self._settings
        return CheckListener(
            self._authorizer,
            self._wording(settings.identity.native),
            self._trusted,
            profiles=[self._build_profile(*each) for each in enumerate(settings.check.profiles)],
            holding=self._holding,
            observe=self._observer,
            on_fault=lambda error: log.error("check_failed", exc_info=error),
            on_stranger=self._observer.note_stranger,
        )

    def _wording(self, told: HeaderSet, profile: int | None = None) -> Wording:
        settings = self._settings
        return Wording(
            settings.pages.login_url, told.nobody, profile,
            assertion=None if self._assertions is None else self._assertions.line,
            remove_unset=settings.identity.remove_unset,
        )  # fmt: skip

    def _build_authorizer(
        self, policy: Policy, on_activity: Callable[[Standing, int], None]
    ) -> Authorizer:
        settings = self._settings
        return Authorizer(
            policy,
            self._store,
            cookie_name=settings.session.cookie.full_name,
            partitions=settings.redis.partitions,
            stand=self._stand,
            on_activity=on_activity,
            unknown_per_second=settings.near_cache.unknown_per_second,
        )

    def _take_over(self, new: PolicySettings) -> str:
        """Have every process that answers checks decide by new rules; return their version."""
        version = self._use(new)
        if self._workers is not None:
            self._workers.use(new)
        return version

    def _use(self, new: PolicySettings) -> str:
        """Decide by new rules here, from the next check on."""
        specs = new.specs()
        self._know_places(specs)
        policy = Policy(specs, locate=self._geo.locate)
        self._authorizer.use(policy)
        self._observer.shadow = self._shadow(specs)
        if self._settings.check.workers == 1 or self._sockets:
            self._metrics.policy_version = policy.version
        return policy.version

    def _know_places(self, specs: tuple[RuleSpec, ...]) -> None:
        """Have a worker read the databases that are asked; what cannot be read knows nothing."""
        bound = self._settings.binding.bonds.are_on
        try:
            self._geo.open(
                city=bound or any(spec.countries for spec in specs),
                asn=bound or any(spec.asns for spec in specs),
            )
        except ConfigurationError as error:
            log.error("geo_rejected", why=str(error), what="addresses have no place until it is")

    def _shadow(
        self, specs: tuple[RuleSpec, ...]
    ) -> Callable[[CheckRequest, Decision], None] | None:
        if not any(spec.shadow for spec in specs):
            return None
        policy = Policy(specs, with_shadow=True, locate=self._geo.locate)
        authorizer = self._build_authorizer(policy, lambda *_: None)
        return Shadow(policy, authorizer, self._observer.note_shadow).compare

    def _count_reload(self, result: str) -> None:
        self._metrics.policy_reloads[result] += 1

    def _build_profile(self, number: int, name: ProfileName) -> Profile:
        settings = self._settings
        wording = self._wording(settings.identity.of(name), number)
        if name == "authelia":
            return authelia.profile(wording, settings.check.authelia.ext_authz_prefix)
        asked = settings.check.oauth2_proxy
        options = oauth2_proxy.Options(asked.family, asked.method_header, asked.narrowing)
        any_session = Policy([RuleSpec(Access.SESSION)])
        whose = whose_session(
            options, self._trusted, self._holding,
            self._build_authorizer(any_session, lambda *_: None).check,
        )  # fmt: skip
        pages = Pages(
            self._sessions, whose, self._cookie(), settings.redis.partitions,
            settings.pages.login_url, asked.redirect_domains, self._count_ended,
        )  # fmt: skip
        return oauth2_proxy.profile(wording, options, pages.by_path())

    def _cookie(self) -> CookieOptions:
        cookie = self._settings.session.cookie
        return CookieOptions(cookie.full_name, cookie.same_site, cookie.domain, cookie.secure)

    async def _end_for(self, session_id: str, why: str) -> None:
        receipt = await self._sessions.end(session_id, Actor("gateway", why))
        for each in receipt.ended if receipt else ():
            self._count_ended(each.why)

    def _count_ended(self, why: str) -> None:
        self._metrics.ended[why] += 1

    def _sign_in_rules(self) -> SignInRules:
        session = self._settings.session
        return SignInRules(
            session.lifetime, session.max_per_user, session.on_limit, session.one_per_device,
            self._settings.alerts.watch,
        )  # fmt: skip

    def _admin_options(self) -> AdminOptions:
        admin = self._settings.admin

        def count_created() -> None:
            self._metrics.created += 1

        return AdminOptions(
            grants=Grants(
                tuple(Grant(each.name, each.sha256, frozenset(each.scopes))
                      for each in admin.tokens)
            ),
            cookie=self._cookie(),
            max_body=admin.max_body,
            without_token=frozenset(admin.without_token),
            ping=self._ready,
            metrics=self._metrics_text,
            count_created=count_created,
            count_ended=self._count_ended,
            observe_confirmed=self._metrics.revocation.observe,
        )  # fmt: skip

    def _metrics_text(self) -> bytes:
        others = {} if self._workers is None else self._workers.figures()
        return self._metrics.text(others)

    async def _ready(self) -> None:
        """Return if checks can be answered. A replica that is leaving is not ready."""
        if self._stopping.is_set():
            raise StoreUnavailable("stopping")
        if self._workers is not None and not self._workers.ready():
            raise StoreUnavailable("workers")
        await self._store.ping()

    async def _background(
        self, stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None]
    ) -> None:
        """Do `work` until the end; if it fails, the process ends: half a gateway helps nobody."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._note_failure)

        async def stop() -> None:
            # Again and again: `wait_for` of Python 3.11, and redis-py by it, loses a cancellation
            # that comes together with what was waited for.
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)

        stack.push_async_callback(stop)

    def _note_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._stopping.set()

    async def _keep_open(self) -> None:
        """Open the store as soon as Redis is there; then sweep it and watch it for the metrics."""
        opened = False
        while not opened:
            opened = await self._try_open()
            await asyncio.sleep(0 if opened else _RETRY_OPEN_S)
        self._opened.set()
        while not self._sockets:  # one process of several does it for all
            await self._sweep_and_measure()
            await asyncio.sleep(_POLL_S)

    async def _watch_replicas(self) -> None:
        """Have nobody wait for replicas that have died."""
        lease_s = self._settings.revocation.lease / 1000
        while True:
            await asyncio.sleep(max(1.0, 2 * lease_s))
            with contextlib.suppress(StoreUnavailable):
                await self._store.remove_silent_replicas()

    async def _sweep_and_measure(self) -> None:
        try:
            await self._store.check_layout()
            for why in await self._store.sweep():
                self._metrics.ended[why] += 1
            self._metrics.alerts_waiting = await self._alert_queue.waiting()
            if not self._metrics.ready:
                log.info("redis_answers")
            self._metrics.ready = True
        except StoreUnavailable as error:
            self._metrics.ready = False
            log.warning("redis_unavailable", kind=error.kind, why=str(error))

    async def _try_open(self) -> bool:
        try:
            facts = await self._store.open()
        except StoreUnavailable as error:
            log.error("redis_unavailable", kind=error.kind, why=str(error),
                      what="checks of sessions are denied; trying again")  # fmt: skip
            return False
        log.info("redis_ready", version=facts.version)
        if facts.eviction_policy not in ("noeviction", "unknown"):
            log.warning(
                "redis_evicts",
                policy=facts.eviction_policy,
                what="sessions may be evicted early; set maxmemory-policy noeviction",
            )
        return True

    async def _serve_checks(
        self, stack: contextlib.AsyncExitStack
    ) -> Callable[[], Awaitable[None]]:
        """Answer checks, here or in workers; return how to leave without failing one."""
        check = self._settings.check
        if check.workers > 1 and not self._sockets:
            self._workers = Workers(self._settings, self._redis_url)
            await self._background(stack, self._workers.run())
            stack.push_async_callback(self._workers.stop)
            self._log_listening()
            return self._workers.stop
        doors = self._doors()
        for door in doors:
            stack.push_async_callback(door.close)
        if self._sockets:  # in place of one that has died: what waits there can wait for Redis too
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._opened.wait(), _WORKER_OPENS_S)
        for door in doors:
            await door.open()
        self._log_listening()

        async def leave() -> None:
            await asyncio.gather(*(door.drain() for door in doors))

        return leave

    def _doors(self) -> list[Door]:
        """Return the ways in which checks are asked here."""
        check, worker = self._settings.check, bool(self._sockets)
        drain_s = check.drain / 1000
        sockets = self._sockets or [bind(address, "check.listen") for address in check.listen]
        doors: list[Door] = [
            Listening(CheckServer(self._check), sockets, drain_s, inherited=worker)
        ]
        if check.grpc_listen:
            from .adapters.grpc_server import GrpcServer

            server = GrpcServer(self._check, check.grpc_max_message, self._holding)
            doors.append(GrpcListening(server, check.grpc_of(1), drain_s, shared=worker))
        return doors

    def _log_listening(self) -> None:
        check, admin = self._settings.check, self._settings.admin
        log.info("listening", check=check.listen, grpc=check.grpc_listen, admin=admin.listen)

    async def _report(self) -> None:
        """Tell the parent once a second what was counted, and hear it; stop when it is gone."""
        loop = asyncio.get_running_loop()

        inbox = Inbox()

        def hear() -> None:
            data = os.read(sys.stdin.fileno(), 65536)
            for policy in inbox.feed(data):
                self._use(policy)
            if not data:
                loop.remove_reader(sys.stdin.fileno())
                self._stopping.set()

        loop.add_reader(sys.stdin.fileno(), hear)
        await self._opened.wait()
        while True:
            report(self._metrics.figures())
            await asyncio.sleep(_REPORT_S)

    async def _serve_admin(self, stack: contextlib.AsyncExitStack) -> None:
        admin = self._settings.admin
        runner = web.AppRunner(
            build(self._sessions, self._delivery.log, self._admin_options()),
            access_log=None,
            shutdown_timeout=5,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        context = tls_context(admin.tls_cert, admin.tls_key) if admin.tls_cert else None
        for address in admin.listen:
            await web.SockSite(runner, bind(address, "admin.listen"), ssl_context=context).start()

    async def _serve_pages(self, stack: contextlib.AsyncExitStack) -> None:
        """Serve what browsers may ask, if there is anything."""
        links, listen = self._settings.alerts.links, self._settings.pages.listen
        if not listen or (links is None and self._assertions is None):
            return
        keys = None if self._assertions is None else self._assertions.public
        answering = None
        if links is not None:
            answering = pages.Answering(self._store, self._sessions, links, self._count_ended)
        runner = web.AppRunner(pages.build(keys, answering), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for address in listen:
            await web.SockSite(runner, bind(address, "pages.listen")).start()


def _assertions(asked: AssertionSettings) -> Assertions | None:
    """Return what signs, where anything is to be signed."""
    if not asked.is_on:
        return None
    from .assertion import Assertions, Keys, Terms

    terms = Terms(asked.header, asked.issuer, asked.audience, asked.lifetime)
    return Assertions(Keys(asked.keys.get_secret_value()), terms)


def serve(settings: Settings, source: Source) -> None:
    """Run until stopped; without redis.url with an embedded Valkey whose content is lost."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there are rules that could be reloaded
    url = settings.redis.url.get_secret_value()
    if url:
        _run(settings, url, source=source)
        return
    log.error("embedded_valkey", what="redis.url is not set: sessions are lost at the next stop")
    with EmbeddedValkey() as valkey:
        _run(settings, valkey.url, source=source)


def allow_many_connections() -> None:
    """Use as many descriptors as the system lets us: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def collect_rarely() -> None:
    """Look for garbage in circles, of which there is hardly any, less often than Python would.

    A batch of events makes many objects, all of which live: 700 new ones, Python's measure, come 20
    times in it. What was imported is never looked at again. Saves the relay a fifth of its CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def work() -> None:
    """Be a worker, as the parent says on standard input."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the parent reads the file, for all
    assignment = read_assignment()
    configure_logs(assignment.settings.log.level)
    sockets = [socket.socket(fileno=number) for number in assignment.sockets]
    _run(assignment.settings, assignment.redis_url, sockets)


def _run(
    settings: Settings,
    redis_url: str,
    sockets: Sequence[socket.socket] = (),
    source: Source | None = None,
) -> None:
    async def main() -> None:
        await App(settings, redis_url, sockets, source).run()

    allow_many_connections()
    collect_rarely()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: 15 to 23 % less CPU per check (measured)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
