"""The views that most questions come down to."""

from __future__ import annotations

from typing import NamedTuple

FAR = 0.05
"""How far from its peers' median a host's share is that is told as an outlier, at least."""

PEERS = 3
"""Hosts, itself among them, that there must be to compare it with."""


class View(NamedTuple):
    """A view, what a row of it is, and the query."""

    name: str
    about: str
    sql: str


VIEWS = (
    View(
        "latest",
        "the newest scan of each host; columns as in scans. All answers are of these.",
        """
        SELECT * FROM scans
        QUALIFY row_number() OVER (PARTITION BY host ORDER BY taken_at DESC, path DESC) = 1
        """,
    ),
    View(
        "hosts",
        "a row a host: scan, host, path, release, build_id, hvo_state (on, off, was on, not built,"
        " on or off, unknown), hugepage_bytes, sizes (of hugepages it has), saved_bytes,"
        " net_saved_bytes, potential_bytes, share (saved of what can be), errors, warnings,"
        " fraction",
        """
        SELECT scan, host, path, release, build_id,
            CASE WHEN hvo IS NULL THEN 'unknown'
                 WHEN hvo = 'none' THEN 'not built'
                 WHEN hvo_enabled THEN 'on'
                 WHEN hvo_enabled IS NULL THEN 'on or off'
                 WHEN coalesce(pool.optimized, 0) > 0 THEN 'was on'
                 ELSE 'off' END AS hvo_state,
            coalesce(pool.hugepage_bytes, 0) AS hugepage_bytes,
            coalesce(pool.sizes, []) AS sizes,
            saved_bytes, net_saved_bytes, potential_bytes,
            CASE WHEN saved_bytes + potential_bytes::HUGEINT > 0
                 THEN saved_bytes / (saved_bytes + potential_bytes::HUGEINT) END AS share,
            errors, warnings, fraction
        FROM latest LEFT JOIN (
            SELECT scan, sum(size_bytes::HUGEINT * total) AS hugepage_bytes,
                sum(optimized) AS optimized,
                list(DISTINCT size_bytes ORDER BY size_bytes) AS sizes
            FROM pools WHERE total > 0 GROUP BY scan
        ) AS pool USING (scan)
        """,
    ),
    View(
        "kernels",
        "a row a kernel and encoding: release, tail, hvo, hosts, hvo_on, net_saved_bytes,"
        " potential_bytes",
        """
        SELECT l.release, l.tail, l.hvo, count(*) AS hosts,
            count(*) FILTER (h.hvo_state = 'on') AS hvo_on,
            sum(l.net_saved_bytes) AS net_saved_bytes, sum(l.potential_bytes) AS potential_bytes
        FROM latest AS l JOIN hosts AS h USING (scan) GROUP BY ALL
        """,
    ),
    View(
        "rules",
        "a row a rule and severity with findings: rule, severity, hosts, findings (all, also those"
        " that are not listed)",
        """
        SELECT rule, severity, count(DISTINCT scan) AS hosts, sum(findings)::HUGEINT AS findings
        FROM (
            SELECT scan, rule, severity, count(*) AS findings FROM findings GROUP BY ALL
            UNION ALL
            SELECT scan, rule, coalesce(
                (SELECT max(severity) FROM findings AS f
                 WHERE f.scan = omitted.scan AND f.rule = omitted.rule), 'error'), "count"
            FROM omitted
        ) SEMI JOIN latest USING (scan)
        GROUP BY rule, severity
        """,
    ),
    View(
        "outliers",
        "a row a host whose share is far from its peers', which have the same kernel, HVO as much"
        " on or off, and hugepages of the same sizes: host, path, release, sizes, share, peers,"
        " median_share, net_saved_bytes, potential_bytes",
        f"""
        SELECT host, path, release, sizes, share, peers, median_share,
            net_saved_bytes, potential_bytes
        FROM (
            SELECT *, count(*) OVER same AS peers, median(share) OVER same AS median_share,
                mad(share) OVER same AS spread
            FROM hosts WHERE share IS NOT NULL AND fraction = 1
            WINDOW same AS (PARTITION BY coalesce(build_id, release), sizes, hvo_state)
        )
        WHERE peers >= {PEERS} AND abs(share - median_share) > greatest({FAR}, 5 * spread)
        """,  # noqa: S608
    ),
)
