import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Cloud, type FakeOpenStack, startOpenStack, subnetOf } from "./openstack.ts";

/** Runs of tools/metadata/remove_dhcp_ports.sh with the real clients, on clouds that are not. */

const SCRIPT = resolve("tools/metadata/remove_dhcp_ports.sh");
const folders: string[] = [];
const clouds: FakeOpenStack[] = [];

/** Of all that {@link cloudOf} and {@link folder} made. */
export async function cleanUp(): Promise<void> {
  for (const cloud of clouds) await cloud.close();
  for (const folder of folders) rmSync(folder, { recursive: true });
}

export interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export async function cloudOf(cloud: Cloud): Promise<FakeOpenStack> {
  const openStack = await startOpenStack(cloud);
  clouds.push(openStack);
  return openStack;
}

export function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "mn-dhcp-ports-"));
  folders.push(made);
  return made;
}

export function start(cwd: string, env: Record<string, string>, args: readonly string[]) {
  const child: ChildProcess = spawn("bash", [SCRIPT, ...args], {
    cwd,
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: cwd, LANG: "C.UTF-8", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<Run>((done) => child.on("close", (code) => done({ code, stdout, stderr })));
  return { child, ended };
}

/** As if the time for the client's call were over, however fast this machine is. @source coreutils, timeout.c: SIGALRM */
export function endTimeOf({ pid }: ChildProcess): void {
  const calls = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number);
  const timeout = calls.find((call) => readFileSync(`/proc/${call}/comm`, "utf8") === "timeout\n");
  if (timeout === undefined) throw new Error("no call of the client is under way");
  process.kill(timeout, "SIGALRM");
}

export function run(cwd: string, cloud: FakeOpenStack, ...args: string[]): Promise<Run> {
  return start(cwd, cloud.env, args).ended;
}

/** What of a port must come back; the id cannot. */
export function essence(port: Record<string, unknown>) {
  const { id: _id, status: _status, ...rest } = port;
  const { security_groups: _groups, tags: _tags, "binding:vnic_type": _vnic, ...kept } = rest;
  return kept;
}

function byMac(a: Record<string, unknown>, b: Record<string, unknown>): number {
  return String(a["mac_address"]).localeCompare(String(b["mac_address"]));
}

export function ownedBy(cloud: FakeOpenStack, owner: string) {
  return [...cloud.ports.values()].filter((port) => port["device_owner"] === owner).sort(byMac);
}

export function dhcpIps(networkId: string, address: string) {
  return [{ subnet_id: subnetOf({ id: networkId }).id, ip_address: address }];
}
