import { INTERFACE, TABLE } from "./base-ruleset.ts";
import { DatapathError } from "./error.ts";
import { type OurPacket, type Verdict, verdictOf } from "./firewall-verdict.ts";
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
/** A firewall of more chains than that is not looked through. */
const MOST_CHAINS = 200;

/**
 * Sentences about foreign chains that drop our packets. What cannot be told from a rule is not held against it.
 *
 * @source measured: a drop on prerouting, input or output silences the proxy, and an accept elsewhere cannot undo it
 */
export async function inspectHostFirewall(nft: Nft, rtnetlink: Rtnetlink): Promise<readonly string[]> {
  const sentences: string[] = [];
  let left = MOST_CHAINS;
  for (const chain of (await nft.listChains()).flatMap((object) => baseChain(object) ?? [])) {
    const { family, table, name, hook, policy } = chain;
    const rulesOf = remembered(async (wanted: string) =>
      left-- > 0 ? rulesOfChain(nft, family, table, wanted) : undefined,
    );
    const rules = await rulesOf(name);
    // Gone meanwhile: a firewall is being loaded, and is looked at again in a minute.
    if (rules === undefined) continue;
    const verdicts = new Set<Verdict>();
    for (const packet of packetsAt(family, hook))
      verdicts.add(await verdictOf(rules, policy === "drop", packet, rulesOf));
    if (!verdicts.has("dropped")) continue;
    sentences.push(
      `The host's firewall drops metadata requests: chain "${name}" of table "${family} ${table}" (${hook}) lets nothing through by "${INTERFACE}". Add: nft insert rule ${family} ${table} ${name} ${HOOKS[hook]} "${INTERFACE}" accept`,
    );
  }
  return [...sentences, ...(await ownMetadataService(rtnetlink))];
}

function packetsAt(family: string, hook: string): readonly OurPacket[] {
  const isInbound = hook !== "output";
  return family === "ip6" ? [{ family: "ip6", isInbound }] : [{ family: "ip", isInbound }];
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

/** Undefined where the chain is gone. */
async function rulesOfChain(
  nft: Nft,
  family: string,
  table: string,
  name: string,
): Promise<readonly unknown[] | undefined> {
  try {
    return await nft.listChain(family, table, name);
  } catch (error) {
    if (error instanceof DatapathError && error.code === "rejected") return undefined;
    throw error;
  }
}

function remembered<T>(ask: (name: string) => Promise<T>): (name: string) => Promise<T> {
  const answers = new Map<string, Promise<T>>();
  return (name) => {
    const known = answers.get(name);
    if (known !== undefined) return known;
    const answer = ask(name);
    answers.set(name, answer);
    return answer;
  };
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
