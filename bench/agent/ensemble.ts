// A whole agent with guests on a real ensemble of three ZooKeeper servers, and what goes wrong with those.
//   node --import tsx bench/agent/ensemble.ts [--part faults,others,losses,writers] [--quick]
// Needs root, and the Debian packages that the tests need. Everything happens in namespaces of its own.
// What was measured (without --quick) is written to its section of bench/agent/ensemble-results.md. `losses` takes
// a quarter of an hour, the others take two to three minutes each; measure those under flock /tmp/mn-bench.lock.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { parseArgs } from "node:util";
import { EnsembleHost } from "../../test/support/ensemble-host.ts";
import { buildHypervisor, run } from "../../test/support/guests.ts";
import { type EnsemblePart, faults, losses, others } from "./ensemble-parts.ts";
import { buildOtherHost, SHARED_ADDRESS, writers } from "./ensemble-writers.ts";
import { inOwnNamespace } from "./own-namespace.ts";
import type { Figure } from "./parts.ts";

const GUESTS = 10;
/** As in production: a session of the agent's lasts 10 s then. */
const TICK_MS = 2_000;
const PARTS: Readonly<Record<string, EnsemblePart>> = { faults, others, losses, writers };
const RESULTS = new URL("ensemble-results.md", import.meta.url);

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    part: { type: "string", default: Object.keys(PARTS).join(",") },
  },
});

async function measure(): Promise<void> {
  await run("npm", "run", "--silent", "build");
  await buildHypervisor([]);
  await buildOtherHost();
  for (const name of values.part.split(",")) {
    const part = PARTS[name];
    if (part === undefined) throw new Error(`no part "${name}": ${Object.keys(PARTS).join(", ")}`);
    say(name);
    const load = loadavg()[0] ?? 0;
    const host = await EnsembleHost.build({ guests: GUESTS, tickMs: TICK_MS, address: SHARED_ADDRESS });
    let figures: readonly Figure[];
    try {
      await host.startAt(host.nsdb);
      figures = await part(host, values.quick);
    } finally {
      await host.tearDown();
    }
    for (const { what, value, target = "-" } of figures) say(`  ${what}: ${value}   (target ${target})`);
    if (!values.quick) writeResults(name, sectionOf(figures, load));
  }
}

function sectionOf(figures: readonly Figure[], load: number): string {
  const rows = figures.map(({ what, value, target = "" }) => `| ${what} | ${value} | ${target} |`);
  const when = `${new Date().toISOString().slice(0, 10)}, load average ${load.toFixed(1)} when it began`;
  return `${when}\n\n| what | measured | target |\n|---|---|---|\n${rows.join("\n")}\n`;
}

/** Replaces one section, and keeps the others. */
function writeResults(name: string, section: string): void {
  const before = existsSync(RESULTS) ? readFileSync(RESULTS, "utf8") : "";
  const sections = new Map(
    before
      .split(/^## /m)
      .slice(1)
      .map((text) => [text.slice(0, text.indexOf("\n")), text.slice(text.indexOf("\n") + 2)]),
  );
  sections.set(name, section);
  const [cpu] = cpus();
  const head = `# The whole agent on an ensemble of three

\`node --import tsx bench/agent/ensemble.ts\`: ${cpus().length} × ${cpu?.model ?? "unknown CPU"}, Linux ${release()}, Node ${process.versions.node}.
${GUESTS} guests ask every 50 ms (losses: 100 ms), each on a new connection, and count as lost what is not their own document within 10 s.
Three servers (tickTime ${TICK_MS} ms, sessions of 10 s), agent, nova's stand-in, guests and the measuring share these CPUs. "Own
change → served" is from the write, or from the session's return where that came later, until the agent serves the one
port and has released the other.
`;
  const body = Object.keys(PARTS)
    .filter((each) => sections.has(each))
    .map((each) => `\n## ${each}\n\n${sections.get(each)?.trimEnd()}\n`);
  writeFileSync(RESULTS, head + body.join(""));
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

await inOwnNamespace(measure);
// A child that still holds a pipe must not keep the bench alive.
if (process.env["MN_METADATA_BENCH_NETNS"] !== undefined) process.exit();
