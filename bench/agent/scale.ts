// The whole agent with thousands of ports, seen from outside: start, one more port, memory, quiet, restarts, a storm.
//   flock /tmp/mn-bench.lock node --import tsx bench/agent/scale.ts [--ports 2000] [--quick] [--part start,ports,…]
// Needs root, and the Debian packages that the tests need. Everything happens in namespaces of its own.
// A whole run (without --quick and --part) writes bench/agent/results.md.
import { writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { parseArgs } from "node:util";
import { buildHypervisor, run } from "../../test/support/guests.ts";
import { Cloud } from "./cloud.ts";
import { inOwnNamespace } from "./own-namespace.ts";
import { type Figure, PARTS, type PartName, type Scale } from "./parts.ts";
import { type CpuTime, cpuTime } from "./process-cost.ts";

const { values } = parseArgs({
  options: {
    ports: { type: "string", default: "2000" },
    quick: { type: "boolean", default: false },
    part: { type: "string", default: Object.keys(PARTS).join(",") },
  },
});

async function measure(): Promise<void> {
  const bound = Number(values.ports);
  const scale: Scale = {
    bound,
    spare: values.quick ? 10 : 200,
    talkers: Array.from({ length: 20 }, (_, at) => Math.floor((at * bound) / 20)),
    quick: values.quick,
  };
  const names = values.part.split(",") as PartName[];
  await run("npm", "run", "--silent", "build");
  await buildHypervisor([]);
  say(`plugging in ${bound + scale.spare} guests`);
  const spares = Array.from({ length: scale.spare }, (_, at) => bound + at);
  const cloud = await Cloud.build(bound + scale.spare, [...scale.talkers, ...spares]);
  const load = loadavg()[0] ?? 0;
  const figures: Figure[] = [];
  try {
    for (const name of Object.keys(PARTS) as PartName[]) {
      if (!names.includes(name) && name !== "grow") continue;
      say(name);
      const before = cpuTime();
      const measured = await PARTS[name](cloud, scale);
      for (const figure of [...measured, stolenSince(before)]) {
        say(
          `  ${figure.what}: ${figure.value}${figure.target === undefined ? "" : `   (target ${figure.target})`}`,
        );
        figures.push(figure);
      }
    }
  } finally {
    await cloud.tearDown();
  }
  const isWhole = !values.quick && names.length === Object.keys(PARTS).length;
  if (isWhole) writeFileSync(new URL("results.md", import.meta.url), reportOf(figures, bound, load));
}

function stolenSince(before: CpuTime): Figure {
  const now = cpuTime();
  const stolen = now.stolen - before.stolen;
  const share = stolen / Math.max(1, stolen + now.worked - before.worked);
  return {
    what: "… CPU that was wanted meanwhile and went to other machines of the host below",
    value: `${(share * 100).toFixed(0)} %`,
  };
}

function reportOf(figures: readonly Figure[], bound: number, load: number): string {
  const [cpu] = cpus();
  const rows = figures.map(({ what, value, target }) => `| ${what} | ${value} | ${target ?? ""} |`);
  return `# The whole agent with ${bound} ports

\`node --import tsx bench/agent/scale.ts --ports ${bound}\`, ${new Date().toISOString().slice(0, 10)}: ${cpus().length} × ${cpu?.model ?? "unknown CPU"}, Linux ${release()}, Node ${process.versions.node}; load average ${load.toFixed(1)} when it began.
Agent, ZooKeeper, nova's stand-in, the guests and the measuring share these CPUs. Times are from outside: from before
the write (or the start of the process) until the guest has its answer, or the agent says so of itself. The machine is
shared: medians say what the agent does, and the last percentile what else ran; compare runs by CPU.

| what | measured | target |
|---|---|---|
${rows.join("\n")}

- A guest asks every 2 ms on a new connection while it waits for its first answer, and knows its gateway's MAC.
- A host object with thousands of ports is read whole for each change; what is as it was is only looked at. It costs no
  more for what other hosts do.
- Between SIGKILL and listening the kernel refuses connections, as nobody listens; each guest tries again at once here,
  which is why so many fail then. From listening on a request is held until the NSDB has said whose it is.
- Five of six events of the storm change an MTU, the rest take taps down and up; five taps are made anew under their names.
`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

await inOwnNamespace(measure);
// A child that still holds a pipe must not keep the bench alive.
if (process.env["MN_METADATA_BENCH_NETNS"] !== undefined) process.exit();
