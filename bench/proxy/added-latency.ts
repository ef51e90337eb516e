// What the proxy adds to an answer of nova's while nova is half busy: open loop, direct and through it in turn.
//   flock /tmp/mn-bench.lock node --import tsx bench/proxy/added-latency.ts [--rounds 5]        needs root and wrk
// Everything runs in a network namespace of its own; results go to bench/proxy/added-latency.md.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { run } from "../../test/support/guests.ts";
import { inOwnNamespace } from "../agent/own-namespace.ts";
import { TCP_PORTS } from "./peers.ts";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const ROUND_MS = 4_000;

async function measure(): Promise<void> {
  await run("ip", "link", "set", "lo", "up");
  await run("sysctl", "-qw", "net.core.somaxconn=4096", "net.ipv4.tcp_tw_reuse=1");
  const servers = [
    part("fairness-parts.ts", "nova"),
    part("serve.ts", `http://127.0.0.1:${TCP_PORTS.nova}`, String(TCP_PORTS.ours)),
  ];
  try {
    await sleep(3_000);
    const most = capacity();
    const half = most / 2;
    await load(TCP_PORTS.ours, half);
    const direct: number[] = [];
    const proxied: number[] = [];
    for (let round = 0; round < Number(values.rounds); round++) {
      direct.push(...(await load(TCP_PORTS.nova, half)));
      proxied.push(...(await load(TCP_PORTS.ours, half)));
    }
    const report = reportOf(most, sorted(direct), sorted(proxied));
    process.stdout.write(report);
    if (Number(values.rounds) >= 5) writeFileSync(new URL("added-latency.md", import.meta.url), report);
  } finally {
    for (const server of servers) server.kill("SIGKILL");
  }
}

/** At high priority, since other work of the machine is not what is measured. */
function part(file: string, ...args: readonly string[]): ChildProcess {
  const path = new URL(file, import.meta.url).pathname;
  return spawn("nice", ["-n", "-15", process.execPath, "--import", "tsx", path, ...args], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
}

/** Requests per second that the stand-in nova answers when it does nothing else, on a new connection each. */
function capacity(): number {
  const args = ["-t1", "-c16", "-d2s", "-H", "Connection: close", `http://127.0.0.1:${TCP_PORTS.nova}/`];
  const text = execFileSync("nice", ["-n", "-15", "wrk", ...args], { encoding: "utf8" });
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]);
}

async function load(tcpPort: number, perSecond: number): Promise<number[]> {
  const child = part("fairness-parts.ts", "load", String(ROUND_MS), String(tcpPort), String(perSecond));
  const [told] = (await once(child, "message")) as [number[]];
  return told;
}

function reportOf(most: number, direct: readonly number[], proxied: readonly number[]): string {
  const row = (what: string, cell: (share: number) => number) =>
    `| ${what} | ${[0.5, 0.9, 0.99].map((share) => cell(share).toFixed(2)).join(" | ")} |`;
  return `# What the proxy adds

\`node --import tsx bench/proxy/added-latency.ts\`, ${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}: 40 guests ask ${(most / 2).toFixed(0)} times a second in all,
half of what the stand-in nova (0.4 ms of CPU an answer) can do, whatever the answers take (open loop), on a new
connection each time. ${values.rounds} interleaved rounds of ${ROUND_MS / 1_000} s, all at high priority on two CPUs that client, proxy and nova
share. Target: at most 2 ms more at p99.

| ms | p50 | p90 | p99 |
|---|---|---|---|
${row("nova directly", (share) => at(direct, share))}
${row("through the proxy", (share) => at(proxied, share))}
${row("added", (share) => at(proxied, share) - at(direct, share))}
`;
}

function sorted(numbers: readonly number[]): readonly number[] {
  return [...numbers].sort((a, b) => a - b);
}

function at(ms: readonly number[], share: number): number {
  return ms[Math.floor(share * ms.length)] ?? Number.NaN;
}

await inOwnNamespace(measure);
