// A hundred thousand malformed requests of one guest, with slow ones beside them: what reaches nova, what the proxy
// keeps afterwards, and what a neighbour notices.
//   flock /tmp/mn-bench.lock node --import tsx bench/proxy/malformed.ts [--requests 100000]        needs root
// Everything runs in a network namespace of its own; a whole run writes bench/proxy/malformed.md.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { addressOf } from "../../test/agent/proxy/lab.ts";
import { StrictNova } from "../../test/agent/proxy/malice-lab.ts";
import { run } from "../../test/support/guests.ts";
import { inOwnNamespace } from "../agent/own-namespace.ts";
import { costOf } from "../agent/process-cost.ts";
import { TCP_PORTS } from "./peers.ts";

const { values } = parseArgs({ options: { requests: { type: "string", default: "100000" } } });
/** As fairness-parts.ts has it. */
const BAD_GUEST = 3;
const AT_ONCE = 200;
const SLOW = 500;

/** What is left in the proxy when nobody asks. */
interface Rest {
  readonly rssMiB: number;
  readonly heapMiB: number;
  readonly openFiles: number;
  readonly status: { readonly connections: number; readonly inFlight: number; readonly held: number };
}

async function measure(): Promise<void> {
  await run("ip", "link", "set", "lo", "up");
  await run("sysctl", "-qw", "net.core.somaxconn=4096", "net.ipv4.tcp_tw_reuse=1");
  const nova = await StrictNova.listen(BAD_GUEST, TCP_PORTS.nova);
  const proxy = start("first", "serve.ts", nova.url, String(TCP_PORTS.ours));
  try {
    await sleep(3_000);
    const requests = Number(values.requests);
    nova.expect({ from: 0, count: requests * 1.05 });
    // Once before, so that what is made once and kept is not counted.
    await flood(requests, requests / 20);
    const before = await atRest(proxy);
    const aloneMs = await neighbour(4_000);
    const slow = Array.from({ length: SLOW }, slowly);
    const began = performance.now();
    const during = neighbour(4_000);
    await flood(0, requests);
    const seconds = (performance.now() - began) / 1_000;
    for (const socket of slow) socket.destroy();
    const after = await atRest(proxy);
    const report = reportOf({ requests, seconds, nova, before, after }, [
      ["before", aloneMs],
      ["during the flood", await during],
      ["after", await neighbour(4_000)],
    ]);
    process.stdout.write(report);
    if (requests >= 100_000) writeFileSync(new URL("malformed.md", import.meta.url), report);
    if (nova.faults.length > 0) process.exitCode = 1;
  } finally {
    proxy.kill("SIGKILL");
    nova.close();
  }
}

/** `first`: at high priority, since neither other work nor the CPU of the flood is what is measured. */
function start(priority: "first" | "usual", file: string, ...args: readonly string[]): ChildProcess {
  const path = new URL(file, import.meta.url).pathname;
  const node = [process.execPath, "--expose-gc", "--import", "tsx", path, ...args];
  return spawn("nice", ["-n", priority === "first" ? "-15" : "0", ...node], {
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
}

/** In a process of its own, so that the stand-in nova has time for the neighbour. */
async function flood(from: number, count: number): Promise<void> {
  const args = ["malice", String(from), String(count), String(AT_ONCE)];
  await once(start("usual", "fairness-parts.ts", ...args), "exit");
}

/** A byte of a request each half second, begun again when the proxy has had enough. */
function slowly(): Socket {
  const socket = connect({ host: "127.0.0.1", port: TCP_PORTS.ours, localAddress: addressOf(BAD_GUEST) });
  const timer = setInterval(() => socket.write("G"), 500);
  socket.on("error", () => undefined).on("close", () => clearInterval(timer));
  return socket;
}

async function neighbour(forMs: number): Promise<readonly number[]> {
  const child = start("first", "fairness-parts.ts", "ask", String(forMs));
  const [told] = (await once(child, "message")) as [number[]];
  return told.sort((a, b) => a - b);
}

async function atRest(proxy: ChildProcess): Promise<Rest> {
  await sleep(6_000);
  proxy.send("rest");
  const [told] = (await once(proxy, "message")) as [Pick<Rest, "heapMiB" | "status">];
  const { pid = 0 } = proxy;
  return { ...told, rssMiB: costOf(pid).rssMiB, openFiles: readdirSync(`/proc/${pid}/fd`).length };
}

function reportOf(
  run: { requests: number; seconds: number; nova: StrictNova; before: Rest; after: Rest },
  latencies: readonly (readonly [when: string, sorted: readonly number[]])[],
): string {
  const { requests, seconds, nova, before, after } = run;
  const restRow = (what: string, cell: (rest: Rest) => string) =>
    `| ${what} | ${cell(before)} | ${cell(after)} |`;
  const at = (sorted: readonly number[], share: number) =>
    (sorted[Math.floor(share * sorted.length)] ?? Number.NaN).toFixed(2);
  return `# ${requests} malformed requests

\`node --import tsx bench/proxy/malformed.ts\`, ${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}: seventeen kinds of malice
(\`test/agent/proxy/malformed.ts\`), ${AT_ONCE} connections at a time, each with one, in ${seconds.toFixed(0)} s; beside them ${SLOW} connections
that send a byte each half second. Nova is a parser of its own, as strict as RFC 9112.

${nova.faults.length} requests reached nova that a strict parser refuses, or with another identity; ${nova.received} requests in all did,
the neighbour's and what was valid after all among them.
${nova.faults
  .slice(0, 20)
  .map((fault) => `\n    ${fault}`)
  .join("")}
| the proxy, asked nothing for six seconds | before | after |
|---|---|---|
${restRow("heap after a collection", ({ heapMiB }) => `${heapMiB.toFixed(1)} MiB`)}
${restRow("resident (RSS)", ({ rssMiB }) => `${rssMiB.toFixed(0)} MiB`)}
${restRow("open files", ({ openFiles }) => String(openFiles))}
${restRow("connections, requests in flight, held", ({ status }) => `${status.connections}, ${status.inFlight}, ${status.held}`)}

| a neighbour that asks every 10 ms | p50 ms | p99 ms |
|---|---|---|
${latencies.map(([when, sorted]) => `| ${when} | ${at(sorted, 0.5)} | ${at(sorted, 0.99)} |`).join("\n")}

Flood, proxy, nova and neighbour share two CPUs; proxy and neighbour at high priority.
`;
}

await inOwnNamespace(measure);
