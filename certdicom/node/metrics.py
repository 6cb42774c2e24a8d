"""Counters and times in Prometheus' form; none of them carries anything about a patient."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from certdicom.node.store.ledger import Ledger
from certdicom.node.store.spool import Spool

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600)


class Metrics:
    """All that this process counts; `registry` is what /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received = Counter("certdicom_received", "instances answered, by status", ["status"], registry=self.registry)
        self.duplicates = Counter("certdicom_duplicates", "instances that came again", registry=self.registry)
        self.ignored = Counter("certdicom_ignored", "instances stored, not processed", registry=self.registry)
        self.certified = Counter("certdicom_certified", "films certified", registry=self.registry)
        self.failed = Counter("certdicom_failed", "jobs that failed for good", registry=self.registry)
        self.delivered = Counter("certdicom_delivered", "results stored by a destination", ["destination"], registry=self.registry)
        self.delivery_attempts = Counter(
            "certdicom_delivery_attempts", "attempts to deliver, by verdict", ["destination", "verdict"], registry=self.registry
        )
        self.rejected = Counter("certdicom_rejected", "connections and associations turned away", ["reason"], registry=self.registry)
        self.lost = Counter("certdicom_lost", "attempts that ended without a word and are repeated", registry=self.registry)
        self.clock_jumps = Counter("certdicom_clock_jumps", "times that this machine's clock was set", registry=self.registry)
        self.abstain = Histogram(
            "certdicom_abstain_share",
            "abstaining share of certificates",
            buckets=(0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1),
            registry=self.registry,
        )
        self.stage = Histogram(
            "certdicom_stage_seconds", "seconds per stage of certifying", ["stage"], buckets=_SECONDS, registry=self.registry
        )
        self.store = Histogram(
            "certdicom_store_seconds", "seconds from the last byte to the answer", buckets=_SECONDS, registry=self.registry
        )

    def watch(self, ledger: Ledger, spool: Spool, *, expected_abstain: float, drift: float) -> None:
        """Show the ledger's and the spool's state with each scrape."""
        self.registry.register(_State(ledger, spool, expected_abstain, drift))


def drifted(ledger: Ledger, *, expected: float, drift: float) -> bool:
    """Whether the last 50 films abstain more, or less, than the model card lets expect; False with fewer than 10."""
    shares = ledger.recent_abstain(50)
    return expected > 0 and len(shares) >= 10 and abs(sum(shares) / len(shares) - expected) > drift


class _State(Collector):
    def __init__(self, ledger: Ledger, spool: Spool, expected: float, drift: float) -> None:
        self._ledger, self._spool, self._expected, self._drift = ledger, spool, expected, drift

    def collect(self) -> Iterable[GaugeMetricFamily]:
        try:
            counts, open_steps = self._ledger.counts(), self._ledger.steps.oldest()
            destinations = self._ledger.destinations.states()
            alarm = drifted(self._ledger, expected=self._expected, drift=self._drift)
        except SQLAlchemyError:
            yield GaugeMetricFamily("certdicom_database_up", "whether the database answers", value=0)
        else:
            yield GaugeMetricFamily("certdicom_database_up", "whether the database answers", value=1)
            jobs = GaugeMetricFamily("certdicom_jobs", "jobs by state", labels=["state"])
            for state, number in counts.items():
                jobs.add_metric([state], number)
            yield jobs
            labels = ["kind", "destination", "state"]
            steps = GaugeMetricFamily("certdicom_steps", "what is owed, by kind, destination and state", labels=labels)
            ages = GaugeMetricFamily("certdicom_oldest_age_seconds", "age of the oldest of them", labels=labels)
            for which, (number, age_s) in open_steps.items():
                steps.add_metric(which, number)
                ages.add_metric(which, age_s)
            yield from (steps, ages)
            paused = GaugeMetricFamily("certdicom_destination_paused", "1 while somebody has paused it", labels=["destination"])
            failing = GaugeMetricFamily(
                "certdicom_destination_failing_seconds", "seconds since it took something last, 0 while it does", labels=["destination"]
            )
            for title, standing in destinations.items():
                paused.add_metric([title], int(standing.paused))
                failing.add_metric([title], standing.failing_s or 0.0)
            yield from (paused, failing)
            yield GaugeMetricFamily(
                "certdicom_abstain_drift", "1 when the abstaining share left what the model card expects", value=int(alarm)
            )
        yield GaugeMetricFamily("certdicom_disk_free_bytes", "free space of the spool", value=self._spool.free_bytes())

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []
