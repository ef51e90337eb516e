import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { verdictOf } from "../../src/datapath/firewall-verdict.ts";
import { numberOf } from "../../src/datapath/link-local.ts";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import { EchoProxy } from "../support/echo-proxy.ts";
import { type Guest, METADATA_URL, METADATA_URL_V6, must, TestHost } from "../support/namespace.ts";

const host = new TestHost();
const datapath = openDatapath();
let guest: Guest;
let proxy: EchoProxy;

beforeAll(async () => {
  guest = await host.plug({ tenant: "a", addresses: ["10.0.0.3/24"], mac: "fa:16:3e:00:00:03" });
  const { interfaceName, mac } = guest;
  const identities = [{ number: 1, fixedAddress: "10.0.0.3" }];
  const port = { portId: "7d9a6f1c-0000-4000-8000-000000000001", interfaceName, mac, identities };
  await datapath.sync([{ ...port, ifindex: await guest.ifindex() }], "exact");
  proxy = await EchoProxy.listen();
});

afterEach(async () => {
  for (const family of ["inet", "ip", "netdev"])
    await must("nft", `add table ${family} fw; delete table ${family} fw`);
});

afterAll(async () => {
  await proxy?.close();
  await datapath.sweep();
  await datapath.close();
  await host.close();
});

const INPUT = "{ type filter hook input priority 0; policy accept; }";
const INPUT_CLOSED = "{ type filter hook input priority 0; policy drop; }";
const POSTROUTING = "{ type filter hook postrouting priority 0; policy accept; }";
const OUTPUT = "{ type filter hook output priority 0; policy accept; }";
const OUTPUT_CLOSED = "{ type filter hook output priority 0; policy drop; }";
/** Before our own chain, which says that our packets are not tracked, and behind it. */
const EARLY = "{ type filter hook prerouting priority -400; policy accept; }";
const RAW = "{ type filter hook prerouting priority -300; policy accept; }";
const OUTPUT_EARLY = "{ type filter hook output priority -400; policy accept; }";
const ON_OURS = '{ type filter hook ingress device "mn-metadata" priority 0; policy accept; }';

