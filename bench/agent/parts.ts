import { setTimeout as sleep } from "node:timers/promises";
import { ipBatch, memberOf, nowMs } from "../../test/support/crowd.ts";
import { run } from "../../test/support/guests.ts";
import { portText } from "../../test/support/midonet.ts";
import { isListening, judge, killAndStart, type Round } from "../../test/support/restart.ts";
import type { Cloud } from "./cloud.ts";
import { childrenOf, costOf } from "./process-cost.ts";

export interface Scale {
  /** Ports that are bound all the time: guests 0 to `bound` - 1. */
  readonly bound: number;
  /** Guests after those, plugged in but bound only now and then. */
  readonly spare: number;
  /** Bound guests that can ask. */
  readonly talkers: readonly number[];
  readonly quick: boolean;
}

export interface Figure {
  readonly what: string;
  readonly value: string;
  readonly target?: string;
}

export type PartName = "grow" | "start" | "ports" | "quiet" | "damage" | "restart" | "storm";

type Part = (cloud: Cloud, scale: Scale) => Promise<readonly Figure[]>;

/** In this order; each leaves the agent running, in sync, with the bound ports. */
export const PARTS: Readonly<Record<PartName, Part>> = { grow, start, ports, quiet, damage, restart, storm };

/** From nothing to all ports while the agent runs: what each lot takes, and what it leaves in memory. */
async function grow(cloud: Cloud, { bound }: Scale): Promise<readonly Figure[]> {
  cloud.agent.start();
  await cloud.serving(0);
  const figures = [await memory(cloud, 0)];
  let now = 0;
  for (const count of [100, 1_000, 2_000].filter((step) => step < bound).concat(bound)) {
    const lot = Array.from({ length: count - now }, (_, at) => memberOf(now + at));
    await cloud.midonet.createAll(lot);
    await cloud.midonet.list(lot);
    const tookMs = (await cloud.serving(count)) - cloud.store.lastWriteBeganMs;
    figures.push({
      what: `${lot.length} more ports bound at once while it runs`,
      value: `${seconds(tookMs)} until served`,
    });
    figures.push(await memory(cloud, count));
    now = count;
  }
  return figures;
}

async function memory({ agent }: Cloud, count: number): Promise<Figure> {
  await sleep(2_000);
  return {
    what: `memory (RSS) with ${count} ports`,
    value: `${costOf(agent.pid).rssMiB.toFixed(0)} MiB`,
    ...(count === 1_000 ? { target: "≤ 120 MiB" } : {}),
  };
}

/** Start with every port bound: into an empty kernel, and into the one that the last run left. */
async function start(cloud: Cloud, { bound, quick }: Scale): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const kernel of ["empty", "left by the last run"] as const) {
    const listening: number[] = [];
    const inSync: number[] = [];
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      await cloud.agent.stop();
      if (kernel === "empty") await cloud.agent.command("sweep");
      const beganMs = nowMs();
      cloud.agent.start();
      while (!isListening()) await sleep(2);
      listening.push(nowMs() - beganMs);
      inSync.push((await cloud.serving(bound)) - beganMs);
    }
    figures.push(
      {
        what: `start, kernel ${kernel}: process start → listening`,
        value: spread(listening),
        ...(kernel === "empty" ? {} : { target: "≤ 1 s" }),
      },
      {
        what: `start, kernel ${kernel}: process start → in sync with ${bound} ports`,
        value: spread(inSync),
        target: "≤ 3 s",
      },
    );
  }
  figures.push({
    what: `memory (RSS) after a start with ${bound} ports`,
    value: (await memory(cloud, bound)).value,
  });
  return figures;
}

/** One port more and one less, again and again, each with a guest that asks without pause. */
async function ports(cloud: Cloud, { bound, spare }: Scale): Promise<readonly Figure[]> {
  const opened: number[] = [];
  const openedSinceWritten: number[] = [];
  const closed: number[] = [];
  const cpuBefore = cpuOf(cloud);
  for (let n = bound; n < bound + spare; n++) {
    const port = memberOf(n);
    await cloud.midonet.createAll([port]);
    const answered = cloud.crowd.firstAnswer(n);
    await sleep(50);
    await cloud.midonet.list([port]);
    const answeredMs = await answered;
    opened.push(answeredMs - cloud.store.lastWriteBeganMs);
    openedSinceWritten.push(answeredMs - cloud.store.lastWriteEndedMs);
    await sleep(150);
    const released = cloud.logs("link-local address released", port.portId);
    const beganMs = nowMs();
    await cloud.midonet.unbind(port.portId);
    closed.push((await released) - beganMs);
    await sleep(150);
  }
  return [
    {
      what: `one more port than ${bound}: NSDB write → its guest's first answer`,
      value: spread(opened),
      target: "p99 ≤ 60 ms",
    },
    { what: "… since ZooKeeper said that it was written", value: spread(openedSinceWritten) },
    { what: `one port less: NSDB write → address released`, value: spread(closed) },
    {
      what: "… CPU of the agent for each of these changes, nft and one request included",
      value: `${(((cpuOf(cloud) - cpuBefore) / (2 * spare)) * 1e3).toFixed(0)} ms`,
    },
  ];
}

