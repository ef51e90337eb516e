import { spawn } from "node:child_process";
import { readlinkSync } from "node:fs";

const OUTER = "MN_METADATA_BENCH_NETNS";

/**
 * Runs `work` inside network and mount namespaces of its own: the process starts again in them, and the outer
 * one waits. Links, rules and packets of the work cannot reach the machine.
 */
export async function inOwnNamespace(work: () => Promise<void>): Promise<void> {
  const here = readlinkSync("/proc/self/ns/net");
  const outer = process.env[OUTER];
  if (outer === here) throw new Error("still in the machine's own network namespace: refusing to measure");
  if (outer !== undefined) return work();
  const self = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const child = spawn("unshare", ["--net", "--mount", "--propagation", "private", "--", ...self], {
    stdio: "inherit",
    env: { ...process.env, [OUTER]: here, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` },
  });
  // Ctrl-C reaches the child as well, which cleans up and ends.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
  await new Promise<void>((resolve, reject) => {
    child.on("error", (error) =>
      reject(new Error(`cannot make namespaces (${error.message}): run as root on Linux`)),
    );
    child.on("exit", (code) => {
      process.exitCode = code ?? 1;
      resolve();
    });
  });
}