/** A chain and its rules, in a table of its own; `ip` where the table is not for both families. */
const OPEN: readonly (readonly string[])[] = [
  [INPUT_CLOSED, 'iifname "mn-metadata" accept'],
  [INPUT_CLOSED, 'iif "mn-metadata" accept'],
  [INPUT_CLOSED, 'iifname "mn-*" tcp dport 9697 accept'],
  [INPUT_CLOSED, 'iifname "mn-metadata" meta l4proto tcp accept'],
  [INPUT_CLOSED, "tcp dport 9697 accept"],
  [INPUT_CLOSED, "tcp dport { 22, 9000-10000 } accept"],
  [INPUT_CLOSED, "ip saddr 169.254.0.0/16 accept", "ip6 saddr fd69:fe00::/48 accept"],
  [INPUT_CLOSED, "tcp flags syn accept", "tcp flags & (fin|syn|rst) == 0 accept", "tcp flags fin accept"],
  [INPUT_CLOSED, "tcp flags & (syn|ack) == syn accept", "tcp flags ! syn accept"],
  [INPUT, "tcp flags & (fin|syn|rst|ack) == syn tcp dport 22 drop", "tcp flags & (syn|ack) == syn|ack drop"],
  [INPUT_CLOSED, "iifname @ours accept"],
  [INPUT, "iifname != @ours drop"],
  [POSTROUTING, 'oifname "lo" drop', "tcp sport 80 drop"],
  [INPUT_CLOSED, 'iifname vmap { "lo" : drop, "mn-metadata" : accept }'],
  [INPUT_CLOSED, "ct state vmap { invalid : drop, untracked : accept }"],
  [INPUT_CLOSED, "jump more", "iifname lo accept"],
  [INPUT, "udp dport 9697 drop", "ct state invalid drop", 'iifname "mn-metadata" accept', "drop"],
  [INPUT, 'iifname != "mn-metadata" drop'],
  [OUTPUT_CLOSED, "tcp sport 9697 accept"],
  [OUTPUT_CLOSED, "meta nfproto ipv4 ip saddr 169.254.169.254 accept", "ip6 saddr fe80::a9fe:a9fe accept"],
  [OUTPUT, "tcp flags & (fin|syn|rst|ack) == syn drop"],
  // As UFW has it: who came back from a chain is not dropped by the rest of it.
  [INPUT_CLOSED, "jump not_local", 'iifname "mn-metadata" accept'],
  [INPUT, "goto not_local"],
  [INPUT, "fib daddr type local return", "drop"],
  [INPUT, "meta mark 0 return", "drop"],
  [INPUT, "tcp flags syn add @flood { ip saddr limit rate over 1000/second } counter drop"],
  [INPUT, "add @ports { tcp dport ct count over 100 } drop"],
  [INPUT_CLOSED, 'iifname . tcp dport vmap { "eth0" . 23 : drop, "mn-metadata" . 9697 : accept }'],
  [INPUT_CLOSED, "tcp dport vmap { 22 : drop, * : accept }"],
  [INPUT, "tcp dport vmap { 9697 : accept, * : drop }"],
  [INPUT, "tcp dport 22 ip saddr vmap { 10.0.0.0/8 : accept, * : drop }"],
  [EARLY, "ct state untracked drop"],
  [RAW, "ct state invalid drop"],
];
const CLOSED: readonly (readonly string[])[] = [
  [INPUT_CLOSED],
  [INPUT_CLOSED, "ct state established,related accept", 'iifname "lo" accept', "tcp dport 22 accept"],
  [INPUT_CLOSED, 'iifname != "mn-metadata" accept'],
  [INPUT_CLOSED, "tcp dport 9697 drop", 'iifname "mn-metadata" accept'],
  [INPUT_CLOSED, "ip6 saddr fe80::/10 accept", "ip saddr 10.0.0.0/8 accept"],
  [INPUT, "ct state established,related accept", "iifname lo accept", "reject with icmpx admin-prohibited"],
  [INPUT, "ct state { invalid, untracked } drop"],
  [INPUT, "goto more_closed", "accept"],
  [OUTPUT_CLOSED, 'oifname "lo" accept'],
  [INPUT, "tcp flags & (fin|syn|rst|ack) == syn tcp dport != 22 drop"],
  [INPUT, "tcp flags syn drop"],
  [INPUT, "tcp flags == syn drop"],
  [INPUT, "tcp flags { syn, rst } drop"],
  [INPUT_CLOSED, "tcp flags & (fin|syn|rst|ack) == syn accept"],
  [INPUT_CLOSED, "iifname @others accept"],
  [INPUT, "iifname @ours drop"],
  [OUTPUT, "tcp flags & (syn|ack) == syn|ack drop"],
  [OUTPUT, "tcp flags syn,ack drop"],
  [POSTROUTING, 'oifname "mn-metadata" drop'],
  [POSTROUTING, "tcp sport 9697 drop"],
  [INPUT_CLOSED, "fib daddr type local return", "drop"],
  [INPUT, "jump more_or_less", "drop"],
  [INPUT, "tcp dport vmap { 22 : accept, * : drop }"],
  [INPUT, "add @ports { tcp dport counter } drop"],
  [EARLY, "ct state invalid drop"],
  [OUTPUT_EARLY, "ct state invalid drop"],
  [ON_OURS, "ct state invalid drop"],
];
/** One family passes, the other one does not. */
const HALF: readonly (readonly [dropped: "IPv4" | "IPv6", ...chain: string[]])[] = [
  ["IPv4", "{ type filter hook prerouting priority -500; policy accept; }", "ip daddr 169.254.0.0/16 drop"],
  ["IPv6", INPUT_CLOSED, "ct state established,related accept", "ip daddr 169.254.169.254 accept"],
  ["IPv4", INPUT_CLOSED, "meta nfproto ipv6 accept"],
  ["IPv6", OUTPUT_CLOSED, "ip saddr 169.254.169.254 accept"],
  ["IPv6", POSTROUTING, "ip6 saddr fe80::/10 drop"],
  ["IPv4", INPUT, "ip saddr vmap { 10.0.0.0/8 : accept, * : drop }"],
];
/** Chains on an end of our interface. */
const ON_DEVICE: readonly (readonly [hook: string, device: string, priority: number, rule: string])[] = [
  ["ingress", "mn-metadata", 0, "tcp dport 9697 drop"],
  ["ingress", "mn-metadata", 0, 'fwd to "lo"'],
  ["egress", "mn-metadata-p", 0, 'tcp dport 9697 dup to "lo" fwd to "lo"'],
  ["egress", "mn-metadata", 0, "tcp sport 9697 drop"],
  ["ingress", "mn-metadata-p", -600, "tcp flags & (syn|ack) == syn|ack drop"],
  ["egress", "mn-metadata-p", 0, "tcp flags & (syn|ack) == syn drop"],
];

