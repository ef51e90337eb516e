import { execFile, spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** A guest as the demo plugs it in: its own namespace, joined to a tenant's bridge by a tap. */
export interface Guest {
  readonly name: string;
  readonly tenant: string;
  readonly address: string;
  readonly mac: string;
  /** `gateway`: a default route, as from a router. `on-link`: no gateway; the guest asks for 169.254.169.254 by ARP. */
  readonly route: "gateway" | "on-link";
}

/** The host netdev of a guest, named as nova names it. */
export function tapOf(guest: Guest): string {
  return `tap-${guest.name}`.slice(0, 15);
}

/**
 * Runs a program to its end.
 *
 * @throws {Error} With what it wrote to standard error.
 */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(command, args, { maxBuffer: 16 << 20 });
  return stdout;
}

/** Makes this process's (already private) namespace a hypervisor with one bridge for each tenant. */
export async function buildHypervisor(tenants: readonly string[]): Promise<void> {
  await run("mount", "-t", "tmpfs", "tmpfs", "/run");
  mkdirSync("/run/netns");
  await run("ip", "link", "set", "lo", "up");
  for (const tenant of tenants) {
    await run("ip", "link", "add", `br-${tenant}`, "type", "bridge");
    await run("ip", "link", "set", `br-${tenant}`, "up");
  }
}

/** Plugs a guest in: from here on it could speak. */
export async function plug(guest: Guest): Promise<void> {
  const tap = tapOf(guest);
  const inside = (...args: string[]) => run("ip", "-n", guest.name, ...args);
  await run("ip", "netns", "add", guest.name);
  await run("ip", "link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", guest.name);
  await inside("link", "set", "lo", "up");
  await inside("link", "set", "eth0", "address", guest.mac);
  await inside("addr", "add", `${guest.address}/24`, "dev", "eth0");
  await inside("link", "set", "eth0", "up");
  if (guest.route === "gateway") {
    // The router is elsewhere in the cloud; that its MAC is known is enough for a guest to send.
    const gateway = guest.address.replace(/\d+$/, "1");
    await inside("neigh", "add", gateway, "lladdr", "fa:16:3e:ff:ff:01", "dev", "eth0");
    await inside("route", "add", "default", "via", gateway);
  } else {
    await inside("route", "add", "169.254.169.254", "dev", "eth0");
  }
  await run("ip", "link", "set", tap, "master", `br-${guest.tenant}`);
  await run("ip", "link", "set", tap, "up");
}

/** Pulls the plug: tap and guest are gone. */
export async function unplug(guest: Guest): Promise<void> {
  await run("ip", "link", "del", tapOf(guest));
  await run("ip", "netns", "del", guest.name);
}

/** What a guest's request came to. */
export interface Answer {
  readonly status: number;
  /** Milliseconds, connection included. */
  readonly ms: number;
  readonly body: string;
  readonly error?: string;
}

const CLIENT = `
const { get } = require("node:http");
const ask = (path) => new Promise((resolve) => {
  const began = performance.now();
  const done = (answer) => resolve({ status: 0, body: "", ...answer, ms: performance.now() - began });
  get({ host: "169.254.169.254", path, agent: false, timeout: Number(process.argv[3]), headers: JSON.parse(process.argv[2]) }, (response) => {
    const chunks = [];
    response.on("data", (chunk) => chunks.push(chunk));
    response.on("end", () => done({ status: response.statusCode, body: Buffer.concat(chunks).toString("latin1") }));
    response.on("error", (error) => done({ error: error.message }));
  }).on("timeout", function () { this.destroy(new Error("no answer in " + process.argv[3] + " ms")); }).on("error", (error) => done({ error: error.message }));
});
(async () => {
  const answers = [];
  for (const path of JSON.parse(process.argv[1])) answers.push(await ask(path));
  process.stdout.write(JSON.stringify(answers));
})();
`;

/** Asks 169.254.169.254 from inside a guest, one new connection a path, as cloud-init does. */
export async function ask(
  guest: Guest,
  paths: readonly string[],
  headers: Readonly<Record<string, string>> = {},
  timeoutMs = 5_000,
): Promise<readonly Answer[]> {
  const args = [`--net=/run/netns/${guest.name}`, process.execPath, "-e", CLIENT];
  const words = [JSON.stringify(paths), JSON.stringify(headers), String(timeoutMs)];
  return JSON.parse(await run("nsenter", ...args, ...words)) as Answer[];
}

/** Starts a program that stays; its output goes to `onLine`. */
export function start(onLine: (line: string) => void, command: string, ...args: string[]) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  for (const stream of [child.stdout, child.stderr]) {
    let rest = "";
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    });
  }
  return child;
}
