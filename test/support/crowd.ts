import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Attempt, CrowdOrder, CrowdReport } from "./crowd-client.ts";
import { run } from "./guests.ts";
import type { MidonetPort } from "./midonet.ts";

/** Where the far ends of all taps are: guests that only ask need no namespace each. */
const NAMESPACE = "crowd";

/** The port of the nth guest: addresses, names and ids follow from the number, from 0. */
export function memberOf(n: number): MidonetPort {
  const hex = n.toString(16).padStart(4, "0");
  return {
    portId: `a0000000-0000-4000-8000-00000000${hex}`,
    interfaceName: `tap${n}`,
    fixedAddresses: [addressOf(n)],
    mac: `fa:16:3e:00:${hex.slice(0, 2)}:${hex.slice(2)}`,
    instanceId: `1d000000-0000-4000-8000-00000000${hex}`,
    projectId: `project${n % 7}`,
  };
}

/** What a stand-in nova has to know of it. */
export function instanceOf(n: number) {
  const { instanceId, projectId } = memberOf(n);
  return { instanceId, projectId, hostname: `guest-${n}`, localIpv4: addressOf(n) };
}

function addressOf(n: number): string {
  return `10.0.${1 + (n >> 8)}.${n & 255}`;
}

/** Carries out many `ip` commands in one process. @throws {Error} With what it complained of. */
export async function ipBatch(lines: readonly string[], namespace?: string): Promise<void> {
  const within = namespace === undefined ? [] : ["-n", namespace];
  const child = spawn("ip", [...within, "-batch", "-"], { stdio: ["pipe", "ignore", "pipe"] });
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaint += text;
  });
  child.stdin.on("error", () => undefined);
  child.stdin.end(`${lines.join("\n")}\n`);
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Error(`ip -batch ended with ${code}: ${complaint.slice(0, 500)}`);
}

/**
 * Many guests on veth taps of this (private) namespace. Their far ends share one namespace, where one process
 * that already runs speaks for those that talk; each of them has the route and the gateway's MAC that a guest
 * behind a router has.
 */
export class Crowd {
  readonly #client: ChildProcess;

  private constructor(client: ChildProcess) {
    this.#client = client;
  }

  /** Plugs in guests 0 to `count` - 1; those in `talking` can ask. */
  static async plug(count: number, talking: readonly number[]): Promise<Crowd> {
    await run("ip", "netns", "add", NAMESPACE);
    const sysctl = (name: string, value: string) =>
      run("ip", "netns", "exec", NAMESPACE, "sysctl", "-qw", `net.${name}=${value}`);
    await sysctl("ipv6.conf.all.disable_ipv6", "1");
    await sysctl("ipv6.conf.default.disable_ipv6", "1");
    await sysctl("ipv4.conf.all.rp_filter", "0");
    await sysctl("ipv4.conf.default.rp_filter", "0");
    await run("ip", "-n", NAMESPACE, "link", "set", "lo", "up");
    const members = Array.from({ length: count }, (_, n) => n);
    await ipBatch(members.map(addLink));
    await ipBatch(members.map((n) => `link set ${memberOf(n).interfaceName} up`));
    await ipBatch(
      members.map((n) => `link set g${n} up`),
      NAMESPACE,
    );
    await ipBatch(talking.flatMap(canTalk), NAMESPACE);
    await ipBatch(
      talking.map((n) => `rule add from ${addressOf(n)} lookup ${1000 + n}`),
      NAMESPACE,
    );
    const client = spawn(
      "nsenter",
      [
        ...[`--net=/run/netns/${NAMESPACE}`, process.execPath, "--import", "tsx"],
        new URL("crowd-client.ts", import.meta.url).pathname,
      ],
      { stdio: ["ignore", "inherit", "inherit", "ipc"] },
    );
    await once(client, "message");
    return new Crowd(client);
  }

  /** Makes a guest's tap anew under its old name, as a live migration back would; it comes up. */
  async replug(n: number): Promise<void> {
    const { interfaceName } = memberOf(n);
    await ipBatch([`link del ${interfaceName}`, addLink(n), `link set ${interfaceName} up`]);
    await ipBatch([`link set g${n} up`, ...canTalk(n)], NAMESPACE);
  }

  /** Asks without pause on behalf of one guest. @returns The time of its first good answer, as {@link nowMs}. */
  async firstAnswer(n: number): Promise<number> {
    const report = await this.#ask({ kind: "await-answer", guest: guestOf(n) }, "answered");
    return report.atMs;
  }

  /** Each of these guests asks from now on, one new connection after the other. */
  poll(guests: readonly number[], everyMs: number): void {
    this.#client.send({ kind: "poll", guests: guests.map(guestOf), everyMs } satisfies CrowdOrder);
  }

  /** Ends {@link poll}, when what is in flight has ended. @returns Everything that was tried. */
  async stopPolling(): Promise<readonly Attempt[]> {
    const report = await this.#ask({ kind: "stop" }, "attempts");
    return report.attempts;
  }

  async unplug(): Promise<void> {
    this.#client.kill("SIGKILL");
    await run("ip", "netns", "del", NAMESPACE);
  }

  #ask<K extends CrowdReport["kind"]>(
    order: CrowdOrder,
    kind: K,
  ): Promise<Extract<CrowdReport, { kind: K }>> {
    return new Promise((resolve) => {
      const listen = (report: CrowdReport): void => {
        if (report.kind !== kind) return;
        this.#client.off("message", listen);
        // The check above is what narrows it.
        resolve(report as Extract<CrowdReport, { kind: K }>);
      };
      this.#client.on("message", listen);
      this.#client.send(order);
    });
  }
}

/** Milliseconds on the clock that all processes of this machine share. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function guestOf(n: number) {
  return { n, address: addressOf(n), instanceId: memberOf(n).instanceId };
}

function addLink(n: number): string {
  const { interfaceName, mac } = memberOf(n);
  return `link add ${interfaceName} type veth peer name g${n} address ${mac} netns ${NAMESPACE}`;
}

/** All far ends are in one namespace, so the way out follows from the source address. */
function canTalk(n: number): readonly string[] {
  return [
    `addr replace ${addressOf(n)}/32 dev g${n}`,
    `route replace default dev g${n} table ${1000 + n}`,
    `neigh replace 169.254.169.254 lladdr fa:16:3e:ff:ff:01 dev g${n} nud permanent`,
  ];
}
