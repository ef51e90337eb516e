import { setTimeout as sleep } from "node:timers/promises";
import { memberOf, nowMs } from "../../test/support/crowd.ts";
import type { Attempt } from "../../test/support/crowd-client.ts";
import type { EnsembleHost, Lag } from "../../test/support/ensemble-host.ts";
import { expireSession } from "../../test/support/expire-session.ts";
import { portText } from "../../test/support/midonet.ts";
import { TcpRelay } from "../../test/support/tcp-relay.ts";
import type { ZookeeperServer } from "../../test/support/zookeeper.ts";
import { heapUsedOf } from "./heap.ts";
import type { Figure } from "./parts.ts";
import { childrenOf, costOf } from "./process-cost.ts";

export type EnsemblePart = (host: EnsembleHost, quick: boolean) => Promise<readonly Figure[]>;

const ASK_EVERY_MS = 50;
const RIGHT = "≤ 2 s; 0 lost";

/** One fault, and how it is mended once the agent has been seen to be right. */
interface Fault {
  readonly what: string;
  /** Does it. Resolves at the moment from which the agent can be right again. */
  begin(host: EnsembleHost, quick: boolean): Promise<Mend>;
}

type Mend = () => Promise<void>;

const FAULTS: readonly Fault[] = [
  {
    what: "the leader is killed",
    begin: async ({ ensemble }) => down(await ensemble.leader()),
  },
  {
    what: "the follower that the agent is on is killed",
    begin: async (host) => down(await onFollower(host)),
  },
  {
    what: "two of three are down for 60 s",
    begin: async ({ ensemble }, quick) => {
      const mend = await down(...ensemble.servers.slice(0, 2));
      await sleep(quick ? 5_000 : 60_000);
      return serving(mend, ensemble.servers);
    },
  },
  {
    what: "all three are down for 10 s",
    begin: async ({ ensemble }) => {
      const mend = await down(...ensemble.servers);
      await sleep(10_000);
      return serving(mend, ensemble.servers);
    },
  },
  {
    what: "the session expires",
    begin: async (host) => {
      const { server, sessionId } = await host.session();
      const known = host.agent.log.length;
      await expireSession(server, sessionId);
      await logged(host, "the NSDB is lost", known);
      return async () => undefined;
    },
  },
  {
    what: "the server that the agent is on accepts and never answers (SIGSTOP)",
    begin: async (host) => {
      const server = await onFollower(host);
      const known = host.agent.log.length;
      server.stop();
      await logged(host, "the NSDB is lost", known);
      return async () => server.cont();
    },
  },
];

/** Each fault while all guests ask; right after it one of the agent's own ports is bound and another unbound. */
export async function faults(host: EnsembleHost, quick: boolean): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  const before = await host.served();
  for (const fault of FAULTS) {
    await onFollower(host);
    host.crowd.poll(host.guests, ASK_EVERY_MS);
    await sleep(500);
    const faultMs = nowMs();
    const mend = await fault.begin(host, quick);
    const begunMs = nowMs();
    const lag = await host.change(faultMs);
    const wholeMs = nowMs() - begunMs;
    const attempts = await host.crowd.stopPolling();
    await mend();
    figures.push({
      what: fault.what,
      value: `${awayOf(lag)}, ${seconds(wholeMs)} in all; ${verdictOf(attempts)}`,
      target: RIGHT,
    });
  }
  figures.push(...(await startBesideSilent(host, quick ? 2 : 10)));
  const after = await host.served();
  const moved = host.guests.filter((n) => before.get(memberOf(n).portId) !== after.get(memberOf(n).portId));
  return [...figures, { what: "link-local addresses that changed", value: `${moved.length}`, target: "0" }];
}

function awayOf({ noticedMs, lostMs, ms }: Lag): string {
  if (noticedMs === undefined) return `session kept; own change served after ${seconds(ms)}`;
  const lost = `session lost after ${seconds(noticedMs)}, for ${seconds(lostMs)}`;
  return `${lost}; own change served ${seconds(ms)} after its return`;
}

