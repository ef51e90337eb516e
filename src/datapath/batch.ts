import { mapNamed, PORT_CHAIN_PREFIX, TABLE } from "./base-ruleset.ts";
import { type Element, elementComment, type Fact, type PortChain } from "./fact.ts";
import { addressBytes, attribute, macBytes, nested, networkOrder, textAttribute } from "./netlink-bytes.ts";
import { portRules } from "./port-rules.ts";
import { byMap, chainComment } from "./script.ts";

/** One message to nf_tables, without its netlink header. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
}

/** More is nft's: a failing batch is answered message by message, and an attribute holds 64 KiB. */
const [MOST_CHAINS, MOST_FACTS] = [8, 500];

/** Whether {@link batchOf} can say it: few ports, none of which is served over IPv4 without an address for it. */
export function fitsBatch(deletes: readonly Fact[], adds: readonly Fact[]): boolean {
  if (deletes.length + adds.length > MOST_FACTS) return false;
  const chains = [...deletes, ...adds].filter((fact) => fact.kind === "chain");
  return chains.length <= MOST_CHAINS && !adds.some((fact) => fact.kind === "chain" && fact.isIpv6Only);
}

/**
 * What `./script.ts` says of some facts, as the messages that nft would make of it, in its order. For thousands of
 * chains a process that reads the kernel first takes longer than the change.
 *
 * @source measured with 2,000 chains: nft takes 6 to 8 ms of CPU for a change, and to start it stops the event loop for 5
 */
export function batchOf(deletes: readonly Fact[], adds: readonly Fact[]): readonly Message[] {
  return [
    ...chainsOf(deletes).flatMap(removal),
    ...elementsOf(DELETE_ELEMENTS, 0, deletes),
    ...elementsOf(NEW_ELEMENTS, CREATE, adds),
    ...chainsOf(adds).flatMap(chainWithRules),
  ];
}

/** @source linux/netfilter/nfnetlink.h NFNL_SUBSYS_NFTABLES; linux/netfilter/nf_tables.h enum nf_tables_msg_types */
const SUBSYSTEM = 10 << 8;
const [NEW_CHAIN, DELETE_CHAIN, NEW_RULE] = [SUBSYSTEM | 3, SUBSYSTEM | 5, SUBSYSTEM | 6];
const [NEW_ELEMENTS, DELETE_ELEMENTS] = [SUBSYSTEM | 12, SUBSYSTEM | 14];
/** @source linux/netlink.h NLM_F_CREATE, NLM_F_APPEND */
const [CREATE, APPEND] = [0x400, 0x800];
/** `struct nfgenmsg` of the `netdev` family. @source linux/netfilter.h NFPROTO_NETDEV */
const NETDEV = Buffer.from([5, 0, 0, 0]);
/** @source linux/netfilter/nf_tables.h enum nft_chain_attributes, nft_hook_attributes */
const CHAIN = { table: 1, name: 3, hook: 4, policy: 5, type: 7 } as const;
const HOOK = { number: 1, priority: 2, device: 3 } as const;
/** @source linux/netfilter.h NF_ACCEPT, NF_NETDEV_INGRESS; the priority is that of `./script.ts` */
const [ACCEPT, INGRESS, PRIORITY] = [1, 0, -500];
/** @source linux/netfilter/nf_tables.h enum nft_rule_attributes */
const RULE = { table: 1, chain: 2, userdata: 7 } as const;
/** @source linux/netfilter/nf_tables.h enum nft_set_elem_list_attributes, nft_set_elem_attributes, nft_data_attributes */
const ELEMENTS = { table: 1, set: 2, list: 3 } as const;
const ELEMENT = { key: 1, data: 2, userdata: 6 } as const;
const [LIST_ELEM, DATA_VALUE] = [1, 1];

function removal({ portId }: PortChain): readonly Message[] {
  const body = Buffer.concat([
    NETDEV,
    textAttribute(CHAIN.table, TABLE),
    textAttribute(CHAIN.name, PORT_CHAIN_PREFIX + portId),
  ]);
  return [
    { type: NEW_CHAIN, flags: CREATE, body },
    { type: DELETE_CHAIN, flags: 0, body },
  ];
}

