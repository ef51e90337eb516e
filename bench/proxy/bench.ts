// How fast the proxy is beside haproxy, in the same run: requests per CPU-second, latency, and their ratios.
//   node --import tsx bench/proxy/bench.ts [--quick]        needs root, nginx, haproxy and wrk (Debian)
// Everything runs in a network namespace of its own; results go to bench/proxy/results.md.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import {
  DISTINCT_LUA,
  INSTANCES,
  neutronConf,
  nginxConf,
  plainConf,
  REPORT_LUA,
  TCP_PORTS,
} from "./peers.ts";

const QUICK = process.argv.includes("--quick");
const ROUNDS = 5;
const FOLDER = mkdtempSync(join(tmpdir(), "mn-bench-"));

interface Target {
  readonly name: "plain" | "neutron" | "ours" | "direct";
  readonly tcpPort: number;
  readonly pid: number;
}

interface Case {
  readonly size: "1 KiB" | "64 KiB";
  readonly connections: number;
  readonly isKeptAlive: boolean;
  /** Every request another URL, so that no two can share an answer: as many guests asking for their own. */
  readonly isDistinct: boolean;
}

interface Run {
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly cpuPerThousand: number;
  readonly failed: number;
}

async function main(): Promise<void> {
  const children: ChildProcess[] = [];
  try {
    const targets = await startAll(children);
    const results = new Map<string, Map<string, Run[]>>();
    const cases = casesOf();
    const rounds = QUICK ? 1 : ROUNDS;
    for (const one of cases) await measure(one, targets.at(-1) as Target, 1);
    for (let round = 0; round < rounds; round++) {
      for (const one of cases) {
        // Who comes after whom makes a difference, so that changes.
        for (const target of inOrder(targets, round)) {
          const run = await measure(one, target, 1);
          const ofCase = results.get(title(one)) ?? new Map<string, Run[]>();
          results.set(title(one), ofCase.set(target.name, [...(ofCase.get(target.name) ?? []), run]));
        }
      }
    }
    const report = reportOf(results, targets);
    process.stdout.write(report);
    if (!QUICK) writeFileSync(new URL("results.md", import.meta.url), report);
  } finally {
    for (const child of children) child.kill("SIGTERM");
    rmSync(FOLDER, { recursive: true, force: true });
  }
}

/** Another one first each time, and every other time backwards. */
function inOrder<T>(all: readonly T[], round: number): readonly T[] {
  const at = round % all.length;
  const turned = [...all.slice(at), ...all.slice(0, at)];
  return round % 2 === 0 ? turned : turned.reverse();
}

function casesOf(): Case[] {
  const cases: Case[] = [];
  for (const size of QUICK ? (["1 KiB"] as const) : (["1 KiB", "64 KiB"] as const)) {
    for (const isDistinct of size === "1 KiB" ? [false, true] : [false]) {
      for (const isKeptAlive of [true, false]) {
        for (const connections of connectionsOf(size, isDistinct)) {
          cases.push({ size, connections, isKeptAlive, isDistinct });
        }
      }
    }
  }
  return cases;
}

function connectionsOf(size: Case["size"], isDistinct: boolean): readonly number[] {
  if (size === "64 KiB") return [16];
  return QUICK || isDistinct ? [16, 128] : [1, 16, 128];
}

async function startAll(children: ChildProcess[]): Promise<Target[]> {
  const run = (command: string, args: string[]): ChildProcess => {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
    children.push(child);
    return child;
  };
  writeFileSync(join(FOLDER, "1k"), Buffer.alloc(1_024, "x"));
  writeFileSync(join(FOLDER, "64k"), Buffer.alloc(65_536, "y"));
  writeFileSync(join(FOLDER, "nginx.conf"), nginxConf(FOLDER));
  writeFileSync(join(FOLDER, "plain.cfg"), plainConf());
  writeFileSync(join(FOLDER, "neutron.cfg"), neutronConf());
  writeFileSync(join(FOLDER, "report.lua"), REPORT_LUA);
  writeFileSync(join(FOLDER, "distinct.lua"), `${REPORT_LUA}\n${DISTINCT_LUA}`);
  const nginx = run("nginx", ["-p", FOLDER, "-c", join(FOLDER, "nginx.conf")]);
  const plain = run("haproxy", ["-db", "-f", join(FOLDER, "plain.cfg")]);
  const neutron = run("haproxy", ["-db", "-f", join(FOLDER, "neutron.cfg")]);
  const serve = new URL("serve.ts", import.meta.url).pathname;
  const ours = run(process.execPath, [
    "--import",
    "tsx",
    serve,
    `http://127.0.0.1:${TCP_PORTS.nova}`,
    String(TCP_PORTS.ours),
  ]);
  const targets: Target[] = [
    { name: "direct", tcpPort: TCP_PORTS.nova, pid: nginx.pid ?? 0 },
    { name: "plain", tcpPort: TCP_PORTS.plain, pid: plain.pid ?? 0 },
    { name: "neutron", tcpPort: TCP_PORTS.neutron, pid: neutron.pid ?? 0 },
    { name: "ours", tcpPort: TCP_PORTS.ours, pid: ours.pid ?? 0 },
  ];
  for (const { tcpPort } of targets) await answers(tcpPort);
  return targets;
}

