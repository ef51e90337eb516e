import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { isIPv4 } from "node:net";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import type { ComputePort } from "./topology/model.ts";

/** What came of a request sent through the real path. */
export interface ProbeResult {
  readonly ok: boolean;
  /** Without a full stop. */
  readonly sentence: string;
}

/** What a probe needs of the service. */
export interface ProbeHost {
  /** Serves one more port until the function that it returns is called. */
  lend(port: ComputePort): () => void;
  /** Resolves once that port is served, or with the reason why it is not. */
  served(portId: string, withinMs: number): Promise<string | undefined>;
}

const execute = promisify(execFile);
const READY_MS = 5_000;
const ANSWER_MS = 10_000;

/**
 * Asks `/openstack` as the guest of a port would: from a namespace of its own, with the guest's address and MAC,
 * through a tap of its own that is plumbed for the same instance. Everything but the guest's own tap is the
 * path that the guest's packets take: kernel, guards, host firewall, proxy, signature, nova.
 */
export async function probe(port: ComputePort, host: ProbeHost): Promise<ProbeResult> {
  const tap = `mnprobe-${randomBytes(3).toString("hex")}`;
  const address = port.fixedAddresses.find(isIPv4) ?? "192.0.2.1";
  const stand: ComputePort = { ...port, portId: randomUUID(), interfaceName: tap, fixedAddresses: [address] };
  const guest = spawn("unshare", ["--net", "--", process.execPath, "-e", GUEST, address, port.mac], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const lines = linesOf(guest);
  const giveBack = host.lend(stand);
  try {
    await within(lines.next(), READY_MS, "the probe's namespace did not come up");
    await execute("ip", [
      "link",
      "add",
      tap,
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      String(guest.pid),
    ]);
    await execute("ip", ["link", "set", tap, "up"]);
    const refusal = await host.served(stand.portId, READY_MS);
    if (refusal !== undefined)
      return { ok: false, sentence: `the probe's own port could not be served: ${refusal}` };
    guest.stdin.write("go\n");
    const answer = await within(lines.next(), ANSWER_MS + READY_MS, "the probe did not end");
    return judge(JSON.parse(answer) as Answer);
  } catch (error) {
    return { ok: false, sentence: `the probe could not be sent: ${(error as Error).message}` };
  } finally {
    guest.kill("SIGKILL");
    giveBack();
  }
}

interface Answer {
  readonly status?: number;
  readonly ms: number;
  readonly error?: string;
}

function judge({ status, ms, error }: Answer): ProbeResult {
  const time = `${ms.toFixed(1)} ms`;
  if (error !== undefined) {
    return {
      ok: false,
      sentence: `GET /openstack had no answer after ${time} (${error}): look at nova and at the host's firewall`,
    };
  }
  const ok = status === 200;
  const hint = ok ? "through kernel, proxy and nova" : "see the agent's log for the request";
  return { ok, sentence: `GET /openstack was answered ${status} in ${time}, ${hint}` };
}

/** Runs in the probe's namespace: says that it is there, and on the first line it hears sets up and asks. */
const GUEST = `
const { execFileSync } = require("node:child_process");
const { get } = require("node:http");
const [address, mac] = process.argv.slice(1);
const ip = (...args) => execFileSync("ip", args);
process.stdout.write("ready\\n");
process.stdin.once("data", () => {
  ip("link", "set", "eth0", "address", mac);
  ip("addr", "add", address + "/32", "dev", "eth0");
  ip("link", "set", "eth0", "up");
  ip("route", "add", "169.254.169.254", "dev", "eth0");
  const began = performance.now();
  const done = (outcome) => process.stdout.write(JSON.stringify({ ...outcome, ms: performance.now() - began }) + "\\n", () => process.exit());
  get("http://169.254.169.254/openstack", { timeout: ${ANSWER_MS}, agent: false }, (response) => {
    response.on("end", () => done({ status: response.statusCode })).on("error", (error) => done({ error: error.message })).resume();
  }).on("timeout", function () { this.destroy(new Error("timed out")); }).on("error", (error) => done({ error: error.message }));
});
`;

function linesOf(child: ChildProcess): { next(): Promise<string> } {
  if (child.stdout === null) throw new TypeError("the child's output must be a pipe");
  const iterator = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const failed = new Promise<never>((_, reject) => {
    child.once("error", (error) =>
      reject(new Error(`unshare could not be run (${error.message}): install util-linux`)),
    );
  });
  failed.catch(() => undefined);
  return {
    async next() {
      const { done, value } = await Promise.race([iterator.next(), failed]);
      if (done === true) throw new Error("it ended without a word; making a network namespace needs root");
      return value;
    },
  };
}

async function within<T>(promise: Promise<T>, ms: number, otherwise: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(otherwise)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