async function startBesideSilent(host: EnsembleHost, rounds: number): Promise<readonly Figure[]> {
  const server = await onFollower(host);
  server.stop();
  const took: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await host.agent.stop();
    const beganMs = nowMs();
    host.agent.start();
    await host.agent.serving(host.guests.length + 1);
    took.push(nowMs() - beganMs);
  }
  server.cont();
  await server.serving();
  took.sort((a, b) => a - b);
  return [
    {
      what: `start while one of three accepts and never answers: process start → in sync (n = ${rounds})`,
      value: `fastest ${seconds(took[0] ?? 0)}, slowest ${seconds(took.at(-1) ?? 0)}`,
    },
  ];
}

/** What 10,000 changes of other hosts' ports in a minute cost. */
export async function others(host: EnsembleHost, quick: boolean): Promise<readonly Figure[]> {
  const windowMs = quick ? 6_000 : 60_000;
  const change = strangers(host);
  for (let at = 0; at < 1_000; at += 10) await change();
  await sleep(5_000);
  const storm = async (forMs: number): Promise<void> => {
    const beganMs = nowMs();
    for (let done = 10; done <= forMs / 6; done += 10) {
      await change();
      await sleep(Math.max(0, beganMs + done * 6 - nowMs()));
    }
  };
  const idle = await cpuDuring(host, () => sleep(windowMs));
  const busy = await cpuDuring(host, () => storm(windowMs));
  const another = storm(windowMs / 6);
  await sleep(windowMs / 12);
  const lag = await host.change(nowMs());
  await another;
  const name = `${windowMs / 1_000} s`;
  return [
    { what: `CPU of the agent in ${name} without any change`, value: cpu(idle) },
    {
      what: `CPU of the agent in ${name} with ${windowMs / 6} ports of other hosts made, changed or removed`,
      value: cpu(busy),
      target: "as without",
    },
    { what: "own change in the midst of them → served", value: seconds(lag.ms), target: "≤ 2 s" },
  ];
}

/** @returns Makes, changes or removes ten ports of other hosts, a thousand in turn. */
function strangers({ store }: EnsembleHost): () => Promise<void> {
  const otherHost = "b0571d00-0000-4000-8000-000000000001";
  let step = 0;
  return async () => {
    const turn = Math.floor(step / 100) % 3;
    const lot = Array.from({ length: 10 }, (_, more) => {
      const member = memberOf((step % 100) * 10 + more);
      return { ...member, portId: member.portId.replace(/^a/, "b"), interfaceName: `other${turn}` };
    });
    step += 1;
    await store.write(
      lot.map((port) => {
        const path = `/zoom/0/models/Port/${port.portId}`;
        const data = Buffer.from(portText(port, otherHost));
        if (turn === 0) return { kind: "create", path, data };
        return turn === 1 ? { kind: "set", path, data, version: 0 } : { kind: "delete", path, version: 1 };
      }),
    );
  };
}

