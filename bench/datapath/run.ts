// What a change costs and what the path adds, in a network namespace of its own (re-executes itself there):
//   node --import tsx bench/datapath/run.ts
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { promisify } from "node:util";
import { LinkTable } from "../../src/datapath/links.ts";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";
import { TestHost } from "../../test/support/namespace.ts";
import { serveEcho } from "./echo.ts";

const SIZES = [0, 100, 1_000, 2_000];
const CHANGES = 30;
const ROUNDS = 2_000;
const OUTER = "MN_METADATA_TEST_NETNS";

if (process.env[OUTER] === undefined) {
  const env = { ...process.env, [OUTER]: readlinkSync("/proc/self/ns/net") };
  const inner = `ip link set lo up && exec "$0" "$@"`;
  const words = [
    "--net",
    "--",
    "sh",
    "-c",
    inner,
    process.execPath,
    ...process.execArgv,
    ...process.argv.slice(1),
  ];
  process.exit(spawnSync("unshare", words, { stdio: "inherit", env }).status ?? 1);
}

const host = new TestHost();
const datapath = openDatapath();
const guest = await host.plug({ tenant: "b", addresses: ["10.0.0.3/24"], mac: "fa:16:3e:00:00:03" });
const bridge = (
  JSON.parse(execFileSync("ip", ["-j", "link", "show", "type", "bridge"]).toString()) as { ifname: string }[]
)[0];
execFileSync("ip", ["addr", "add", "10.0.0.254/24", "dev", bridge?.ifname ?? ""]);

const lines: string[] = [];
const bound: Plumbing[] = [await plumbing(0, guest.interfaceName, await guest.ifindex())];
for (const size of SIZES) {
  const links = await grow(size);
  const began = performance.now();
  const report = await datapath.sync(bound, "exact");
  const bulkMs = performance.now() - began;
  const single = await measureChanges(links);
  const path = await measurePath();
  const slab = readFileSync("/proc/meminfo", "utf8").match(/^Slab:\s+(\d+)/m)?.[1] ?? "0";
  const added = report.added.length;
  lines.push(
    [
      size,
      added === 0 ? "–" : `${added} in ${ms(bulkMs)} ms`,
      added === 0 ? "–" : Math.round((added * 1_000) / bulkMs),
      `${ms(at(single.add, 0.5))} / ${ms(at(single.add, 0.99))}`,
      `${ms(at(single.remove, 0.5))} / ${ms(at(single.remove, 0.99))}`,
      `${path.ours.toFixed(1)} / ${path.plain.toFixed(1)}`,
      (path.ours / path.plain).toFixed(2),
      Math.round(process.memoryUsage().rss / 1_048_576),
      Math.round(Number(slab) / 1_024),
    ].join(" | "),
  );
  process.stdout.write(`${lines.at(-1)}\n`);
}
await datapath.sweep();
await datapath.close();
await host.close();

const text = `# Datapath: the last run

\`node --import tsx bench/datapath/run.ts\` on ${execFileSync("uname", ["-r"]).toString().trim()}, ${execFileSync("nft", ["--version"]).toString().trim()}, Node ${process.versions.node}.
One change is a whole \`sync()\` (observe, plan, one transaction). The path is a 128-byte TCP round trip of a guest
to the proxy's address and, in turns in the same run, to a server on its bridge in the host (a plain hop).

| ports | bulk | ports/s | add one, ms p50 / p99 | remove one, ms p50 / p99 | round trip, µs p50: path / plain hop | ratio | RSS of the process, MiB | kernel slab of the machine, MiB |
|---|---|---|---|---|---|---|---|---|
${lines.map((line) => `| ${line} |`).join("\n")}
`;
writeFileSync(new URL("results.md", import.meta.url), text);
process.exit(0);

async function plumbing(index: number, interfaceName: string, ifindex: number): Promise<Plumbing> {
  const portId = `00000000-0000-4000-8000-${index.toString(16).padStart(12, "0")}`;
  const identities = [{ number: index + 1, fixedAddress: "10.0.0.3" }];
  return { portId, interfaceName, ifindex, mac: "fa:16:3e:00:00:03", identities };
}

/** Real taps, as many as there are to be ports and one to change. */
async function grow(size: number): Promise<LinkTable> {
  const names = Array.from({ length: size + 1 }, (_, at) => `bt${at + 1}`);
  const known = await LinkTable.list();
  const missing = names.filter((name) => known.get(name) === undefined);
  const batch = missing.map((name) => `tuntap add dev ${name} mode tap`).join("\n");
  execFileSync("ip", ["-batch", "-"], { input: `${batch}\n` });
  const links = await LinkTable.list();
  for (let index = bound.length; index <= size; index++) {
    bound.push(await plumbing(index, `bt${index}`, links.get(`bt${index}`)?.ifindex ?? 0));
  }
  return links;
}

async function measureChanges(links: LinkTable): Promise<{ add: number[]; remove: number[] }> {
  const times = { add: [] as number[], remove: [] as number[] };
  const name = `bt${bound.length}`;
  const one = await plumbing(60_000, name, links.get(name)?.ifindex ?? 0);
  for (let change = 0; change < CHANGES; change++) {
    for (const [kind, want] of [
      ["add", [...bound, one]],
      ["remove", bound],
    ] as const) {
      const began = performance.now();
      await datapath.sync(want, "exact");
      times[kind].push(performance.now() - began);
    }
  }
  return { add: times.add.sort((a, b) => a - b), remove: times.remove.sort((a, b) => a - b) };
}

async function measurePath(): Promise<{ ours: number; plain: number }> {
  const stop = await serveEcho([
    ["169.254.169.254", 9697],
    ["10.0.0.254", 9698],
  ]);
  const script = new URL("echo.ts", import.meta.url).pathname;
  const targets = ["169.254.169.254", "80", String(ROUNDS), "10.0.0.254", "9698", String(ROUNDS)];
  const words = ["netns", "exec", guest.namespace, process.execPath, ...process.execArgv, script, ...targets];
  const { stdout } = await promisify(execFile)("ip", words, { maxBuffer: 64 * 1024 * 1024 });
  stop();
  const times = JSON.parse(stdout) as Record<string, number[]>;
  const median = (host: string) =>
    at(
      (times[host] ?? []).sort((a, b) => a - b),
      0.5,
    );
  return { ours: median("169.254.169.254"), plain: median("10.0.0.254") };
}

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function ms(value: number): string {
  return value.toFixed(value < 10 ? 1 : 0);
}
