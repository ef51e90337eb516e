import { spawn } from "node:child_process";
import { DatapathError, type DatapathErrorCode } from "./error.ts";

/** The edge to the `nft` command. */
export interface Nft {
  /**
   * Carries out a script as one transaction: all of it or nothing.
   *
   * @throws {DatapathError} `rejected` with nft's own words, or a code about the host.
   */
  apply(script: readonly string[]): Promise<void>;
  /**
   * The objects of `nft -j list table`, or undefined where there is no such table.
   *
   * @param isNumeric Numbers in place of the names that nft or this host has for them, such as those of marks.
   * @throws {DatapathError} Whatever else keeps nft from reading it is no sign that there is none.
   */
  listTable(family: string, name: string, isNumeric?: boolean): Promise<readonly unknown[] | undefined>;
  /** The objects of `nft -j list chains`: every chain of every family, without rules. @throws {DatapathError} */
  listChains(): Promise<readonly unknown[]>;
  /** The objects of `nft -j list chain`. @throws {DatapathError} */
  listChain(family: string, table: string, name: string): Promise<readonly unknown[]>;
  /** `nft list chain` as it is for people: nft 1.0 tells the devices of a chain nowhere else. @throws {DatapathError} */
  printChain(family: string, table: string, name: string): Promise<string>;
  /** The objects of `nft -j list set`. @throws {DatapathError} */
  listSet(family: string, table: string, name: string): Promise<readonly unknown[]>;
}

/** {@link Nft} by processes of their own. */
export class NftProcess implements Nft {
  readonly #command: string;
  readonly #timeoutMs: number;

  constructor(options: { readonly command?: string; readonly timeoutMs?: number } = {}) {
    this.#command = options.command ?? "nft";
    this.#timeoutMs = options.timeoutMs ?? 30_000;
  }

  async apply(script: readonly string[]): Promise<void> {
    await this.#run(["-f", "-"], `${script.join("\n")}\n`);
  }

  async listTable(family: string, name: string, isNumeric = false): Promise<readonly unknown[] | undefined> {
    try {
      return await this.#list([...(isNumeric ? ["-n"] : []), "list", "table", family, name]);
    } catch (error) {
      if (!(error instanceof DatapathError) || error.code !== "rejected") throw error;
      if (/No such file or directory/.test(error.message)) return undefined;
      throw new DatapathError("failed", error.message, error);
    }
  }

  listChains(): Promise<readonly unknown[]> {
    return this.#list(["list", "chains"]);
  }

  listChain(family: string, table: string, name: string): Promise<readonly unknown[]> {
    return this.#list(["list", "chain", family, table, name]);
  }

  printChain(family: string, table: string, name: string): Promise<string> {
    return this.#run(["list", "chain", family, table, name], "");
  }

  listSet(family: string, table: string, name: string): Promise<readonly unknown[]> {
    return this.#list(["list", "set", family, table, name]);
  }

  async #list(words: readonly string[]): Promise<readonly unknown[]> {
    const printed = await this.#run(["-j", ...words], "");
    const parsed = JSON.parse(printed) as { readonly nftables?: readonly unknown[] };
    return parsed.nftables ?? [];
  }

  #run(words: readonly string[], input: string): Promise<string> {
    const doing = words.includes("list") ? READING : CHANGING;
    const child = spawn(this.#command, words, {
      env: { ...process.env, LC_ALL: "C", PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
    });
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
        else if (signal !== null) reject(killed(doing, this.#timeoutMs, signal));
        else reject(refused(doing, Buffer.concat(complaints).toString()));
      });
      child.stdin.end(input);
    });
  }
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

/** What could not be done, and who said no. */
const CHANGING = { cannot: "Cannot change the ruleset", who: "the kernel refused" } as const;
const READING = { cannot: "Cannot read the ruleset", who: "nft could not" } as const;
type Doing = typeof CHANGING | typeof READING;

function killed({ cannot }: Doing, timeoutMs: number, signal: string): DatapathError {
  return new DatapathError("timeout", `${cannot}: nft was ended by ${signal} (it may take ${timeoutMs} ms)`);
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
function refused({ cannot, who }: Doing, complaint: string): DatapathError {
  const [first = ""] = complaint.split("\n").filter((line) => line.trim() !== "");
  const words =
    first
      .replace(/^\/dev\/stdin:/, "line ")
      .trim()
      .slice(0, 300) || "nft said nothing";
  const [, code, remedy] = COMPLAINTS.find(([pattern]) => pattern.test(complaint)) ?? [];
  if (code !== undefined) return new DatapathError(code, `${cannot}: ${words}; ${remedy}`);
  return new DatapathError("rejected", `${cannot}: ${who} (${words})`);
}
