import { createHash } from "node:crypto";
import {
  linkLocalOf,
  METADATA_ADDRESS,
  METADATA_ADDRESS_V6,
  METADATA_TCP_PORT,
  TWIN_RANGE,
  twinPrefixOf,
} from "./link-local.ts";
import { bareNeutralWord, neutralWord } from "./neutral-word.ts";

/**
 * Our interface in the host; the proxy's packets leave through it. Not `metadata`: midolman gives that name to its
 * own, and reads the same key to switch it on.
 */
export const INTERFACE = "mn-metadata";
/** Its other end, where what comes out of the proxy is turned back into what the guest expects. */
export const PEER = "mn-metadata-p";
/** Of {@link INTERFACE}, and what guests are told by ARP and NDP. Locally administered; the tail is 169.254. */
export const INTERFACE_MAC = "02:a9:fe:a9:fe:01";
/** Of {@link PEER}: what is left of the pair where somebody moved one end away is known by it. */
export const PEER_MAC = "02:a9:fe:a9:fe:02";
/** Name of our table in each of {@link TABLE_FAMILIES}. */
export const TABLE = "mn_metadata";
/** `netdev` rewrites, `inet` and `arp` guard. */
export const TABLE_FAMILIES = ["netdev", "inet", "arp"] as const;

/** Chains of guests begin so, followed by the port's UUID. */
export const PORT_CHAIN_PREFIX = "port-";

/**
 * Where the chains of all ports end. nft asks the kernel for every link before it takes a rule that names one,
 * so the rule that does is written once and not for each port.
 */
export const DELIVER = "deliver";

/** The last words of an IPv6 destination that keep an ICMPv6 checksum right; see {@link neutralWord}. */
const NS_MULTICAST = "ff02::1:fffe:a9fe";

/** The chain of each family that no packet meets: see {@link SHARED_CHAINS}. */
export const MODEL = "model";

/**
 * Maps hold all that differs between ports, so that rules never grow with ports. Addresses stand for numbers.
 * `learned_ip` alone is written by the kernel: where the guest of an IPv6-only port asks from over IPv4.
 */
const MAPS: readonly (readonly [name: string, definition: string])[] = [
  ["map ident", "type ifname . ipv4_addr : ipv4_addr;"],
  ["map ident6", "type ifname . ipv6_addr : ipv4_addr;"],
  ["set only6", "type ifname;"],
  ["map guest_ip", "type ipv4_addr : ipv4_addr;"],
  ["map guest_mac", "type ipv4_addr : ether_addr;"],
  ["map guest_mark", "type ipv4_addr : mark;"],
  ["map guest_mac6", "type ipv6_addr : ether_addr;"],
  ["map guest_mark6", "type ipv6_addr : mark;"],
  ["map interface", "type mark : iface_index;"],
  ["map learned_ip", "type mark : ipv4_addr; size 65536; flags dynamic,timeout; timeout 10m;"],
];

interface Chain {
  readonly family: (typeof TABLE_FAMILIES)[number];
  readonly name: string;
  readonly hook?: string;
  readonly rules: readonly string[];
}