async function answers(tcpPort: number): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const status = await fetch(`http://127.0.0.1:${tcpPort}/x`).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 200) return;
    if (performance.now() > deadline) throw new Error(`nothing answers on port ${tcpPort}: ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function measure(one: Case, target: Target, seconds: number): Promise<Run> {
  const path = one.size === "1 KiB" ? "/openstack/latest/meta_data.json" : "/openstack/latest/user_data";
  const args = ["-t1", `-c${one.connections}`, `-d${seconds}s`, "--timeout", "10s", "-s"];
  args.push(join(FOLDER, one.isDistinct ? "distinct.lua" : "report.lua"));
  if (!one.isKeptAlive) args.push("-H", "Connection: close");
  const cpuBefore = cpuSeconds(target.pid);
  const text = await output("wrk", [...args, `http://127.0.0.1:${target.tcpPort}${path}`]);
  const cpu = cpuSeconds(target.pid) - cpuBefore;
  const [, json = ""] = /^REPORT (.+)$/m.exec(text) ?? [];
  const { requests, us, p50, p99, failed } = JSON.parse(json) as Record<string, number>;
  return {
    perSecond: ((requests ?? 0) / (us ?? 1)) * 1e6,
    p50Us: p50 ?? 0,
    p99Us: p99 ?? 0,
    cpuPerThousand: (cpu / (requests ?? 1)) * 1000,
    failed: failed ?? 0,
  };
}

function output(command: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", () => resolve(text));
  });
}

/** User and system time of a process and of its children that still run, in ticks of 10 ms. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  const own = (Number(fields[11]) + Number(fields[12])) / 100;
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return children === ""
    ? own
    : children.split(" ").reduce((sum, child) => sum + cpuSeconds(Number(child)), own);
}

function reportOf(results: Map<string, Map<string, Run[]>>, targets: readonly Target[]): string {
  const lines = [
    "# The proxy beside haproxy",
    "",
    `Node ${process.versions.node}, ${execFileSync("haproxy", ["-v"], { encoding: "utf8" }).split("\n")[0]}, ${cpus().length} CPUs shared by`,
    "client, proxy and upstream; medians of five interleaved runs of a second each, in changing order. `direct` is the constant",
    "upstream (nginx), `plain` a haproxy that only forwards, `neutron` a haproxy as Neutron's host proxy has it with",
    `${INSTANCES} instances, \`ours\` this proxy with ${INSTANCES} ports. "same" is one guest asking for one document, where requests in`,
    'flight share an answer; "distinct" asks for another URL each time, so none can. Closed loop: latency is at saturation.',
    "",
    "| case | target | req/s | p50 ms | p99 ms | CPU s per 1,000 | req per CPU-s, × neutron | × plain | failed |",
    "|---|---|---|---|---|---|---|---|---|",
  ];
  for (const [name, runs] of results) {
    for (const { name: target } of targets) {
      const own = runs.get(target) ?? [];
      const ratio = (peer: string) =>
        median(own.map((run, i) => (runs.get(peer)?.[i]?.cpuPerThousand ?? 0) / run.cpuPerThousand)).toFixed(
          2,
        );
      const cell = (pick: (run: Run) => number) => median(own.map(pick));
      lines.push(
        `| ${name} | ${target} | ${Math.round(cell((r) => r.perSecond))} | ${(cell((r) => r.p50Us) / 1000).toFixed(2)} | ${(cell((r) => r.p99Us) / 1000).toFixed(2)} | ${cell((r) => r.cpuPerThousand).toFixed(4)} | ${ratio("neutron")} | ${ratio("plain")} | ${own.reduce((sum, run) => sum + run.failed, 0)} |`,
      );
    }
  }
  const ours = targets.at(-1)?.pid ?? 0;
  const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${ours}/status`, "utf8"))?.[1] ?? "0";
  lines.push("", `Resident memory of ours after all this: ${Math.round(Number(rss) / 1024)} MiB.`, "");
  return lines.join("\n");
}

function title({ size, connections, isKeptAlive, isDistinct }: Case): string {
  return `${size}, ${isDistinct ? "distinct" : "same"}, ${isKeptAlive ? "keep-alive" : "close"}, ${connections}`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

if (process.env["MN_BENCH_INSIDE"] === undefined) {
  const inside = `ip link set lo up && sysctl -qw net.ipv4.tcp_tw_reuse=1 net.ipv4.ip_local_port_range="1024 65000" net.core.somaxconn=4096 && exec "$0" "$@"`;
  execFileSync(
    "unshare",
    ["--net", "--", "sh", "-c", inside, process.execPath, ...process.execArgv, ...process.argv.slice(1)],
    {
      stdio: "inherit",
      env: { ...process.env, MN_BENCH_INSIDE: "1", PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
    },
  );
} else {
  await main();
}
