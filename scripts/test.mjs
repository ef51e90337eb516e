// Runs every test inside a network namespace of its own, so that no packet of a test can leave the machine:
// the namespace has nothing but loopback. Namespaces that tests name (ip netns) are private to the run as well,
// and gone with it. Arguments go to vitest: `npm test -- test/nsdb`.
import { spawn } from "node:child_process";
import { readlinkSync } from "node:fs";

if (process.env.MN_METADATA_TEST_NETNS === undefined) {
  const inner =
    'mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns && ip link set lo up && exec "$0" "$@"';
  const outer = readlinkSync("/proc/self/ns/net");
  const child = spawn(
    "unshare",
    [
      "--net",
      "--mount",
      "--propagation",
      "private",
      "--",
      "sh",
      "-c",
      inner,
      process.execPath,
      ...process.argv.slice(1),
    ],
    {
      stdio: "inherit",
      env: { ...process.env, MN_METADATA_TEST_NETNS: outer, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    },
  );
  child.on("error", (error) =>
    finish(1, `cannot make a network namespace (${error.message}): run as root on Linux`),
  );
  child.on("exit", (code, signal) => finish(code ?? 1, signal === null ? undefined : `ended by ${signal}`));
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
} else {
  if (readlinkSync("/proc/self/ns/net") === process.env.MN_METADATA_TEST_NETNS) {
    finish(1, "still in the machine's own network namespace: refusing to test there");
  }
  const child = spawn(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...process.argv.slice(2)], {
    stdio: "inherit",
  });
  child.on("exit", (code) => finish(code ?? 1));
}

function finish(code, why) {
  if (why !== undefined) process.stderr.write(`test: ${why}\n`);
  process.exit(code);
}
