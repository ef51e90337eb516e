import { INTERFACE, TABLE } from "./base-ruleset.ts";
import type { Nft } from "./nft-process.ts";
import type { Rtnetlink } from "./rtnetlink-socket.ts";

interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
}

/** Where our packets pass: a drop there is final, whatever our own tables say. */
const HOOKS: Readonly<Record<string, "iifname" | "oifname">> = {
  prerouting: "iifname",
  input: "iifname",
  output: "oifname",
};

/**
 * Sentences about foreign chains that drop by policy and have no rule that accepts our interface.
 *
 * @source measured: a `policy drop` on input or output silences the proxy, and an accept elsewhere cannot undo it
 */
export async function inspectHostFirewall(nft: Nft, rtnetlink: Rtnetlink): Promise<readonly string[]> {
  const closed = (await nft.listChains()).flatMap((object) => closedChain(object) ?? []);
  const sentences: string[] = [];
  for (const chain of closed) {
    const { family, table, name, hook } = chain;
    const listed = await nft.listChain(family, table, name);
    if (acceptsOurs(listed, HOOKS[hook] ?? "iifname")) continue;
    sentences.push(
      `The host's firewall would drop metadata requests: chain "${name}" of table "${family} ${table}" (${hook}) has policy drop and no rule for "${INTERFACE}". Add: nft insert rule ${family} ${table} ${name} ${HOOKS[hook]} "${INTERFACE}" accept`,
    );
  }
  return [...sentences, ...(await ownMetadataService(rtnetlink))];
}

function closedChain(object: unknown): BaseChain | undefined {
  const { chain } = object as { readonly chain?: Readonly<Record<string, unknown>> };
  if (chain === undefined || chain["policy"] !== "drop" || chain["table"] === TABLE) return undefined;
  const [family, table, name, hook] = ["family", "table", "name", "hook"].map((key) => String(chain[key]));
  if (family === undefined || table === undefined || name === undefined || hook === undefined)
    return undefined;
  return ["inet", "ip", "ip6"].includes(family) && hook in HOOKS ? { family, table, name, hook } : undefined;
}

/** A rule that names our interface and accepts it, or accepts everything. Jumps are not followed. */
function acceptsOurs(listed: readonly unknown[], key: "iifname" | "oifname"): boolean {
  return listed.some((object) => {
    const { rule } = object as { readonly rule?: { readonly expr?: readonly unknown[] } };
    const statements = (rule?.expr ?? []).map((statement) => JSON.stringify(statement));
    const accepts = statements.some((statement) => statement.startsWith('{"accept"'));
    const matches = statements.filter((statement) => statement.startsWith('{"match"'));
    return (
      accepts && matches.every((match) => match.includes(`"${key}"`) && match.includes(`"${INTERFACE}"`))
    );
  });
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
