import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createNetlink, type NetlinkSocket } from "netlink";
import { DatapathError, type DatapathErrorCode } from "./error.ts";
import { attribute } from "./rtnetlink-bytes.ts";

/** The edge to nf_tables. */
export interface Nft {
  /**
   * Carries out a script as one transaction: all of it or nothing.
   *
   * @throws {DatapathError} `rejected` with nft's own words, or a code about the host.
   */
  apply(script: readonly string[]): Promise<void>;
  /** The objects of `nft -j list table`, or undefined where there is no such table. @throws {DatapathError} */
  listTable(family: string, name: string): Promise<readonly unknown[] | undefined>;
  /** The objects of `nft -j list chains`: every chain of every family, without rules. @throws {DatapathError} */
  listChains(): Promise<readonly unknown[]>;
  /** The objects of `nft -j list chain`. @throws {DatapathError} */
  listChain(family: string, table: string, name: string): Promise<readonly unknown[]>;
  /**
   * The kernel's count of committed transactions in this network namespace, anybody's: while it stands still,
   * no rule has changed. (A device that goes takes its chains along without being counted before Linux 6.16.)
   *
   * @throws {DatapathError}
   */
  generation(): Promise<number>;
  /**
   * Changes when that table is deleted, made again, or has another number of chains or maps; undefined where it
   * is not. As quick for thousands of ports as for one, whatever else changes meanwhile.
   *
   * @throws {DatapathError}
   */
  tableMark(family: keyof typeof FAMILY_NUMBERS, name: string): Promise<string | undefined>;
  close(): void;
}

/** @source linux/netlink.h */
const NETLINK_NETFILTER = 12;
/** @source linux/netfilter/nfnetlink.h NFNL_SUBSYS_NFTABLES, linux/netfilter/nf_tables.h NFT_MSG_GETTABLE, NFT_MSG_GETGEN */
const [GET_TABLE, GET_GENERATION] = [(10 << 8) | 1, (10 << 8) | 16];
/** @source linux/netfilter/nf_tables.h NFTA_TABLE_NAME, NFTA_GEN_ID */
const [TABLE_NAME_ATTRIBUTE, GENERATION_ATTRIBUTE] = [1, 1];
/** @source linux/netfilter.h NFPROTO_INET, NFPROTO_ARP, NFPROTO_NETDEV */
const FAMILY_NUMBERS = { inet: 1, arp: 3, netdev: 5 } as const;
/** `struct nfgenmsg`: family, version 0, no resource id. */
const NFGENMSG_BYTES = 4;

/**
 * When the next nft is started after one was used: to start a process stops the event loop for some milliseconds,
 * and the guest that has just been let in asks now.
 */
const SPARE_AFTER_MS = 50;

/** {@link Nft} by the `nft` command, and by netlink for what must be quick. */
export class NftProcess implements Nft {
  readonly #command: string;
  readonly #timeoutMs: number;
  /** Started, and waiting for its script: its start-up is not part of the next change. */
  #spare: ChildProcessWithoutNullStreams | undefined;
  #spareTimer: NodeJS.Timeout | undefined;
  #netlink: NetlinkSocket | undefined;

  constructor(options: { readonly command?: string; readonly timeoutMs?: number } = {}) {
    this.#command = options.command ?? "nft";
    this.#timeoutMs = options.timeoutMs ?? 30_000;
  }

  async apply(script: readonly string[]): Promise<void> {
    const child = this.#takeSpare() ?? this.#start(["-f", "-"]);
    try {
      await this.#finish(child, `${script.join("\n")}\n`);
    } finally {
      clearTimeout(this.#spareTimer);
      this.#spareTimer = setTimeout(() => this.#keepSpare(), SPARE_AFTER_MS).unref();
    }
  }

  async listTable(family: string, name: string): Promise<readonly unknown[] | undefined> {
    try {
      return await this.#list(["list", "table", family, name]);
    } catch (error) {
      if (error instanceof DatapathError && error.code === "rejected") return undefined;
      throw error;
    }
  }

  listChains(): Promise<readonly unknown[]> {
    return this.#list(["list", "chains"]);
  }

  listChain(family: string, table: string, name: string): Promise<readonly unknown[]> {
    return this.#list(["list", "chain", family, table, name]);
  }

  async generation(): Promise<number> {
    const answer = await this.#ask("the ruleset's generation", GET_GENERATION, Buffer.alloc(NFGENMSG_BYTES));
    const generation = answer === undefined ? undefined : generationIn(answer);
    if (generation !== undefined) return generation;
    throw new DatapathError(
      "no-kernel-support",
      "Cannot ask the kernel for the ruleset's generation: its answer has none; it must be Linux 5.10 or newer",
    );
  }

  async tableMark(family: keyof typeof FAMILY_NUMBERS, name: string): Promise<string | undefined> {
    const question = Buffer.concat([
      Buffer.from([FAMILY_NUMBERS[family], 0, 0, 0]),
      attribute(TABLE_NAME_ATTRIBUTE, Buffer.from(`${name}\0`)),
    ]);
    const answer = await this.#ask(`table "${family} ${name}"`, GET_TABLE, question);
    // The header holds the generation, which anybody moves; what follows is the table's own handle and counts.
    return answer?.toString("hex", NFGENMSG_BYTES);
  }

  close(): void {
    clearTimeout(this.#spareTimer);
    this.#takeSpare()?.kill("SIGKILL");
    this.#netlink?.close();
    this.#netlink = undefined;
  }

  /** Asks nf_tables for one thing; undefined where there is no such thing. */
  async #ask(what: string, type: number, question: Buffer): Promise<Buffer | undefined> {
    try {
      this.#netlink ??= createNetlink(NETLINK_NETFILTER);
      const [[message]] = await this.#netlink.request(type, question, { timeout: 5_000 });
      return message?.data;
    } catch (error) {
      const reason = (error as Error).message;
      if (/ENOENT/.test(reason)) return undefined;
      if (/EPERM/.test(reason)) {
        throw new DatapathError(
          "no-privilege",
          `Cannot read the ruleset: ${reason}; this needs CAP_NET_ADMIN: run it as root`,
          error,
        );
      }
      throw new DatapathError(
        "no-kernel-support",
        `Cannot ask the kernel for ${what}: ${reason}; it must have nf_tables: modprobe nf_tables`,
        error,
      );
    }
  }

  async #list(words: readonly string[]): Promise<readonly unknown[]> {
    const printed = await this.#run(["-j", ...words], "");
    const parsed = JSON.parse(printed) as { readonly nftables?: readonly unknown[] };
    return parsed.nftables ?? [];
  }