/** 1,000 lost sessions of one agent that serves. */
export async function losses(host: EnsembleHost, quick: boolean): Promise<readonly Figure[]> {
  const total = quick ? 60 : 1_000;
  const lot = total / 10;
  const relays = await Promise.all(
    host.ensemble.servers.map(({ tcpPort, host: address }) => TcpRelay.start(tcpPort, address)),
  );
  const addresses = relays.map((relay) => relay.address).join();
  await host.startAt(host.nsdb.replace(host.ensemble.addresses, addresses));
  const lags: number[] = [];
  const round = async (): Promise<readonly Attempt[]> => {
    host.crowd.poll(host.guests, 2 * ASK_EVERY_MS);
    await lose(host, relays, lot);
    lags.push((await host.change(nowMs())).ms);
    return host.crowd.stopPolling();
  };
  // What a session has watched in vain ends with it.
  const settled = async () => {
    await lose(host, relays, 1);
    await sleep(5_000);
    return { watches: await host.watches(), ...(await memory(host)) };
  };
  const attempts = [...(await round())];
  const before = await settled();
  const heaps = [before.heap];
  for (let done = 0; done < total; done += lot) {
    attempts.push(...(await round()));
    heaps.push(await heapUsedOf(host.agent));
  }
  const after = await settled();
  await host.agent.stop();
  for (const relay of relays) await relay.close();
  return [
    {
      what: `${total + lot + 2} sessions lost one after the other`,
      value: verdictOf(attempts),
      target: "0 lost",
    },
    {
      what: `… own change after each ${lot}th → served, slowest`,
      value: seconds(Math.max(...lags)),
      target: "≤ 2 s",
    },
    {
      what: `… heap after a collection, at each ${lot}th, MiB`,
      value: heaps.map((bytes) => (bytes / 2 ** 20).toFixed(1)).join(", "),
      target: "flat",
    },
    {
      what: `… RSS after the first ${lot + 1} → after ${total} more`,
      value: `${before.rss.toFixed(1)} → ${after.rss.toFixed(1)} MiB`,
      target: "flat",
    },
    {
      what: "… watches at the servers, the same",
      value: `${before.watches} → ${after.watches}`,
      target: "the same",
    },
  ];
}

async function lose(host: EnsembleHost, relays: readonly TcpRelay[], times: number): Promise<void> {
  for (let done = 0; done < times; done++) {
    const known = host.agent.log.length;
    for (const relay of relays) relay.cutAll();
    await logged(host, "the NSDB is back", known);
  }
}

async function memory({ agent }: EnsembleHost): Promise<{ readonly heap: number; readonly rss: number }> {
  const heap = await heapUsedOf(agent);
  return { heap, rss: costOf(agent.pid).rssMiB };
}

/** Mends now, and returns when the first server takes writes again. */
async function serving(mend: Mend, servers: readonly ZookeeperServer[]): Promise<Mend> {
  const mended = mend();
  await Promise.any(servers.map((server) => server.serving()));
  return () => mended;
}

async function down(...servers: ZookeeperServer[]): Promise<Mend> {
  for (const server of servers) await server.kill();
  return async () => {
    for (const server of servers) server.launch();
    for (const server of servers) await server.serving();
  };
}

/** Moves the agent until it is on a follower. */
async function onFollower(host: EnsembleHost): Promise<ZookeeperServer> {
  for (;;) {
    const { server, sessionId } = await host.session();
    if ((await server.mode()) === "follower") return server;
    const known = host.agent.log.length;
    await expireSession(server, sessionId);
    await logged(host, "the NSDB is back", known);
  }
}

async function logged({ agent }: EnsembleHost, text: string, from: number): Promise<void> {
  const deadline = nowMs() + 30_000;
  while (!agent.log.slice(from).some((line) => line.includes(text))) {
    if (nowMs() > deadline)
      throw new Error(`the agent does not log "${text}"; its log:\n${agent.log.slice(-10).join("\n")}`);
    await sleep(5);
  }
}

/** CPU seconds of the agent and its children. */
async function cpuDuring({ agent }: EnsembleHost, work: () => Promise<void>): Promise<number> {
  const used = () =>
    [agent.pid, ...childrenOf(agent.pid)].reduce((sum, pid) => sum + costOf(pid).cpuSeconds, 0);
  const before = used();
  await work();
  return used() - before;
}

function verdictOf(attempts: readonly Attempt[]): string {
  const failed = attempts.filter(({ outcome }) => outcome !== "own" && outcome !== "foreign");
  const foreign = attempts.filter(({ outcome }) => outcome === "foreign").length;
  const slowest = attempts.reduce((most, { beganMs, endedMs }) => Math.max(most, endedMs - beganMs), 0);
  const why =
    failed.length === 0 ? "" : ` (${[...new Set(failed.map(({ outcome }) => outcome))].join(", ")})`;
  return `${attempts.length} requests, ${failed.length} lost${why}, ${foreign} foreign, slowest ${slowest.toFixed(0)} ms`;
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(2)} s`;
}

function cpu(used: number): string {
  return `${used.toFixed(2)} s`;
}
