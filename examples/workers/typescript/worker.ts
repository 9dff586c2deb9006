// A worker of the action demo.charge. NATS_URL names the server.
import { JetStreamApiError, jetstream, type JsMsg } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";

type Task = {
  task: string;
  input: { amount: number; wait_ms?: number; note?: unknown };
  timeout: { start_to_close_ms?: number; schedule_to_start_ms?: number; heartbeat_ms?: number };
  result_subject: string;
};

class Failed extends Error {
  constructor(readonly code: string, message: string, readonly retryable = false) {
    super(message);
  }
}

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });
const js = jetstream(nc);
const sleep = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

async function charge(task: Task) {
  const { amount, wait_ms = 0, note } = task.input;
  if (!(amount > 0)) throw new Failed("bad_amount", "there is nothing to charge");
  await sleep(wait_ms);
  // The key is the same over attempts and deliveries: a provider takes the charge once.
  return { charged: amount, reference: task.task, note };
}

async function attempt(task: Task): Promise<string> {
  const bound = task.timeout.start_to_close_ms;
  const late = () => { throw new Failed("timeout", `longer than ${bound} ms`, true); };
  try {
    const data = await Promise.race([charge(task), ...(bound ? [sleep(bound).then(late)] : [])]);
    const result = JSON.stringify({ ok: true, data });
    if (result.length > nc.info!.max_payload / 4) throw new Failed("result_too_large", "");
    return result;
  } catch (error) {
    const failed = error instanceof Failed ? error : new Failed("error", `${error}`, true);
    const { code, message, retryable } = failed;
    return JSON.stringify({ ok: false, error: { code, message, retryable } });
  }
}

async function publish(subject: string, payload: string) {
  const once = headers();
  once.set("Nats-Expected-Last-Subject-Sequence", "0");
  try {
    await js.publish(subject, payload, { headers: once });
  } catch (error) {
    // 10071: it is there already, which is fine.
    if (!(error instanceof JetStreamApiError && error.code === 10071)) throw error;
  }
}

async function work(message: JsMsg) {
  let task: Task;
  try {
    task = message.json<Task>();
  } catch {
    return message.term();
  }
  const heartbeat = Math.min(task.timeout.heartbeat_ms ?? 30_000, 30_000);
  const alive = setInterval(() => message.working(), heartbeat / 3);
  try {
    const { result_subject: subject } = task;
    if (task.timeout.schedule_to_start_ms) await publish(`${subject}-started`, '{"started":true}');
    await publish(subject, await attempt(task));
    await message.ackAck(); // Result first, acknowledgement after.
  } catch (error) {
    console.error(task.task, error); // Without an acknowledgement it is handed out again.
  } finally {
    clearInterval(alive);
  }
}

const consumer = await js.consumers.get("PLED_TASKS", "worker-demo-charge");
for await (const message of await consumer.consume({ max_messages: 8 })) void work(message);
