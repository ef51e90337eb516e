import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const LOG = new URL("../../src/agent/log.ts", import.meta.url).href;

/** Runs a program that logs, its standard output being a file. */
async function logTo(file: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "mn-log-"));
  const program = join(folder, "program.ts");
  await writeFile(
    program,
    `import { openLog } from "${LOG}";
const log = openLog();
for (let n = 0; n < 20_000; n++) log.info({ n }, "x".repeat(100));
setTimeout(() => process.stderr.write("alive"), 10);`,
  );
  const { stderr } = await promisify(execFile)("sh", [
    "-c",
    'exec "$1" --import tsx "$2" > "$3"',
    "sh",
    process.execPath,
    program,
    file,
  ]).finally(() => rm(folder, { recursive: true }));
  return stderr;
}

it("`openLog()` outlives a disk that is full", async () => {
  expect(await logTo("/dev/full")).toContain("alive");
});

it("`openLog()` writes every line, in order", async () => {
  const folder = await mkdtemp(join(tmpdir(), "mn-log-"));
  await logTo(join(folder, "log"));
  const lines = (await readFile(join(folder, "log"), "utf8")).trim().split("\n");
  expect(lines.map((line) => JSON.parse(line).n)).toEqual(Array.from({ length: 20_000 }, (_, n) => n));
  await rm(folder, { recursive: true });
});