/** Ordinary traffic leaves by the first `accept`; what comes back to the port's chain goes to the proxy. */
const CHAINS: readonly Chain[] = [
  { family: "netdev", name: "to_proxy4", rules: toProxy4() },
  { family: "netdev", name: "answer_arp", rules: answerArp() },
  {
    family: "netdev",
    name: "answer_ns",
    rules: answerNs("@nh,192,64 set @th,192,64 @th,192,64 set 0x020102a9fea9fe01"),
  },
  { family: "netdev", name: "answer_bare_ns", rules: answerNs("") },
  { family: "netdev", name: "ns_multicast", rules: [park(neutralWord(NS_MULTICAST), "answer_ns")] },
  { family: "netdev", name: "ns_unicast", rules: [park(neutralWord(METADATA_ADDRESS_V6), "answer_ns")] },
  { family: "netdev", name: "ns_bare", rules: [park(bareNeutralWord(), "answer_bare_ns")] },
  { family: "netdev", name: "to_proxy6", rules: toProxy6() },
  {
    family: "netdev",
    name: "from_guest",
    rules: [
      `ip daddr ${METADATA_ADDRESS} goto to_proxy4`,
      `arp operation request arp daddr ip ${METADATA_ADDRESS} goto answer_arp`,
      `ip6 daddr { ${METADATA_ADDRESS_V6}, ${NS_MULTICAST} } goto to_proxy6`,
      "accept",
    ],
  },
  { family: "netdev", name: DELIVER, rules: [`fwd to "${PEER}"`] },
  {
    family: "netdev",
    name: "from_proxy",
    hook: `type filter hook ingress device "${PEER}" priority -500; policy drop;`,
    rules: fromProxy(),
  },
  {
    family: "inet",
    name: "to_proxy",
    hook: "type filter hook prerouting priority -310; policy accept;",
    rules: [
      `iifname "${INTERFACE}" ip saddr 169.254.0.0/16 ip daddr ${METADATA_ADDRESS} tcp dport ${METADATA_TCP_PORT} counter notrack accept`,
      `iifname "${INTERFACE}" ip6 saddr ${TWIN_RANGE} ip6 daddr ${METADATA_ADDRESS_V6} tcp dport ${METADATA_TCP_PORT} counter notrack accept`,
      `iifname "${INTERFACE}" counter drop`,
    ],
  },
  {
    family: "inet",
    name: "guard_input",
    // Not at prerouting: bridge-nf brings frames there that a bridge only passes on, to others at the same address.
    hook: "type filter hook input priority -310; policy accept;",
    rules: [`ip daddr ${METADATA_ADDRESS} iifname != "${INTERFACE}" counter drop`],
  },
  {
    family: "inet",
    name: "guard_forward",
    hook: "type filter hook forward priority -310; policy accept;",
    // Our rule for the way back knows packets by their source alone, and a host that forwards may take that from a guest.
    rules: [`iifname "${INTERFACE}" counter drop`, `oifname "${INTERFACE}" counter drop`],
  },
  {
    family: "inet",
    name: "from_proxy",
    hook: "type filter hook output priority -310; policy accept;",
    rules: [
      `oifname "${INTERFACE}" ip saddr ${METADATA_ADDRESS} tcp sport ${METADATA_TCP_PORT} notrack accept`,
      `oifname "${INTERFACE}" ip6 saddr ${METADATA_ADDRESS_V6} tcp sport ${METADATA_TCP_PORT} notrack accept`,
      `oifname "${INTERFACE}" counter drop`,
    ],
  },
  {
    family: "arp",
    name: "host_stays_silent",
    hook: "type filter hook input priority -300; policy accept;",
    rules: [`arp daddr ip ${METADATA_ADDRESS} counter drop`],
  },
];

/** The port that the model stands for: values that no other part of a port's rules can be taken for. */
export const MODEL_PORT = { ifindex: 0x7fff_ffff, twinOf: 43_517, isIpv6Only: true } as const;

/**
 * All our rules once more, in a chain of each family that no packet meets. Replacing a rule leaves their number and its
 * handle as they were, and only nft can tell how it prints a rule; so an observer compares each rule with its like
 * here, which the same nft made in the same transaction. The rules of a port come last.
 */
const MODELS: readonly Chain[] = TABLE_FAMILIES.map((family) => ({
  family,
  name: MODEL,
  rules: [
    ...CHAINS.filter((chain) => chain.family === family).flatMap(({ rules }) => rules),
    ...(family === "netdev" ? portChainRules(MODEL_PORT) : []),
  ],
}));

const BODY = [
  ...MAPS.map(([name, definition]) => `add ${withTable(name)} { ${definition} }`),
  ...[...CHAINS, ...MODELS].flatMap(chainText),
];

/** To be raised with every change of what `./script.ts` makes a port's chain of, which an observer cannot see. */
const PORT_CHAIN_FORM = 2;

/** An empty chain of this name says which version made the table: another one replaces it whole, at once. */
export const VERSION_CHAIN = `base-${createHash("sha256")
  .update(`${PORT_CHAIN_FORM} ${BODY.join("\n")}`)
  .digest("hex")
  .slice(0, 12)}`;

/** The shared part in the flat form, replacing whatever stands under our names, in one transaction with what follows. */
export function baseScript(): readonly string[] {
  return [
    ...TABLE_FAMILIES.flatMap((family) => [
      `add table ${family} ${TABLE}`,
      `delete table ${family} ${TABLE}`,
      `add table ${family} ${TABLE}`,
    ]),
    `add chain netdev ${TABLE} ${VERSION_CHAIN}`,
    ...BODY,
  ];
}

