#!/usr/bin/env python3
"""Writes orders.ndjson: 200 orders as a shop, a back office and the world would make them.

Each line is one raw message: `at_ms` after the start it is published on `subject`, with `id` as the
event's id and `data` as its payload. `world` is not published: it tells the demo's simulated
payment, carrier and billing services how to treat that order. The same seed gives the same file.

usage: generate.py > orders.ndjson
"""

import json
import random

ORDERS = 200
SPREAD_MS = 12_000
# How the orders go, in parts of 200. What is left goes smoothly.
KINDS = (
    ["pays late"] * 14
    + ["payment window elapses"] * 4
    + ["card declined"] * 16
    + ["carrier fails, then recovers"] * 24
    + ["carrier gives up"] * 8
    + ["billing fails"] * 6
    + ["held and released"] * 16
    + ["held too long"] * 4
    + ["cancelled and refunded"] * 12
    + ["cancelled before payment"] * 6
    + ["empty order"] * 4
)


def main() -> None:
    rng = random.Random(20_250_101)
    kinds = KINDS + ["goes through"] * (ORDERS - len(KINDS))
    rng.shuffle(kinds)
    lines = []
    for number, kind in enumerate(kinds, start=1):
        order = f"order-{number:03d}"
        at = round(SPREAD_MS * number / ORDERS)
        world = {"kind": kind}
        total, count = rng.randrange(500, 90_000), rng.randrange(1, 9)
        shop, office = "pled.ingest.shop", "pled.ingest.backoffice"

        def say(after_ms, subject, event, data=None):
            message = {"at_ms": at + after_ms, "subject": subject, "id": f"{order}-{event}"}
            if data is not None:
                message["data"] = data
            lines.append(message)

        if kind == "pays late":
            world["charge_fails"] = rng.randrange(5, 8)
        elif kind == "payment window elapses":
            world["charge_fails"] = 1_000
        elif kind == "card declined":
            world["card_declined"] = True
        elif kind == "carrier fails, then recovers":
            world["carrier_fails"] = rng.randrange(1, 7)
        elif kind == "carrier gives up":
            world["carrier_fails"] = 1_000
        elif kind == "billing fails":
            world["billing_fails"] = True
            say(6_000, f"pled.events.{order}.INVOICED", "invoiced")
        elif kind == "held and released":
            world["charge_fails"] = 3
            hold, release = rng.randrange(60, 160), rng.randrange(1_500, 4_000)
            say(hold, f"{office}.order.flagged", "flagged", {"order_id": order, "risk": rng.randrange(70, 100)})
            say(release, f"{office}.order.released", "released", {"order_id": order})
        elif kind == "held too long":
            world["charge_fails"] = 3
            say(100, f"pled.events.{order}.HOLD", "hold", {"reason": "address in doubt"})
        elif kind == "cancelled and refunded":
            world["carrier_fails"] = 1_000
            say(rng.randrange(900, 1_500), f"{shop}.order.cancelled", "cancelled", {"order_id": order})
        elif kind == "cancelled before payment":
            world["charge_fails"] = 4
            say(rng.randrange(80, 200), f"pled.events.{order}.CANCEL", "cancel")
        elif kind == "empty order":
            total, count = 0, 0
        lines.append(
            {
                "at_ms": at,
                "subject": f"{shop}.order.created",
                "id": f"{order}-created",
                "data": {"order_id": order, "total_minor": total, "line_count": count},
                "world": world,
            }
        )
    lines.sort(key=lambda line: (line["at_ms"], line["id"]))
    for line in lines:
        print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main()
