"""A worker of the action demo.charge. It needs nats-py, and NATS_URL in its environment."""

import asyncio
import json
import os

import nats
from nats.js.errors import APIError


class Failed(Exception):
    """Its arguments: a code, and words for people. Another attempt cannot mend it."""


async def charge(task):
    order = task["input"]
    if order["amount"] <= 0:
        raise Failed("bad_amount", "there is nothing to charge")
    await asyncio.sleep(order.get("wait_ms", 0) / 1000)
    # The key is the same over attempts and deliveries: a provider takes the charge once.
    return {"charged": order["amount"], "reference": task["task"], "note": order.get("note")}


async def attempt(task, bytes_max):
    bound = task["timeout"].get("start_to_close_ms")
    try:
        data = await asyncio.wait_for(charge(task), bound and bound / 1000)
        result = json.dumps({"ok": True, "data": data}).encode()
        if len(result) <= bytes_max:
            return result
        error = {"code": "result_too_large", "message": "", "retryable": False}
    except Failed as failed:
        error = {"code": failed.args[0], "message": failed.args[1], "retryable": False}
    except asyncio.TimeoutError:
        error = {"code": "timeout", "message": f"longer than {bound} ms", "retryable": True}
    except Exception as other:
        error = {"code": "error", "message": repr(other), "retryable": True}
    return json.dumps({"ok": False, "error": error}).encode()


async def publish(js, subject, payload):
    try:
        await js.publish(subject, payload, headers={"Nats-Expected-Last-Subject-Sequence": "0"})
    except APIError as error:
        if error.err_code != 10071:  # It is there already: fine.
            raise


async def keep_alive(message, task):
    pause = min(task["timeout"].get("heartbeat_ms", 30_000), 30_000) / 3000
    while True:
        await asyncio.sleep(pause)
        await message.in_progress()


async def work(nc, js, tasks):
    while True:
        try:
            [message] = await tasks.fetch(1, timeout=30)
        except nats.errors.TimeoutError:
            continue
        try:
            task = json.loads(message.data)
            subject = task["result_subject"]
        except (ValueError, KeyError):
            await message.term()
            continue
        alive = asyncio.create_task(keep_alive(message, task))
        try:
            if task["timeout"].get("schedule_to_start_ms"):
                await publish(js, f"{subject}-started", b'{"started":true}')
            await publish(js, subject, await attempt(task, nc.max_payload // 4))
            await message.ack_sync()  # Result first, acknowledgement after.
        except Exception as error:  # Without an acknowledgement it is handed out again.
            print(f"{task['task']}: {error!r}", flush=True)
        finally:
            alive.cancel()


async def main():
    nc = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    js = nc.jetstream()
    tasks = await js.pull_subscribe_bind("worker-demo-charge", "PLED_TASKS")
    await asyncio.gather(*(work(nc, js, tasks) for _ in range(8)))


asyncio.run(main())