/** What a shared chain must be; less is damage. */
export interface SharedChain {
  readonly family: string;
  /** Undefined where no packet comes to it but from another chain of ours. */
  readonly hook: string | undefined;
  readonly policy: string | undefined;
  readonly ruleCount: number;
}

/** Our shared chains by `family name`. Their rules, in this order, are those of their family's {@link MODEL}. */
export const SHARED_CHAINS: ReadonlyMap<string, SharedChain> = new Map(
  [{ family: "netdev", name: VERSION_CHAIN, rules: [] } as Chain, ...CHAINS, ...MODELS].map(
    ({ family, name, hook, rules }) => {
      const [, hookName, policy] = /hook (\w+) .*policy (\w+)/.exec(hook ?? "") ?? [];
      return [`${family} ${name}`, { family, hook: hookName, policy, ruleCount: rules.length }] as const;
    },
  ),
);

/** The rules of a port's chain, the last without its comment; `ifindex` and `twinOf` are all that they have of the port. */
export function portChainRules(port: {
  readonly ifindex: number;
  readonly twinOf: number;
  readonly isIpv6Only: boolean;
}): readonly string[] {
  const toProxy = `ether daddr set ${INTERFACE_MAC} tcp dport set ${METADATA_TCP_PORT}`;
  const learn = "@learned_ip { meta mark : ip saddr }";
  const mark = `meta mark set ${port.ifindex}`;
  // `update` renews an element without changing what it maps to, so each new connection forgets first.
  // What has been rewritten, as an address of the port's own, is not for port 80 any more.
  const anyIpv4 = [
    `meta protocol ip tcp dport 80 tcp flags & (syn | ack) == syn ${mark} delete ${learn}`,
    `meta protocol ip tcp dport 80 ${mark} update ${learn} ip saddr set ${linkLocalOf(port.twinOf)} ${toProxy} meta mark set 0`,
  ];
  return [
    "jump from_guest",
    ...(port.isIpv6Only ? anyIpv4 : []),
    `ip6 saddr set ip6 saddr & ::ffff:ffff:ffff:ffff | ${twinPrefixOf(port.twinOf)} ${toProxy}`,
    `counter goto ${DELIVER}`,
  ];
}

/**
 * A line that puts elements into one of our maps, by naming the map as it is. Before it takes `add element` or
 * `add rule`, nft 1.0 reads every chain of the host from the kernel; for a map or chain with content it need not.
 *
 * @source nft 1.0.6 src/cache.c, evaluate_cache_add(); measured with 2,000 chains: 5 ms of CPU instead of 12 to 17
 */
export function addElements(map: string, elements: readonly string[]): string {
  return nameMap(map, ` elements = { ${elements.join(", ")} };`);
}

/** A line that changes nothing: nft that read no maps knows those which its script names, and takes rules that use them. */
export function nameMap(map: string, content = ""): string {
  const [kindAndName, definition] = mapNamed(map);
  return `add ${withTable(kindAndName)} { ${definition}${content} }`;
}

/** Kind and name of one of our maps, and how it is defined: `type ifname . ipv4_addr : ipv4_addr;`. */
export function mapNamed(map: string): readonly [kindAndName: string, definition: string] {
  const found = MAPS.find(([kindAndName]) => kindAndName.endsWith(` ${map}`));
  if (found === undefined) throw new RangeError(`Cannot use map "${map}": it is none of ours`);
  return found;
}

/** Maps and sets that must exist in the `netdev` table. */
export const BASE_MAPS: readonly string[] = MAPS.map(([name]) => name.split(" ")[1] ?? "");

function chainText({ family, name, hook, rules }: Chain): readonly string[] {
  const chain = `${family} ${TABLE} ${name}`;
  return [
    hook === undefined ? `add chain ${chain}` : `add chain ${chain} { ${hook} }`,
    ...rules.map((rule) => `add rule ${chain} ${rule}`),
  ];
}

function withTable(kindAndName: string): string {
  const [kind, name] = kindAndName.split(" ");
  return `${kind} netdev ${TABLE} ${name}`;
}