/** What the agent costs while nothing of its own host changes. */
async function quiet(cloud: Cloud, { quick }: Scale): Promise<readonly Figure[]> {
  const windowMs = quick ? 10_000 : 30_000;
  const changes = windowMs / 6 - ((windowMs / 6) % 10);
  const others = await bindElsewhere(cloud);
  await sleep(2_000);
  const idle = await cpuDuring(cloud, () => sleep(windowMs));
  const busy = await cpuDuring(cloud, async () => {
    const beganMs = nowMs();
    for (let done = 0; done < changes; done += 10) {
      await others(done);
      await sleep(Math.max(0, beganMs + (done + 10) * 6 - nowMs()));
    }
  });
  return [
    {
      what: `CPU in ${windowMs / 1_000} s without any change`,
      value: `${idle.toFixed(2)} s (${((idle / windowMs) * 1e5).toFixed(1)} % of a CPU)`,
    },
    {
      what: `CPU in ${windowMs / 1_000} s while ${changes} ports of other hosts change`,
      value: `${busy.toFixed(2)} s`,
      target: "as without",
    },
  ];
}

/** @returns Changes ten of the ports of other hosts. */
async function bindElsewhere({ store }: Cloud): Promise<(from: number) => Promise<void>> {
  const count = 1_000;
  const path = (at: number) => `/zoom/0/models/Port/${portOf(at).portId}`;
  const portOf = (at: number) => ({ ...memberOf(at), portId: memberOf(at).portId.replace(/^a/, "b") });
  const text = (at: number, turn: number) =>
    Buffer.from(
      portText(
        { ...portOf(at), interfaceName: `tap${turn}` },
        `b0571d00-0000-4000-8000-00000000000${at % 10}`,
      ),
    );
  for (let at = 0; at < count; at += 100) {
    const lot = Array.from({ length: 100 }, (_, more) => at + more);
    await store.write(lot.map((n) => ({ kind: "create", path: path(n), data: text(n, 0) })));
  }
  return async (from) => {
    const lot = Array.from({ length: 10 }, (_, more) => from + more);
    const turn = Math.floor(from / count);
    // Each is written once a turn, so its version is the turn.
    await store.write(
      lot.map((n) => ({
        kind: "set",
        path: path(n % count),
        data: text(n % count, turn + 1),
        version: turn,
      })),
    );
  };
}

async function cpuDuring(cloud: Cloud, work: () => Promise<void>): Promise<number> {
  const before = cpuOf(cloud);
  await work();
  return cpuOf(cloud) - before;
}

/** CPU seconds of the agent, and of its children that run or have run. */
function cpuOf({ agent }: Cloud): number {
  return [agent.pid, ...childrenOf(agent.pid)].reduce((sum, pid) => sum + costOf(pid).cpuSeconds, 0);
}

/** `nft flush ruleset`, again and again, each with a guest that asks without pause. */
async function damage(cloud: Cloud, { talkers, quick }: Scale): Promise<readonly Figure[]> {
  const waits: number[] = [];
  for (const n of talkers.slice(0, quick ? 3 : 20)) {
    await run("nft", "flush", "ruleset");
    const flushedMs = nowMs();
    await cloud.crowd.firstAnswer(n);
    waits.push(nowMs() - flushedMs);
    await sleep(1_000 + (waits.length % 5) * 100);
  }
  const plan = await cloud.agent.command("plan");
  return [
    {
      what: "`nft flush ruleset` → a guest's next answer, all chains of all ports back",
      value: spread(waits),
      target: "≤ 2 s",
    },
    {
      what: "… what `mn-metadata plan` would still change",
      value: plan.startsWith("# nothing to do") ? "nothing" : `${plan.split("\n").length} lines`,
    },
  ];
}

