// What one guest's abuse does to the latency of another: interleaved rounds with and without it.
//   flock /tmp/mn-bench.lock node --import tsx bench/proxy/fairness.ts [--rounds 5]        needs root
// Everything runs in a network namespace of its own; results go to bench/proxy/fairness.md.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { run } from "../../test/support/guests.ts";
import { inOwnNamespace } from "../agent/own-namespace.ts";
import type { Abuse } from "./fairness-parts.ts";
import { TCP_PORTS } from "./peers.ts";

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "5" } },
});

const KINDS: readonly Abuse[] = [
  "nothing",
  "nothing again",
  "half-open",
  "poll, one",
  "poll, kept",
  "poll, new",
  "hang up",
];
const TOLD: Readonly<Record<Abuse, string>> = {
  nothing: "nothing",
  "nothing again": "nothing, measured as the others are: what chance adds",
  "half-open": "1,100 half-open requests",
  "poll, one": "one kept connection that asks without pause",
  "poll, kept": "64 kept connections that ask without pause",
  "poll, new": "64 clients that ask without pause, a connection each time",
  "hang up": "64 clients that connect, ask and reset, without pause",
};
/** Long enough for a burst to be used up. */
const SETTLE_MS = 1_500;
const ROUND_MS = 3_000;

async function measure(): Promise<void> {
  await run("ip", "link", "set", "lo", "up");
  await run("sysctl", "-qw", "net.core.somaxconn=4096", "net.ipv4.tcp_tw_reuse=1");
  const load = loadavg()[0] ?? 0;
  const servers = [
    part("first", "fairness-parts.ts", "nova"),
    part("first", "serve.ts", `http://127.0.0.1:${TCP_PORTS.nova}`, String(TCP_PORTS.ours)),
  ];
  const neighbour = part("first", "fairness-parts.ts", "ask");
  const latencies = (kind: Abuse) => latenciesOf(neighbour, kind);
  const rounds: Map<Abuse, readonly number[]>[] = [];
  try {
    await sleep(3_000);
    await latencies("nothing");
    while (rounds.length < Number(values.rounds)) {
      const round = new Map<Abuse, readonly number[]>();
      for (const kind of shuffled(KINDS)) round.set(kind, await latencies(kind));
      rounds.push(round);
      process.stdout.write(`${KINDS.map((kind) => `${kind}: ${told(round.get(kind))}`).join(" | ")}\n`);
    }
    const report = reportOf(rounds, load);
    process.stdout.write(report);
    if (rounds.length >= 5) writeFileSync(new URL("fairness.md", import.meta.url), report);
  } finally {
    for (const each of [...servers, neighbour]) each.kill("SIGKILL");
  }
}

/** `first`: at high priority, since neither other work nor the abuser's own CPU is what is measured. */
function part(priority: "first" | "usual", file: string, ...args: readonly string[]): ChildProcess {
  const path = new URL(file, import.meta.url).pathname;
  const node = [process.execPath, "--import", "tsx", path, ...args];
  const [command = "", ...rest] = priority === "first" ? ["nice", "-n", "-15", ...node] : node;
  return spawn(command, rest, { stdio: ["ignore", "ignore", "inherit", "ipc"] });
}

/** Of a neighbour, sorted, while one guest does this. */
async function latenciesOf(neighbour: ChildProcess, kind: Abuse): Promise<readonly number[]> {
  const abuser = part("usual", "fairness-parts.ts", "abuse", kind);
  try {
    await sleep(SETTLE_MS);
    neighbour.send(SETTLE_MS + ROUND_MS);
    const [all] = (await once(neighbour, "message")) as [number[]];
    return all.slice(Math.round((all.length * SETTLE_MS) / (SETTLE_MS + ROUND_MS))).sort((a, b) => a - b);
  } finally {
    abuser.kill("SIGKILL");
    await sleep(300);
  }
}

function reportOf(rounds: readonly Map<Abuse, readonly number[]>[], load: number): string {
  const pooled = (kind: Abuse) => rounds.flatMap((round) => round.get(kind) ?? []).sort((a, b) => a - b);
  const rows = KINDS.map((kind) => {
    const all = pooled(kind);
    const cells = [0.5, 0.9, 0.99].map((share) => at(all, share).toFixed(2));
    const change = `${((at(all, 0.99) / at(pooled("nothing"), 0.99) - 1) * 100).toFixed(0)} %`;
    return `| ${TOLD[kind]} | ${cells.join(" | ")} | ${kind === "nothing" ? "" : change} |`;
  });
  return `# What one guest's abuse does to its neighbour

\`node --import tsx bench/proxy/fairness.ts\`, ${new Date().toISOString().slice(0, 10)}: ${cpus().length} × ${cpus()[0]?.model ?? "unknown CPU"}, Node ${process.versions.node}, load average ${load.toFixed(1)}
when it began. The neighbour asks every 10 ms, on a new connection each time, for a document of 1,000 bytes that
costs nova 0.4 ms of CPU. ${rounds.length} interleaved rounds of ${ROUND_MS / 1_000} s, taken
together. Target: less than 20 %. Proxy, nova and neighbour
run at high priority, the abuser and the rest of the machine at the usual one.

| one guest does | p50 ms | p90 ms | p99 ms | p99 against nothing |
|---|---|---|---|---|
${rows.join("\n")}
`;
}

function told(sorted: readonly number[] = []): string {
  return [0.5, 0.9, 0.99].map((share) => at(sorted, share).toFixed(2)).join(" ");
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

function shuffled<T>(items: readonly T[]): readonly T[] {
  return items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

await inOwnNamespace(measure);