async function load([hook = "", ...rules]: readonly string[]): Promise<void> {
  const jumps = ["add chain inet fw more", "add rule inet fw more tcp dport 9690-9699 accept"];
  const closed = ["add chain inet fw more_closed", "add rule inet fw more_closed tcp dport 9697 reject"];
  const others = [
    "add chain inet fw not_local; add rule inet fw not_local fib daddr type local return; add rule inet fw not_local drop",
    "add chain inet fw more_or_less; add rule inet fw more_or_less meta mark 7 return",
  ];
  const sets = [
    "add set inet fw flood { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m; }",
    "add set inet fw ports { type inet_service; size 65535; flags dynamic; }",
    'add set inet fw ours { type ifname; flags interval; elements = { "lo", "mn-*" }; }',
    'add set inet fw others { type ifname; elements = { "lo", "eth0" }; }',
  ];
  const lines = [
    ...sets,
    ...jumps,
    ...closed,
    ...others,
    `add chain inet fw c ${hook}`,
    ...rules.map((rule) => `add rule inet fw c ${rule}`),
  ];
  await must("nft", ["add table inet fw", ...lines].join("; "));
}

/** Holds what a guest gets to what is said. */
async function expectServed(...families: readonly ("IPv4" | "IPv6")[]): Promise<void> {
  const fetch = (family: "IPv4" | "IPv6", url: string) =>
    guest.fetch(url, "-m", families.includes(family) ? "2" : "1");
  const [over4, over6] = await Promise.all([fetch("IPv4", METADATA_URL), fetch("IPv6", METADATA_URL_V6)]);
  expect([numberOf(over4), numberOf(over6)]).toEqual([
    families.includes("IPv4") ? 1 : undefined,
    families.includes("IPv6") ? 1 : undefined,
  ]);
}

