import { get } from "node:http";

/** Speaks for the guests of a {@link ./crowd.ts}; a process of its own, in their namespace, told what to do by messages. */
export type CrowdOrder =
  | { readonly kind: "await-answer"; readonly guest: CrowdGuest }
  | { readonly kind: "poll"; readonly guests: readonly CrowdGuest[]; readonly everyMs: number }
  | { readonly kind: "stop" };

export type CrowdReport =
  | { readonly kind: "ready" }
  | { readonly kind: "answered"; readonly atMs: number }
  | { readonly kind: "attempts"; readonly attempts: readonly Attempt[] };

export interface CrowdGuest {
  readonly n: number;
  readonly address: string;
  readonly instanceId: string;
}

/** One request: whose, when (milliseconds of the machine's clock), and what it came to. */
export interface Attempt {
  readonly n: number;
  readonly beganMs: number;
  readonly endedMs: number;
  /** `own`: its own document. `foreign`: anybody else's. Otherwise a status or an error code. */
  readonly outcome: string;
}

/** As long as cloud-init waits. */
const TIMEOUT_MS = 10_000;
const ASK_EVERY_MS = 2;

const attempts: Attempt[] = [];
let polling: { stopped: boolean; readonly ended: Promise<unknown> } | undefined;

process.on("message", (order: CrowdOrder) => {
  if (order.kind === "await-answer") awaitAnswer(order.guest);
  else if (order.kind === "poll") startPolling(order.guests, order.everyMs);
  else void stopPolling();
});
report({ kind: "ready" });

function report(what: CrowdReport): void {
  process.send?.(what);
}

/** A SYN that is dropped is sent again after a second only, so each try is a connection of its own. */
function awaitAnswer(guest: CrowdGuest): void {
  const open = new Set<() => void>();
  const timer = setInterval(attempt, ASK_EVERY_MS);
  attempt();

  function attempt(): void {
    const request = ask(guest, (outcome) => {
      open.delete(request);
      if (outcome !== "own" || timer.hasRef() === false) return;
      clearInterval(timer);
      timer.unref();
      for (const abandon of open) abandon();
      report({ kind: "answered", atMs: nowMs() });
    });
    open.add(request);
  }
}

function startPolling(guests: readonly CrowdGuest[], everyMs: number): void {
  const run = { stopped: false, ended: Promise.resolve() as Promise<unknown> };
  polling = Object.assign(run, { ended: Promise.all(guests.map((guest) => loop(guest))) });

  async function loop(guest: CrowdGuest): Promise<void> {
    while (!run.stopped) {
      const beganMs = nowMs();
      const outcome = await new Promise<string>((resolve) => ask(guest, resolve));
      attempts.push({ n: guest.n, beganMs, endedMs: nowMs(), outcome });
      await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  }
}

async function stopPolling(): Promise<void> {
  if (polling !== undefined) polling.stopped = true;
  await polling?.ended;
  report({ kind: "attempts", attempts: attempts.splice(0) });
}

/** @returns The way to give it up. */
function ask(guest: CrowdGuest, onOutcome: (outcome: string) => void): () => void {
  let isOver = false;
  const request = get(
    {
      host: "169.254.169.254",
      path: "/openstack/latest/meta_data.json",
      localAddress: guest.address,
      agent: false,
      timeout: TIMEOUT_MS,
    },
    (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", failed);
      response.on("end", () => {
        if (response.statusCode !== 200) over(`status ${response.statusCode}`);
        else over(uuidIn(Buffer.concat(chunks)) === guest.instanceId ? "own" : "foreign");
      });
    },
  );
  request.on("timeout", () => request.destroy(new Error("timeout")));
  request.on("error", failed);
  return () => request.destroy();

  function failed(error: NodeJS.ErrnoException): void {
    over(error.code ?? error.message);
  }

  function over(outcome: string): void {
    if (isOver) return;
    isOver = true;
    onOutcome(outcome);
  }
}

function uuidIn(body: Buffer): unknown {
  try {
    return (JSON.parse(body.toString()) as { uuid?: unknown }).uuid;
  } catch {
    return undefined;
  }
}

function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