  #run(words: readonly string[], input: string): Promise<string> {
    return this.#finish(this.#start(words), input);
  }

  #start(words: readonly string[]): ChildProcessWithoutNullStreams {
    return spawn(this.#command, words, {
      env: { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
    });
  }

  /** nft reads the kernel only when it has its whole script, so one that waits knows nothing old. */
  #keepSpare(): void {
    if (this.#spare !== undefined) return;
    const spare = this.#start(["-f", "-"]);
    this.#spare = spare;
    // One that ends before it is used is none; what is wrong with nft is told by the next change.
    const forget = () => {
      if (this.#spare === spare) this.#spare = undefined;
    };
    spare.once("error", forget).once("exit", forget).unref();
    spare.stdin.on("error", () => undefined);
  }

  #takeSpare(): ChildProcessWithoutNullStreams | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    spare?.ref();
    return spare;
  }

  /** Gives a started nft its input, and waits for its end. */
  #finish(child: ChildProcessWithoutNullStreams, input: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const printed: Buffer[] = [];
      const complaints: Buffer[] = [];
      const timer = setTimeout(() => child.kill("SIGKILL"), this.#timeoutMs);
      child.stdout.on("data", (chunk: Buffer) => printed.push(chunk));
      child.stderr.on("data", (chunk: Buffer) => complaints.push(chunk));
      // nft that ends early closes its input; its exit says why.
      child.stdin.on("error", () => undefined);
      child.on("error", (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        reject(notStarted(this.#command, error));
      });
      child.on("close", (code, signal) => {
        clearTimeout(timer);
        if (code === 0) resolve(Buffer.concat(printed).toString());
        else if (signal !== null) reject(killed(this.#timeoutMs, signal));
        else reject(refused(Buffer.concat(complaints).toString()));
      });
      child.stdin.end(input);
    });
  }
}

function generationIn(data: Buffer): number | undefined {
  for (let at = NFGENMSG_BYTES; at + 4 <= data.length; ) {
    const length = data.readUInt16LE(at);
    if (data.readUInt16LE(at + 2) === GENERATION_ATTRIBUTE) return data.readUInt32BE(at + 4);
    if (length < 4) return undefined;
    at += (length + 3) & ~3;
  }
  return undefined;
}

function notStarted(command: string, error: NodeJS.ErrnoException): DatapathError {
  if (error.code === "ENOENT") {
    return new DatapathError(
      "no-nft",
      `Cannot run "${command}": it is not installed. Install it: apt-get install nftables`,
      error,
    );
  }
  return new DatapathError("failed", `Cannot run "${command}": ${error.message}`, error);
}

function killed(timeoutMs: number, signal: string): DatapathError {
  return new DatapathError(
    "timeout",
    `Cannot change the ruleset: nft was ended by ${signal} (it may take ${timeoutMs} ms)`,
  );
}

const COMPLAINTS: readonly (readonly [RegExp, DatapathErrorCode, string])[] = [
  [/Operation not permitted|you must be root/, "no-privilege", "this needs CAP_NET_ADMIN: run it as root"],
  [
    /Operation not supported|Protocol not supported|cache initialization failed|Unable to initialize Netlink/,
    "no-kernel-support",
    "the kernel lacks nf_tables for the netdev family: it must be Linux 5.10 or newer with CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_FWD_NETDEV",
  ],
];

/** nft repeats the line with a marker below it; the first line has it all. */
function refused(complaint: string): DatapathError {
  const [first = ""] = complaint.split("\n").filter((line) => line.trim() !== "");
  const words =
    first
      .replace(/^\/dev\/stdin:/, "line ")
      .trim()
      .slice(0, 300) || "nft said nothing";
  const [, code, remedy] = COMPLAINTS.find(([pattern]) => pattern.test(complaint)) ?? [];
  if (code !== undefined) return new DatapathError(code, `Cannot change the ruleset: ${words}; ${remedy}`);
  return new DatapathError("rejected", `Cannot change the ruleset: the kernel refused (${words})`);
}
