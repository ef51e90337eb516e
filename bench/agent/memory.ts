// What the whole agent keeps resident while guests ask all the time and ports come and go.
//   nice node --import tsx bench/agent/memory.ts [--minutes 5] [--ports 1000] [--rate 200]
// Needs root, and the Debian packages that the tests need. Everything happens in namespaces of its own.
// A run of an hour writes bench/agent/memory.md.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { instanceOf, memberOf } from "../../test/support/crowd.ts";
import { buildHypervisor, run } from "../../test/support/guests.ts";
import { Cloud } from "./cloud.ts";
import type { GuestsReport } from "./memory-guests.ts";
import { inOwnNamespace } from "./own-namespace.ts";
import { childrenOf, costOf } from "./process-cost.ts";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "5" },
    ports: { type: "string", default: "1000" },
    rate: { type: "string", default: "200" },
  },
});

interface Minute extends GuestsReport {
  readonly rssMiB: number;
  readonly cpuSeconds: number;
}

async function measure(): Promise<void> {
  const ports = Number(values.ports);
  await run("npm", "run", "--silent", "build");
  await buildHypervisor([]);
  const members = Array.from({ length: ports }, (_, n) => n);
  const cloud = await Cloud.build(ports, members);
  const guests = spawn(
    "nsenter",
    [
      ...["--net=/run/netns/crowd", process.execPath, "--import", "tsx"],
      new URL("memory-guests.ts", import.meta.url).pathname,
      ...[values.ports, values.rate],
    ],
    { stdio: ["ignore", "inherit", "inherit", "ipc"] },
  );
  try {
    const userData = Buffer.alloc(65_536, "u");
    for (const n of members) cloud.nova.add({ ...instanceOf(n), userData });
    cloud.agent.start();
    await cloud.serving(0);
    await cloud.midonet.bindAll(members.map(memberOf));
    await cloud.serving(ports);
    say(`${costOf(cloud.agent.pid).rssMiB.toFixed(0)} MiB with ${ports} ports, before the first minute`);
    const minutes: Minute[] = [];
    while (minutes.length < Number(values.minutes)) {
      const minute = await oneMinute(cloud, guests, minutes.length);
      minutes.push(minute);
      say(rowOf(minute, minutes.length));
    }
    if (minutes.length >= 60) writeFileSync(new URL("memory.md", import.meta.url), reportOf(minutes));
  } finally {
    guests.kill("SIGKILL");
    await cloud.tearDown();
  }
}

/** Six ports go and come back in it. */
async function oneMinute(cloud: Cloud, guests: ChildProcess, before: number): Promise<Minute> {
  const { pid } = cloud.agent;
  const cpuBefore = cpuOf(pid);
  for (let turn = 0; turn < 6; turn++) {
    const port = memberOf((before * 6 + turn) % Number(values.ports));
    await cloud.midonet.unbind(port.portId);
    await sleep(1_000);
    await cloud.midonet.bind(port);
    await sleep(9_000);
    // The stand-in remembers what it was asked, which is not what is measured here.
    cloud.nova.requests.length = 0;
  }
  guests.send("report");
  const [report] = (await once(guests, "message")) as [GuestsReport];
  return { ...report, rssMiB: costOf(pid).rssMiB, cpuSeconds: cpuOf(pid) - cpuBefore };
}

function cpuOf(pid: number): number {
  return [pid, ...childrenOf(pid)].reduce((sum, one) => sum + costOf(one).cpuSeconds, 0);
}

function reportOf(minutes: readonly Minute[]): string {
  const most = Math.max(...minutes.map(({ rssMiB }) => rssMiB));
  const failed = minutes.reduce((sum, minute) => sum + minute.failed, 0);
  const rows = minutes.map((minute, at) => rowOf(minute, at + 1)).filter((_, at) => (at + 1) % 5 === 0);
  return `# Memory with ${values.ports} ports, ${minutes.length} minutes of load

\`node --import tsx bench/agent/memory.ts --minutes ${minutes.length} --ports ${values.ports} --rate ${values.rate}\`, ${new Date().toISOString().slice(0, 10)}, Node ${process.versions.node}: ${values.rate} requests a second of ${values.ports} guests
for ten documents, every tenth of 64 KiB, half of them on a connection of their own; six ports a minute are unbound and
bound again, and the requests that come meanwhile fail. Target: at most 120 MiB resident after the hour.

At the end ${minutes.at(-1)?.rssMiB.toFixed(0)} MiB, at most ${most.toFixed(0)} MiB; ${failed} requests failed.

| minute | resident (RSS) | answered | failed | answers, MiB | CPU of the agent |
|---|---|---|---|---|---|
${rows.join("\n")}
`;
}

function rowOf({ rssMiB, answered, failed, mebibytes, cpuSeconds }: Minute, minute: number): string {
  return `| ${minute} | ${rssMiB.toFixed(0)} MiB | ${answered} | ${failed} | ${mebibytes.toFixed(0)} | ${cpuSeconds.toFixed(1)} s |`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

await inOwnNamespace(measure);
// A child that still holds a pipe must not keep the bench alive.
if (process.env["MN_METADATA_BENCH_NETNS"] !== undefined) process.exit();