describe("what is said of the host's firewall is what becomes of a request", () => {
  test.each(OPEN)("nothing where it passes: %s %s %s", async (...chain) => {
    await load(chain.filter(Boolean));
    await expectServed("IPv4", "IPv6");
    expect(await datapath.inspectHostFirewall()).toEqual([]);
  });

  test.each(CLOSED)("the rule that is missing where it does not: %s %s %s", async (...chain) => {
    await load(chain.filter(Boolean));
    await expectServed();
    const [{ sentence } = { sentence: "" }] = await datapath.inspectHostFirewall();
    expect(sentence).toMatch(/^The host's firewall drops metadata requests: /);
    const [, remedy = ""] = /chain "c" of table "inet fw" .* Add: nft (.*)$/.exec(sentence) ?? [];
    await must("nft", remedy);
    expect(await datapath.inspectHostFirewall()).toEqual([]);
    await expectServed("IPv4", "IPv6");
  });

  test.each(HALF)("that only %s does not pass: %s %s %s", async (dropped, ...chain) => {
    await load(chain.filter(Boolean));
    await expectServed(dropped === "IPv4" ? "IPv6" : "IPv4");
    const [{ sentence } = { sentence: "" }, ...others] = await datapath.inspectHostFirewall();
    expect(sentence).toMatch(dropped === "IPv4" ? /^The host's .* over IPv4: / : /^Over IPv6 the host's /);
    expect(others).toEqual([]);
    const [, remedy = ""] = /chain "c" of table "inet fw" .* Add: nft (.*)$/.exec(sentence) ?? [];
    await must("nft", remedy);
    expect(await datapath.inspectHostFirewall()).toEqual([]);
    await expectServed("IPv4", "IPv6");
  });

  test.each(ON_DEVICE)(
    "the chain on one of our devices: %s of %s at %i, %s",
    async (hook, device, at, rule) => {
      const form = `{ type filter hook ${hook} device "${device}" priority ${at}; policy accept; }`;
      const elsewhere = form.replace(device, guest.interfaceName);
      const chains = [`add chain netdev fw c ${form}`, `add chain netdev fw other ${elsewhere}`];
      await must("nft", ["add table netdev fw", ...chains, `add rule netdev fw c ${rule}`].join("; "));
      await expectServed();
      const [{ sentence } = { sentence: "" }, ...others] = await datapath.inspectHostFirewall();
      expect(others).toEqual([]);
      expect(sentence).toContain(`chain "c" of table "netdev fw" (${hook} of ${device})`);
      const [, remedy = ""] = / Add: nft (.*)$/.exec(sentence) ?? [];
      await must("nft", remedy);
      expect(await datapath.inspectHostFirewall()).toEqual([]);
      await expectServed("IPv4", "IPv6");
    },
  );

  test("what nft has no words for may hold or not, and hides nothing else", async () => {
    const nothing = { kind: "drop", expr: [{ xt: null }, { counter: null }, { accept: null }] };
    const packet = {
      family: "ip",
      isInbound: true,
      iifname: "mn-metadata",
      oifname: "",
      ctState: "untracked",
      tcpFlags: ["syn"],
    } as const;
    const none = async () => undefined;
    expect(await verdictOf([{ rule: nothing }], true, packet, none)).toBe("unknown");
    expect(await verdictOf([{ rule: { expr: [{ xt: null }, { drop: null }] } }], true, packet, none)).toBe(
      "dropped",
    );
  });

  test("the rule that is missing in one of many chains", async () => {
    const names = Array.from({ length: 30 }, (_, at) => `c${at}`);
    const chains = names.map(
      (name) => `add chain inet fw ${name}; add rule inet fw ${name} tcp dport 22 accept`,
    );
    await must("nft", ["add table inet fw", ...chains].join("; "));
    await load([INPUT_CLOSED, ...names.map((name) => `jump ${name}`)]);
    const [{ sentence } = { sentence: "" }] = await datapath.inspectHostFirewall();
    expect(sentence).toContain('chain "c" of table "inet fw"');
    await must("nft", "add rule inet fw c29 tcp dport 9697 accept");
    expect(await datapath.inspectHostFirewall()).toEqual([]);
  });

  test("nothing of a table that sleeps, until it wakes", async () => {
    await load([INPUT_CLOSED]);
    await must("nft", "add table inet fw { flags dormant; }");
    await expectServed("IPv4", "IPv6");
    expect(await datapath.inspectHostFirewall()).toEqual([]);
    await must("nft", "add table inet fw");
    await expectServed();
    expect(await datapath.inspectHostFirewall()).toHaveLength(1);
  });

  test("nothing of what cannot be told", async () => {
    await load([INPUT_CLOSED, "meta mark 7 accept"]);
    expect(await datapath.inspectHostFirewall()).toEqual([]);
    await must(
      "nft",
      "add set inet fw s { type inet_service; elements = { 9697 }; }; insert rule inet fw c tcp dport @s accept",
    );
    expect(await guest.fetch(METADATA_URL, "-m", "2")).toBe("169.254.0.1");
    expect(await datapath.inspectHostFirewall()).toEqual([]);
  });
});
