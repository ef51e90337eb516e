import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const LOG = new URL("../../src/agent/log.ts", import.meta.url).href;
const LINES = 20_000;

let folder: string;
let child: ChildProcess | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "mn-log-"));
});
afterEach(async () => {
  // With a minus it is the group: what the shell has started as well.
  if (child?.pid !== undefined && child.exitCode === null) process.kill(-child.pid, "SIGKILL");
  await rm(folder, { recursive: true });
});

/**
 * Runs a program that logs that many lines and then does `more`, as `$@` of a shell's command; gives what they say on
 * standard error until both ended, or until `enough` is said: what does not read does not end by itself.
 */
async function logBy(command: string, count: number, more: string, enough = "\0"): Promise<string> {
  const program = join(folder, "program.ts");
  await writeFile(
    program,
    `import { openLog } from "${LOG}";
const log = openLog();
for (let n = 0; n < ${count}; n++) log.info({ n }, "x".repeat(100));
${more}`,
  );
  const shell = ["sh", "-c", command, "sh", process.execPath, "--import", "tsx", program];
  const started = spawn("unshare", ["--mount", ...shell], {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  child = started;
  let said = "";
  await new Promise<void>((resolve) => {
    started.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes(enough)) resolve();
    });
    started.stderr.once("end", () => resolve());
  });
  return said;
}

async function lines(): Promise<{ n: number; lost?: number }[]> {
  const text = await readFile(join(folder, "log"), "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const STILL_ALIVE = 'setTimeout(() => { process.stderr.write("alive;"); process.exit(3); }, 10);';

describe("openLog()", () => {
  it("outlives a disk that is full", async () => {
    expect(await logBy('"$@" > /dev/full; echo "exit $?" >&2', LINES, STILL_ALIVE)).toBe("alive;exit 3\n");
  });

  it.each([
    ["a pipe", '("$@"; echo "exit $?" >&2) | sleep 120'],
    // As for one that another user has made.
    [
      "a pipe that cannot be opened anew",
      `mount -t tmpfs tmpfs /proc; ("$@"; echo "exit $?" >&2) | sleep 120`,
    ],
    // The shell's own output is a socket of the test's, which reads no more than it wants.
    ["a socket", '"$@"; echo "exit $?" >&2'],
    [
      "a terminal",
      `python3 -c 'import os, pty, subprocess, sys
kept, given = pty.openpty()
print("exit", subprocess.call(sys.argv[1:], stdout=given), file=sys.stderr)' "$@"`,
    ],
  ])(
    "lets the program go on, and end, where nobody reads %s",
    async (_, command) => {
      expect(await logBy(command, LINES, STILL_ALIVE, "exit 3")).toMatch(/^alive;exit 3/);
    },
    60_000,
  );

  it("writes every line, in order, into a file", async () => {
    await logBy(`"$@" > ${folder}/log`, LINES, "");
    expect((await lines()).map(({ n }) => n)).toEqual(numbers(LINES));
  });

  it.each([
    ["by itself", "", "exit 0"],
    ["on purpose", "process.exit(4);", "exit 4"],
    ["of an error", 'throw new Error("unforeseen");', "exit 1"],
    ["of a rejection", 'void Promise.reject(new Error("unforeseen"));', "exit 1"],
    [
      "at a signal",
      "process.on('SIGTERM', () => process.exit(5)); process.kill(process.pid); setInterval(() => 0, 9);",
      "exit 5",
    ],
  ])("loses nothing in a pipe when the program ends %s", async (_, more, exit) => {
    const count = 5_000;
    expect(await logBy(`("$@"; echo "exit $?" >&2) | cat > ${folder}/log`, count, more)).toContain(exit);
    expect((await lines()).map(({ n }) => n)).toEqual(numbers(count));
  });

  it("says how many lines were lost, once they are read again", async () => {
    const more = `import { existsSync, writeFileSync } from "node:fs";
writeFileSync("${folder}/logged", "");
setInterval(() => existsSync("${folder}/read") && process.exit(), 20);`;
    const reader = `until [ -e ${folder}/logged ]; do sleep 0.05; done
sed '/"lost"/q' > ${folder}/log; touch ${folder}/read`;
    await logBy(`"$@" | (${reader})`, LINES, more);
    const all = await lines();
    const kept = all.slice(0, -1).map(({ n }) => n);
    expect(kept.length).toBeGreaterThan(5_000);
    expect(kept).toEqual(numbers(kept.length));
    expect(all.at(-1)).toMatchObject({ level: "warn", lost: LINES - kept.length });
  }, 60_000);
});
