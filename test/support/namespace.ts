import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readlinkSync } from "node:fs";

/** What a command printed and how it ended; it is never an exception that a guest's request failed. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command in this process's network namespace. */
export function run(command: string, ...words: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
    const options = { env, maxBuffer: 64 * 1024 * 1024, timeout: 60_000 };
    const child = execFile(command, [...words], options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (child.exitCode ?? 1), stdout, stderr });
    });
  });
}

/** The same, where anything but success is a mistake of the test. */
export async function must(command: string, ...words: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, ...words);
  if (code !== 0) throw new Error(`"${command} ${words.join(" ")}" ended with ${code}: ${stderr}`);
  return stdout;
}

/** How a guest is plugged in. */
export interface GuestOptions {
  /** Guests of one tenant share a bridge. */
  readonly tenant: string;
  /** `10.0.0.3/24`, and others as they come; none for a guest that has only its fe80:: address. */
  readonly addresses?: readonly string[];
  readonly mac: string;
  /** Without one the network is isolated and the guest asks for 169.254.169.254 on the link. */
  readonly gateway?: string;
  /** The tap's name in the host; made up where it does not matter. */
  readonly interfaceName?: string;
}

/** A guest: a namespace of its own behind a veth tap in the host. */
export interface Guest {
  readonly namespace: string;
  readonly interfaceName: string;
  readonly mac: string;
  /** Of the tap, now. */
  ifindex(): Promise<number>;
  /** Runs a command as the guest. */
  run(command: string, ...words: readonly string[]): Promise<Outcome>;
  /** `curl` as the guest; the body, or `curl: (28) …`. */
  fetch(url: string, ...curlOptions: readonly string[]): Promise<string>;
  unplug(): Promise<void>;
}

/** IPv6 metadata as a guest writes it. */
export const METADATA_URL_V6 = "http://[fe80::a9fe:a9fe%25eth0]/";
/** IPv4 metadata. */
export const METADATA_URL = "http://169.254.169.254/";

/**
 * The host of guests: this process's own namespace, which must be one that a test made. Names are random, so
 * that runs side by side never meet, and {@link TestHost.close} takes away exactly what was made.
 */
export class TestHost {
  readonly #tag = randomBytes(3).toString("hex");
  readonly #guests = new Set<Guest>();
  readonly #bridges = new Map<string, string>();
  #count = 0;

  constructor() {
    const made = process.env["MN_METADATA_TEST_NETNS"];
    if (made === undefined || readlinkSync("/proc/self/ns/net") === made) {
      throw new Error("Cannot plug guests into the machine's own network namespace: run by scripts/test.mjs");
    }
  }

  /** A free interface name. */
  newInterfaceName(): string {
    this.#count += 1;
    return `tap${this.#tag}-${this.#count}`;
  }

  async plug(options: GuestOptions): Promise<Guest> {
    const interfaceName = options.interfaceName ?? this.newInterfaceName();
    this.#count += 1;
    const namespace = `mnt-${this.#tag}-${this.#count}`;
    const bridge = await this.#bridge(options.tenant);
    await must("ip", "netns", "add", namespace);
    const inside = (...words: string[]) => must("ip", "-n", namespace, ...words);
    const inGuest = (command: string, ...words: readonly string[]) =>
      run("ip", "netns", "exec", namespace, command, ...words);
    const guest: Guest = {
      namespace,
      interfaceName,
      mac: options.mac,
      ifindex: () => ifindexOf(interfaceName),
      run: inGuest,
      fetch: async (url, ...curlOptions) => {
        const outcome = await inGuest("curl", "-gsS", "-m", "5", ...curlOptions, url);
        return outcome.code === 0 ? outcome.stdout : outcome.stderr.trim();
      },
      unplug: async () => {
        this.#guests.delete(guest);
        await run("ip", "link", "del", interfaceName);
        await must("ip", "netns", "del", namespace);
      },
    };
    this.#guests.add(guest);
    await must(
      "ip",
      "link",
      "add",
      "name",
      interfaceName,
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      namespace,
    );
    await must("ip", "link", "set", interfaceName, "master", bridge, "up");
    await inside("link", "set", "lo", "up");
    await inside("link", "set", "eth0", "address", options.mac, "up");
    for (const address of options.addresses ?? []) {
      await inside("addr", "add", address, "dev", "eth0", ...(address.includes(":") ? ["nodad"] : []));
    }
    await inside("addr", "flush", "dev", "eth0", "scope", "link");
    await inside("addr", "add", `${linkLocalFromMac(options.mac)}/64`, "dev", "eth0", "nodad");
    if (options.gateway !== undefined) await inside("route", "add", "default", "via", options.gateway);
    else if (options.addresses?.some((address) => !address.includes(":"))) {
      await inside("route", "add", "169.254.169.254", "dev", "eth0");
    }
    return guest;
  }

  async close(): Promise<void> {
    for (const guest of this.#guests) await guest.unplug();
    for (const bridge of this.#bridges.values()) await run("ip", "link", "del", bridge);
  }

  async #bridge(tenant: string): Promise<string> {
    const known = this.#bridges.get(tenant);
    if (known !== undefined) return known;
    const bridge = `br${this.#tag}-${this.#bridges.size}`;
    this.#bridges.set(tenant, bridge);
    await must("ip", "link", "add", "name", bridge, "type", "bridge");
    await must("ip", "link", "set", bridge, "up");
    return bridge;
  }
}

/** The kernel's index of a link of this namespace. */
export async function ifindexOf(interfaceName: string): Promise<number> {
  const [link] = JSON.parse(await must("ip", "-j", "link", "show", interfaceName)) as { ifindex: number }[];
  if (link === undefined) throw new Error(`no link "${interfaceName}"`);
  return link.ifindex;
}

/** Puts another rule in the place of one of ours; the kernel keeps its handle. */
export async function replaceOurRule(family: string, chain: string, at: number, rule: string): Promise<void> {
  const listed = await must("nft", "-a", "list", "chain", family, "mn_metadata", chain);
  const handles = [...listed.matchAll(/ # handle (\d+)$/gm)].map(([, handle]) => handle ?? "");
  // The first is the chain's own.
  await must("nft", `replace rule ${family} mn_metadata ${chain} handle ${handles[at + 1]} ${rule}`);
}

/** Polls until a condition holds. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** @source RFC 4291 appendix A: EUI-64 */
function linkLocalFromMac(mac: string): string {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(":").map((byte) => Number.parseInt(byte, 16));
  const words = [((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f];
  return `fe80::${words.map((word) => word.toString(16)).join(":")}`;
}