/** SIGKILL and start while guests ask. */
async function restart(cloud: Cloud, { bound, talkers, quick }: Scale): Promise<readonly Figure[]> {
  const before = await cloud.linkLocals();
  const rounds: Round[] = [];
  const inSync: number[] = [];
  cloud.crowd.poll(talkers, 10);
  await sleep(500);
  for (let round = 0; round < (quick ? 3 : 50); round++) {
    const done = await killAndStart(cloud.agent);
    rounds.push(done);
    inSync.push((await cloud.serving(bound)) - done.startedMs);
    await sleep(200);
  }
  const attempts = await cloud.crowd.stopPolling();
  const verdict = judge(attempts, rounds);
  const after = await cloud.linkLocals();
  const moved = [...before].filter(([port, linkLocal]) => after.get(port) !== linkLocal).length;
  const waits = rounds.map(({ listeningMs }) => {
    const answers = attempts.filter(({ outcome, beganMs }) => outcome === "own" && beganMs >= listeningMs);
    return Math.min(...answers.map(({ endedMs }) => endedMs)) - listeningMs;
  });
  const odd = verdict.failedWhileListening.slice(0, 3).map(({ outcome }) => outcome);
  return [
    {
      what: `${rounds.length} × SIGKILL, ${talkers.length} guests asking: own answers`,
      value: String(verdict.own),
    },
    { what: "… another guest's data", value: String(verdict.foreign.length), target: "0" },
    {
      what: "… failed while the agent listened",
      value: `${verdict.failedWhileListening.length}${odd.length > 0 ? ` (${odd.join(", ")})` : ""}`,
      target: "0",
    },
    { what: "… failed while it did not", value: String(verdict.failedInOutage) },
    { what: "… link-local addresses that changed", value: `${moved} of ${before.size}`, target: "0" },
    {
      what: "… process start → listening",
      value: spread(rounds.map((round) => round.listeningMs - round.startedMs)),
      target: "≤ 1 s",
    },
    { what: "… listening → first answer to any guest", value: spread(waits) },
    { what: "… process start → in sync", value: spread(inSync), target: "≤ 3 s" },
  ];
}

/** 20,000 link events: taps that flap, change, go and come back under their names, and strangers. */
async function storm(cloud: Cloud, { bound, talkers, quick }: Scale): Promise<readonly Figure[]> {
  const events = quick ? 4_000 : 20_000;
  const members = Array.from({ length: bound }, (_, n) => n);
  const tap = (n: number) => memberOf(n).interfaceName;
  const flap = members.filter((n) => n % 10 === 3);
  const pid = cloud.agent.pid;
  const cpuBefore = costOf(pid).cpuSeconds;
  const beganMs = nowMs();
  let sent = 0;
  for (let turn = 0; sent < events; turn++) {
    const lines = [
      ...members.map((n) => `link set ${tap(n)} mtu ${1400 + (turn % 2)}`),
      ...flap.flatMap((n) => [`link set ${tap(n)} down`, `link set ${tap(n)} up`]),
    ];
    const some = lines.slice(0, events - sent);
    await ipBatch(some);
    sent += some.length;
  }
  await ipBatch(flap.map((n) => `link set ${tap(n)} up`));
  const replugged = talkers.slice(0, 5);
  for (const n of replugged) await cloud.crowd.replug(n);
  const gone = members.filter((n) => n % 10 === 4).slice(0, 50);
  await ipBatch(gone.map((n) => `link set ${tap(n)} down`));
  const endedMs = nowMs();
  const rightMs = await cloud.serving(bound - gone.length);
  let right = 0;
  for (const n of talkers.filter((one) => !gone.includes(one))) {
    await cloud.crowd.firstAnswer(n);
    right++;
  }
  const servedMs = nowMs();
  const plan = await cloud.agent.command("plan");
  await ipBatch(gone.map((n) => `link set ${tap(n)} up`));
  await cloud.serving(bound);
  return [
    {
      what: `${sent} link events in ${seconds(endedMs - beganMs)}: agent`,
      value: cloud.agent.pid === pid && plan !== "" ? "the same process" : "another process",
    },
    {
      what: `… last event → right again (${replugged.length} taps made anew, ${gone.length} left down)`,
      value: seconds(rightMs - endedMs),
    },
    {
      what: "… guests that get their own data afterwards",
      value: `${right}, all within ${seconds(servedMs - endedMs)}`,
    },
    {
      what: "… what `mn-metadata plan` would still change",
      value: plan.startsWith("# nothing to do") ? "nothing" : `${plan.split("\n").length} lines`,
    },
    { what: "… CPU of the agent", value: `${(costOf(pid).cpuSeconds - cpuBefore).toFixed(1)} s` },
  ];
}

/** Median, 99th percentile and extremes of milliseconds. */
function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
  if (sorted.length === 1) return `${at(1).toFixed(0)} ms (once)`;
  return `p50 ${at(0.5).toFixed(0)} ms, p99 ${at(0.99).toFixed(0)} ms, max ${at(1).toFixed(0)} ms (n = ${sorted.length})`;
}

function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}
