import { INTERFACE, TABLE } from "./base-ruleset.ts";
import { DatapathError } from "./error.ts";
import { verdictOf } from "./firewall-verdict.ts";
import type { Nft } from "./nft-process.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
  readonly policy: string;
}

/** Where our packets pass: a drop there is final, whatever our own tables say. */
const HOOKS: Readonly<Record<string, "iifname" | "oifname">> = {
  prerouting: "iifname",
  input: "iifname",
  output: "oifname",
};
/** Where more chains of one table are wanted, it is read whole: nft is a process for each reading. */
const MANY_CHAINS = 6;

/** How each sentence begins that says why guests are not heard at all. */
export const FIREWALL_DROPS = "The host's firewall drops";

/**
 * Sentences about foreign chains that drop our packets. What cannot be told from a rule is not held against it.
 *
 * @source measured: a drop on prerouting, input or output silences the proxy, and an accept elsewhere cannot undo it
 */
export async function inspectHostFirewall(nft: Nft, rtnetlink: Rtnetlink): Promise<readonly string[]> {
  const sentences: string[] = [];
  const tables = new Map<string, TableRules>();
  for (const chain of (await nft.listChains()).flatMap((object) => baseChain(object) ?? [])) {
    const { family, table, name, hook, policy } = chain;
    const id = `${family} ${table}`;
    const known = tables.get(id) ?? new TableRules(nft, family, table);
    tables.set(id, known);
    const rulesOf = (wanted: string) => known.of(wanted);
    const rules = await rulesOf(name);
    // Gone meanwhile: a firewall is being loaded, and is looked at again in a minute.
    if (rules === undefined) continue;
    const packet = { family: family === "ip6" ? "ip6" : "ip", isInbound: hook !== "output" } as const;
    if ((await verdictOf(rules, policy === "drop", packet, rulesOf)) !== "dropped") continue;
    sentences.push(
      `${FIREWALL_DROPS} metadata requests: chain "${name}" of table "${family} ${table}" (${hook}) drops them. Add: nft insert rule ${family} ${table} ${name} ${HOOKS[hook]} "${INTERFACE}" accept`,
    );
  }
  return [...sentences, ...(await ownMetadataService(rtnetlink))];
}

function baseChain(object: unknown): BaseChain | undefined {
  const { chain } = object as { readonly chain?: Readonly<Record<string, unknown>> };
  // Address translation sees tracked connections only, and ours are not.
  if (chain === undefined || chain["table"] === TABLE || chain["type"] === "nat") return undefined;
  const { family, table, name, hook, policy } = chain as unknown as BaseChain;
  return ["inet", "ip", "ip6"].includes(family) && hook in HOOKS
    ? { family, table, name, hook, policy }
    : undefined;
}

/** The rules of one foreign table, read as they are wanted. */
class TableRules {
  readonly #nft: Nft;
  readonly #family: string;
  readonly #table: string;
  readonly #chains = new Map<string, readonly unknown[] | undefined>();
  #isWhole = false;

  constructor(nft: Nft, family: string, table: string) {
    this.#nft = nft;
    this.#family = family;
    this.#table = table;
  }

  /** Of one chain; undefined where it is gone. */
  async of(name: string): Promise<readonly unknown[] | undefined> {
    if (this.#chains.has(name) || this.#isWhole) return this.#chains.get(name);
    if (this.#chains.size >= MANY_CHAINS) await this.#readWhole();
    else this.#chains.set(name, await this.#readChain(name));
    return this.#chains.get(name);
  }

  async #readChain(name: string): Promise<readonly unknown[] | undefined> {
    try {
      return await this.#nft.listChain(this.#family, this.#table, name);
    } catch (error) {
      if (error instanceof DatapathError && error.code === "rejected") return undefined;
      throw error;
    }
  }

  async #readWhole(): Promise<void> {
    this.#isWhole = true;
    this.#chains.clear();
    for (const object of (await this.#nft.listTable(this.#family, this.#table)) ?? []) {
      const { chain, rule } = object as {
        readonly chain?: { name: string };
        readonly rule?: { chain: string };
      };
      if (chain !== undefined) this.#chains.set(chain.name, []);
      const rules = this.#chains.get(rule?.chain ?? "");
      if (rules !== undefined) (rules as unknown[]).push(object);
    }
  }
}

/** A host that is itself a guest of some cloud reaches its own metadata service by a route of its own. */
async function ownMetadataService(rtnetlink: Rtnetlink): Promise<readonly string[]> {
  const [metadata, route] = [
    await rtnetlink.linkNamed(INTERFACE),
    await rtnetlink.routeInMain("169.254.169.254"),
  ];
  if (route === undefined || route.ifindex === metadata?.ifindex) return [];
  const link = await rtnetlink.linkAt(route.ifindex);
  return [
    `This host has a route of its own to 169.254.169.254 (by "${link?.name ?? route.ifindex}"), so it may be a cloud's guest itself: while mn-metadata runs, the host's own requests to that address are answered by no one. See docs/datapath.md, "A host that is a guest"`,
  ];
}
