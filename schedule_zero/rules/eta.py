"""When something that tells its progress will be done: by how fast it came forward lately, and honest when it stalls.

Of each attempt the last ``RECENT`` samples are kept. The speed is that between the oldest of them and the newest
report, so that a slow start is forgotten and one quick step is not believed. What has taken longer than it should
have by that is reckoned anew, with the time that it really took.
"""

from __future__ import annotations

from msgspec import Struct

RECENT = 16
# Samples lie at least so far apart, or a burst of reports would be all that is remembered.
APART_US = 500_000


class Trail(Struct):
    """How an attempt came forward: its newest progress, and (when, percent) of earlier ones, oldest first."""

    percent: float | None
    text: str
    at_us: int
    samples: list[tuple[int, float]]


def advance(trail: Trail | None, percent: float | None, text: str, now_us: int) -> Trail:
    """The trail with this report at its end."""
    samples = [] if trail is None else trail.samples
    if percent is not None:
        if samples and percent < samples[-1][1]:
            # It began anew: what was before says nothing about what is to come.
            samples = []
        if not samples or now_us - samples[-1][0] >= APART_US:
            samples = [*samples[-RECENT + 1 :], (now_us, percent)]
    return Trail(percent=percent, text=text, at_us=now_us, samples=samples)


def eta_s(trail: Trail, now_us: int) -> float | None:
    """Seconds until 100 %; None while nothing can be said: one report only, or none that came forward."""
    percent = trail.percent
    if percent is None or not trail.samples:
        return None
    if percent >= 100:
        return 0.0
    since_us, first = trail.samples[0]
    gained = percent - first
    took_us = trail.at_us - since_us
    if gained <= 0 or took_us <= 0:
        return None
    due_us = trail.at_us + (100 - percent) * took_us / gained
    if now_us > due_us:
        due_us = now_us + (100 - percent) * (now_us - since_us) / gained
    return round(max(0.0, due_us - now_us) / 1e6, 1)