/** `ether type` first: a tagged frame shows its tag there, and is the vswitch's business. */
function toProxy4(): readonly string[] {
  const rewritten = `ether daddr set ${INTERFACE_MAC} tcp dport set ${METADATA_TCP_PORT} return`;
  return [
    "ether type != ip accept",
    "ip frag-off & 0x3fff != 0 counter drop",
    "ip hdrlength != 5 counter drop",
    `tcp dport 80 ip saddr set iifname . ip saddr map @ident ${rewritten}`,
    "tcp dport 80 iifname @only6 ip saddr != { 0.0.0.0, 127.0.0.0/8, 169.254.169.254, 224.0.0.0/3 } return",
    "counter drop",
  ];
}

/** The request becomes its own answer and leaves by the tap it came from. */
function answerArp(): readonly string[] {
  return [
    "ether type != arp accept",
    [
      "arp operation set reply arp daddr ether set arp saddr ether arp daddr ip set arp saddr ip",
      `arp saddr ether set ${INTERFACE_MAC} arp saddr ip set ${METADATA_ADDRESS}`,
      `ether daddr set ether saddr ether saddr set ${INTERFACE_MAC} counter fwd to meta iif`,
    ].join(" "),
  ];
}

/**
 * No header may stand between IPv6 and TCP, a fragment's least of all: what the host's stack puts together again is not
 * what was looked at here. Neighbour solicitations become advertisements in place. A DAD probe comes
 * from `::`, so it is none of these.
 */
function toProxy6(): readonly string[] {
  const solicitation = "icmpv6 type nd-neighbor-solicit ip6 saddr fe80::/64 ip6 hoplimit 255";
  const target = "@th,64,128 0xfe8000000000000000000000a9fea9fe";
  const withOption = `ip6 length 32 ${target} @th,192,16 0x0101`;
  return [
    "ether type != ip6 accept",
    `ip6 daddr ${METADATA_ADDRESS_V6} ip6 saddr fe80::/64 ip6 nexthdr tcp tcp dport 80 return`,
    `ip6 daddr ${NS_MULTICAST} ${solicitation} ${withOption} goto ns_multicast`,
    `ip6 daddr ${METADATA_ADDRESS_V6} ${solicitation} ${withOption} goto ns_unicast`,
    `ip6 daddr ${METADATA_ADDRESS_V6} ${solicitation} ip6 length 24 ${target} goto ns_bare`,
    `ip6 daddr ${METADATA_ADDRESS_V6} counter drop`,
    "accept",
  ];
}

function answerNs(moveOption: string): readonly string[] {
  return [
    [
      moveOption,
      "@th,32,32 set 0x60000000 @th,0,16 set 0x8800",
      `ip6 daddr set ip6 saddr ip6 saddr set ${METADATA_ADDRESS_V6}`,
      `ether daddr set ether saddr ether saddr set ${INTERFACE_MAC} counter fwd to meta iif`,
    ]
      .join(" ")
      .trim(),
  ];
}

/** `fwd` must come last and the number is gone by then, so the interface travels in the mark. */
function fromProxy(): readonly string[] {
  const twin = "ip6 daddr & ffff:ffff:ffff:ffff::";
  const answer4 = [
    `ip saddr ${METADATA_ADDRESS} tcp sport ${METADATA_TCP_PORT}`,
    "meta mark set ip daddr map @guest_mark ether daddr set ip daddr map @guest_mac",
  ].join(" ");
  const leave = "tcp sport set 80 counter fwd to meta mark map @interface";
  return [
    `${answer4} ip daddr set ip daddr map @guest_ip ${leave}`,
    `${answer4} ip daddr set meta mark map @learned_ip ${leave}`,
    [
      `ip6 saddr ${METADATA_ADDRESS_V6} tcp sport ${METADATA_TCP_PORT}`,
      `meta mark set ${twin} map @guest_mark6 ether daddr set ${twin} map @guest_mac6`,
      `ip6 daddr set ip6 daddr & ::ffff:ffff:ffff:ffff | fe80:: ${leave}`,
    ].join(" "),
    "counter drop",
  ];
}

function park(word: string, then: string): string {
  return `@nh,256,64 set 0x${word}000000000000 goto ${then}`;
}
