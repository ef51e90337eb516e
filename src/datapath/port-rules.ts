import { DELIVER, INTERFACE_MAC } from "./base-ruleset.ts";
import { METADATA_TCP_PORT, twinPrefixOf } from "./link-local.ts";
import { addressBytes, attribute, macBytes, nested, networkOrder, textAttribute } from "./netlink-bytes.ts";

/**
 * The rules of a port's chain as the kernel takes them: each an NFTA_RULE_EXPRESSIONS. They are what nft makes of the
 * same chain's text (`./script.ts`), which the contract suite holds them to.
 *
 * @param twinOf The number that the port's IPv6 requests are known by.
 */
export function portRules(twinOf: number): readonly Buffer[] {
  const toProxy = [
    ...isMeta(META.iiftype, ARPHRD_ETHER),
    immediate(macBytes(INTERFACE_MAC)),
    store(BASE.link, 0, 6),
    ...isMeta(META.l4proto, IPPROTO_TCP),
    immediate(bigEndian16(METADATA_TCP_PORT)),
    store(
      BASE.transport,
      2,
      2,
      networkOrder(PAYLOAD.csumType, CSUM_INET),
      networkOrder(PAYLOAD.csumOffset, TCP_CHECKSUM_AT),
    ),
  ];
  const lowerHalf = Buffer.alloc(16).fill(0xff, 8);
  const { bytes: twin } = addressBytes(twinPrefixOf(twinOf));
  const rules = [
    [verdict(JUMP, "from_guest")],
    [
      ...isMeta(META.protocol, ETH_P_IPV6),
      payload(networkOrder(PAYLOAD.dreg, REGISTER), ...place(BASE.network, IPV6_SOURCE_AT, 16)),
      maskAndSet(lowerHalf, twin),
      store(BASE.network, IPV6_SOURCE_AT, 16, networkOrder(PAYLOAD.csumFlags, CSUM_PSEUDO_HEADER)),
      ...toProxy,
    ],
    [expression("counter"), verdict(GOTO, DELIVER)],
  ];
  return rules.map((expressions) => nested(RULE_EXPRESSIONS, ...expressions));
}

/** @source linux/netfilter/nf_tables.h enum nft_rule_attributes, nft_list_attributes, nft_expr_attributes */
const [RULE_EXPRESSIONS, LIST_ELEM, EXPR_NAME, EXPR_DATA] = [4, 1, 1, 2];
/** @source linux/netfilter/nf_tables.h enum nft_data_attributes, nft_verdict_attributes */
const [DATA_VALUE, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN] = [1, 2, 1, 2];
/** @source linux/netfilter/nf_tables.h enum nft_registers, nft_verdicts */
const [VERDICT_REGISTER, REGISTER, JUMP, GOTO] = [0, 1, -3, -4];
/** @source linux/netfilter/nf_tables.h enum nft_meta_keys */
const META = { protocol: 1, iiftype: 8, l4proto: 16 } as const;
/** @source linux/netfilter/nf_tables.h enum nft_payload_bases */
const BASE = { link: 0, network: 1, transport: 2 } as const;
/** @source linux/netfilter/nf_tables.h enum nft_payload_attributes */
const PAYLOAD = {
  dreg: 1,
  base: 2,
  offset: 3,
  len: 4,
  sreg: 5,
  csumType: 6,
  csumOffset: 7,
  csumFlags: 8,
} as const;
/** @source linux/netfilter/nf_tables.h enum nft_payload_csum_types, nft_payload_csum_flags */
const [CSUM_INET, CSUM_PSEUDO_HEADER] = [1, 1];
/** @source linux/if_arp.h (in host order), linux/if_ether.h, linux/in.h */
const [ARPHRD_ETHER, ETH_P_IPV6, IPPROTO_TCP] = [Buffer.from([1, 0]), bigEndian16(0x86dd), Buffer.from([6])];
/** @source RFC 8200 §3, RFC 9293 §3.1 */
const [IPV6_SOURCE_AT, TCP_CHECKSUM_AT] = [8, 16];

function isMeta(key: number, value: Buffer): readonly Buffer[] {
  // NFTA_META_KEY, NFTA_META_DREG; NFTA_CMP_SREG, NFTA_CMP_OP (equal), NFTA_CMP_DATA
  return [
    expression("meta", networkOrder(2, key), networkOrder(1, REGISTER)),
    expression("cmp", networkOrder(1, REGISTER), networkOrder(2, 0), dataOf(3, value)),
  ];
}

/** `register = register & mask | value`, where the value has bits outside the mask only. */
function maskAndSet(mask: Buffer, value: Buffer): Buffer {
  // NFTA_BITWISE_SREG, _DREG, _OP (mask and xor), _LEN, _MASK, _XOR
  const registers = [
    networkOrder(1, REGISTER),
    networkOrder(2, REGISTER),
    networkOrder(6, 0),
    networkOrder(3, mask.length),
  ];
  return expression("bitwise", ...registers, dataOf(4, mask), dataOf(5, value));
}

function immediate(value: Buffer): Buffer {
  // NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA
  return expression("immediate", networkOrder(1, REGISTER), dataOf(2, value));
}

function verdict(code: number, chain: string): Buffer {
  const parts = [networkOrder(VERDICT_CODE, code), textAttribute(VERDICT_CHAIN, chain)];
  return expression(
    "immediate",
    networkOrder(1, VERDICT_REGISTER),
    nested(2, nested(DATA_VERDICT, ...parts)),
  );
}

/** Writes the register into the packet. */
function store(base: number, offset: number, length: number, ...checksum: readonly Buffer[]): Buffer {
  return payload(networkOrder(PAYLOAD.sreg, REGISTER), ...place(base, offset, length), ...checksum);
}

function place(base: number, offset: number, length: number): readonly Buffer[] {
  return [
    networkOrder(PAYLOAD.base, base),
    networkOrder(PAYLOAD.offset, offset),
    networkOrder(PAYLOAD.len, length),
  ];
}

function payload(...attributes: readonly Buffer[]): Buffer {
  return expression("payload", ...attributes);
}

function expression(name: string, ...attributes: readonly Buffer[]): Buffer {
  return nested(LIST_ELEM, textAttribute(EXPR_NAME, name), nested(EXPR_DATA, ...attributes));
}

function dataOf(type: number, value: Buffer): Buffer {
  return nested(type, attribute(DATA_VALUE, value));
}

function bigEndian16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}