function chainWithRules({ portId, interfaceName, ifindex, twinOf }: PortChain): readonly Message[] {
  const name = PORT_CHAIN_PREFIX + portId;
  const hook = [
    networkOrder(HOOK.number, INGRESS),
    networkOrder(HOOK.priority, PRIORITY),
    textAttribute(HOOK.device, interfaceName),
  ];
  const chain = Buffer.concat([
    NETDEV,
    textAttribute(CHAIN.table, TABLE),
    textAttribute(CHAIN.name, name),
    textAttribute(CHAIN.type, "filter"),
    networkOrder(CHAIN.policy, ACCEPT),
    nested(CHAIN.hook, ...hook),
  ]);
  const place = Buffer.concat([NETDEV, textAttribute(RULE.table, TABLE), textAttribute(RULE.chain, name)]);
  const rules = portRules(twinOf);
  return [
    { type: NEW_CHAIN, flags: CREATE, body: chain },
    ...rules.map((expressions, at) => {
      const isLast = at === rules.length - 1;
      const comment = isLast ? [commentOf(RULE.userdata, chainComment(interfaceName, ifindex, twinOf))] : [];
      return {
        type: NEW_RULE,
        flags: CREATE | APPEND,
        body: Buffer.concat([place, expressions, ...comment]),
      };
    }),
  ];
}

function elementsOf(type: number, flags: number, facts: readonly Fact[]): readonly Message[] {
  const isDelete = type === DELETE_ELEMENTS;
  return byMap(facts, (element) => elementBytes(element, isDelete)).map(([map, elements]) => ({
    type,
    flags,
    body: Buffer.concat([
      NETDEV,
      textAttribute(ELEMENTS.table, TABLE),
      textAttribute(ELEMENTS.set, map),
      nested(ELEMENTS.list, ...elements),
    ]),
  }));
}

function elementBytes(element: Element, isDelete: boolean): Buffer {
  const { map, key, data } = element;
  const comment = elementComment(element);
  const { keyTypes, dataType } = typesOf(map);
  const value = Buffer.concat(keyTypes.map((type, at) => bytesOf(type, key[at] ?? "")));
  const parts = [nested(ELEMENT.key, attribute(DATA_VALUE, value))];
  if (!isDelete && data !== undefined && dataType !== undefined)
    parts.push(nested(ELEMENT.data, attribute(DATA_VALUE, bytesOf(dataType, data))));
  if (!isDelete && comment !== undefined) parts.push(commentOf(ELEMENT.userdata, comment));
  return nested(LIST_ELEM, ...parts);
}

/** From the map's own definition. */
function typesOf(map: string): {
  readonly keyTypes: readonly string[];
  readonly dataType: string | undefined;
} {
  const [, definition] = mapNamed(map);
  const [, keys = "", dataType] = /^type ([^:;]+?)(?: : (\w+))?;/.exec(definition) ?? [];
  return { keyTypes: keys.split(" . "), dataType };
}

/** A value as nf_tables keeps it; those that join into a key are multiples of four bytes. */
function bytesOf(type: string, value: string): Buffer {
  switch (type) {
    case "ifname": {
      const padded = Buffer.alloc(16);
      padded.write(value);
      return padded;
    }
    case "ipv4_addr":
    case "ipv6_addr":
      return addressBytes(value).bytes;
    case "ether_addr":
      return macBytes(value);
    case "mark":
    case "iface_index": {
      // In host order, as the kernel compares them with its own.
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32LE(Number(value));
      return bytes;
    }
    default:
      throw new RangeError(`Cannot encode "${value}": nobody has said how a ${type} is kept`);
  }
}

function chainsOf(facts: readonly Fact[]): readonly PortChain[] {
  return facts.filter((fact) => fact.kind === "chain");
}

/** @source libnftnl udata.h NFTNL_UDATA_RULE_COMMENT, NFTNL_UDATA_SET_ELEM_COMMENT: type 0, length, text with NUL */
function commentOf(type: number, comment: string): Buffer {
  const text = Buffer.from(`${comment}\0`);
  return attribute(type, Buffer.concat([Buffer.from([0, text.length]), text]));
}
