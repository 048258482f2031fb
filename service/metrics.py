"""What a monitoring system may count: totals, durations and queue lengths, no ids.

Does: holds one registry of its own. Refuses labels that grow with use (captures, readers,
organs' names): routes are templates, codes are the registry's, parties the deployment file's.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MEDIA_TYPE = "text/plain; version=0.0.4"  # the framework adds the charset of text
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Metrics:
    """The counters of one process."""

    __slots__ = (
        "_of_route",
        "_registry",
        "announced",
        "damaged_cosignatures",
        "log_epoch",
        "log_leads",
        "log_waited",
        "nodes",
        "problems",
        "queued",
        "request_seconds",
        "requests",
        "scrub_last",
        "scrubbed",
        "silent",
        "timestamps_owed",
        "uploaded_bytes",
        "uploads",
        "work",
    )

    def __init__(self) -> None:
        """Register every counter under the prefix `fengni_`."""
        self._registry = CollectorRegistry()
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "fengni_requests", "Requests answered.", ("route", "status"), registry=self._registry
        )
        self.request_seconds = Histogram(
            "fengni_request_seconds",
            "From the request's head to the answer's last byte.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.problems = Counter(
            "fengni_problems", "Problems told to clients.", ("code",), registry=self._registry
        )
        self.announced = Counter(
            "fengni_announced", "Statements handed in.", ("outcome",), registry=self._registry
        )
        self.damaged_cosignatures = Counter(
            "fengni_damaged_cosignatures",
            "Kept cosignatures that no longer verify and are left out.",
            registry=self._registry,
        )
        self.uploads = Counter(
            "fengni_uploads", "Transfers of content ended.", ("outcome",), registry=self._registry
        )
        self.uploaded_bytes = Counter(
            "fengni_uploaded_bytes", "Bytes of content taken.", registry=self._registry
        )
        self.silent = Gauge(
            "fengni_silent",
            "Failures in a row of a witness or time-stamp authority; 0 where it answers.",
            ("party",),
            registry=self._registry,
        )
        self.timestamps_owed = Gauge(
            "fengni_timestamps_owed",
            "Checkpoints that others have stamped and this authority has not yet.",
            ("authority",),
            registry=self._registry,
        )
        self._count_work()
        self._count_logs()

    def _count_work(self) -> None:
        """Register what tells of work in the background."""
        self.work = Counter(
            "fengni_work",
            "Pieces of background work ended.",
            ("kind", "outcome"),
            registry=self._registry,
        )
        self.queued = Gauge(
            "fengni_queued",
            "Pieces of background work by state, as of this reading.",
            ("kind", "state"),
            registry=self._registry,
        )
        self.nodes = Gauge(
            "fengni_nodes",
            "Processes that do background work and have spoken lately, as of this reading.",
            ("kind",),
            registry=self._registry,
        )
        self.scrub_last = Gauge(
            "fengni_scrub_last_seconds",
            "Unix time of the log's last scrub, or of its first content before there was one.",
            ("log",),
            registry=self._registry,
        )
        scrubbed = "Contents that a scrub looked at."
        self.scrubbed = Counter("fengni_scrubbed", scrubbed, ("outcome",), registry=self._registry)

    def _count_logs(self) -> None:
        """Register what tells of logs that several nodes may lead."""
        self.log_leads = Gauge(
            "fengni_log_leads",
            "1 where this process sequences the log, as of this reading.",
            ("log",),
            registry=self._registry,
        )
        self.log_epoch = Gauge(
            "fengni_log_epoch",
            "Terms that the log's leaders have had; 0 where one process alone may lead it.",
            ("log",),
            registry=self._registry,
        )
        self.log_waited = Gauge(
            "fengni_log_waited_seconds",
            "How long the oldest statement waits here for the node that leads the log.",
            ("log",),
            registry=self._registry,
        )

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request.

        Args:
            route: its template.
            status: what was answered.
            seconds: from the request's head to the answer's last byte.
        """
        found = self._of_route.get((route, status))
        if found is None:  # looking a child up by its labels costs more than counting
            found = self.requests.labels(route, str(status)), self.request_seconds.labels(route)
            self._of_route[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def render(self) -> bytes:
        """Everything in Prometheus' text form."""
        return generate_latest(self._registry)
