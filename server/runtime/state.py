"""What a running server holds, for its routes and request runners."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from server.loading import Loaded
from server.runtime.accounting import AccountingLog
from server.runtime.admission import Admission
from server.runtime.limiter import Limiter
from server.runtime.metrics import Metrics
from server.runtime.presets import Presets
from server.runtime.report_store import ReportStore
from server.runtime.running import RunningRequests
from server.settings import ServerSettings

BODY_THREADS = 2
CPU_SHARE = 8  # places of wide requests beside narrow ones: with more, the narrow ones would take over twice their time


@dataclass
class ServerState:
    """The loaded models, the settings, and the bookkeeping of requests."""

    loaded: Loaded
    settings: ServerSettings = field(default_factory=ServerSettings)
    metrics: Metrics = field(default_factory=Metrics)
    presets: Presets = field(default_factory=Presets)
    running: RunningRequests = field(default_factory=RunningRequests)
    limiter: Limiter = field(default_factory=Limiter)
    reports: ReportStore = field(default_factory=ReportStore)
    body_threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(BODY_THREADS, "body"))
    """Where long bodies are parsed. More threads would only wait for one another: parsing holds Python's lock."""
    admission: Admission = field(init=False)
    accounting: AccountingLog | None = field(init=False, default=None)
    created: int = field(default_factory=lambda: int(time.time()))
    """Unix time of the server's start, in seconds."""

    def __post_init__(self) -> None:
        settings = self.settings
        self.admission = Admission(
            settings.max_sequences,
            settings.max_queue,
            narrow=settings.narrow_sequences,
            wide_share=settings.wide_share
            or (CPU_SHARE if self.loaded.on_cpu else max(1, settings.max_sequences // 2)),
            max_wait=settings.max_wait_s,
        )
        if settings.accounting_log is not None:
            self.accounting = AccountingLog(settings.accounting_log, self.metrics.accounting_lost)
        guides = self.loaded.models.policy.guides
        self.metrics.watch(self.loaded.up, lambda: self.admission.queued, settings.max_queue, guides)

    @property
    def model(self) -> str:
        """The name of the policy, by which clients call it."""
        return self.loaded.models.policy.name

    async def aclose(self) -> None:
        """Write what is still to be written. No request may run any more."""
        accounting, self.accounting = self.accounting, None
        if accounting is not None:
            await asyncio.to_thread(accounting.close)
