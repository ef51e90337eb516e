import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SHARED_CHAINS } from "../../src/datapath/base-ruleset.ts";
import type { Datapath } from "../../src/datapath/datapath.ts";
import type { Identity, Plumbing } from "../../src/datapath/plumbing.ts";

/** A kernel, real or not, with guests to plug. */
export interface World {
  /** Another datapath on the same kernel, as a restarted agent has. */
  open(): Datapath;
  /** @returns Its index. */
  plug(interfaceName: string): Promise<number>;
  unplug(interfaceName: string): Promise<void>;
  flushRuleset(): Promise<void>;
  /** Has somebody else's nft carry out these lines. */
  change(script: readonly string[]): Promise<void>;
  /** Puts another rule in the place of one of ours, so that their number stays. */
  replaceRule(family: string, chain: string, at: number, rule: string): Promise<void>;
  close(): Promise<void>;
}

/** The cases that hold on every kernel. */
export function describeDatapath(name: string, makeWorld: () => Promise<World>): void {
  describe(name, () => {
    let world: World;
    let datapath: Datapath;

    beforeEach(async () => {
      world = await makeWorld();
      datapath = world.open();
    });

    afterEach(async () => {
      await datapath.sweep();
      await datapath.close();
      await world.close();
    });

    const port = async (index: number, ...identities: (readonly [number, string])[]): Promise<Plumbing> => ({
      portId: portIdOf(index),
      interfaceName: `ct${index}`,
      ifindex: await world.plug(`ct${index}`),
      mac: `fa:16:3e:00:00:0${index}`,
      identities: identities.map(([number, fixedAddress]) => ({ number, fixedAddress })),
    });
    const observedIds = async () => (await datapath.observe()).ports.map(({ portId }) => portId).sort();

    test("`observe()` of an untouched kernel finds nothing", async () => {
      expect(await datapath.observe()).toEqual({ ports: [], baseIntact: false });
    });

    test("`sync()` makes everything at once, and then nothing", async () => {
      const want = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "10.0.0.3"], [3, "fd00::3"])];
      expect(await datapath.sync(want, "exact")).toEqual({
        added: want.map(({ portId }) => portId),
        replaced: [],
        removed: [],
        failed: [],
        repairedBase: true,
      });
      expect(await datapath.sync(want, "exact")).toEqual(NOTHING);
      expect((await datapath.observe()).baseIntact).toBe(true);
    });

    test("a second datapath observes all that the first made, and agrees", async () => {
      const want = [
        await port(1, [1, "10.0.0.3"], [65_533, "10.0.0.4"]),
        await port(2, [43_518, "fd00::3"]),
        await port(3, [7, "fd00::7"], [6, "10.0.0.6"], [8, "fd00::8"]),
      ];
      await datapath.sync(want, "exact");
      const second = world.open();
      const { ports } = await second.observe();
      expect(sorted(ports)).toEqual(sorted(want));
      expect(await second.sync(ports, "exact")).toEqual(NOTHING);
      await second.close();
    });

    test("remembers that a port with an IPv4 pair has no IPv4 address, and follows when it gets one", async () => {
      const identities = [
        { number: 1, fixedAddress: "2001:db8::5" },
        { number: 2, fixedAddress: "10.0.0.99" },
      ];
      const want = { ...(await port(1)), identities, isIpv6Only: true };
      expect((await datapath.sync([want], "exact")).failed).toEqual([]);
      const fresh = world.open();
      expect((await fresh.observe()).ports).toEqual([want]);
      expect(await fresh.sync([want], "exact")).toEqual(NOTHING);
      const { isIpv6Only, ...plain } = want;
      expect((await fresh.sync([plain], "exact")).replaced).toEqual([want.portId]);
      expect((await fresh.observe()).ports).toEqual([plain]);
      expect((await fresh.sync([want], "exact")).replaced).toEqual([want.portId]);
      await fresh.close();
    });

    test("keeps for whom a number is, also without nft, and follows when that is told for the first time", async () => {
      const stays = await port(1, [1, "10.0.0.3"]);
      const named = (identities: readonly Identity[]) =>
        identities.map((one) => ({ ...one, heldFor: "0a1b2c" }));
      const guest = await port(2, [2, "10.0.0.4"], [3, "fd00::4"]);
      await datapath.sync([stays, guest], "exact");
      const want = [stays, { ...guest, identities: named(guest.identities) }];
      expect(await datapath.sync(want, "exact")).toMatchObject({ replaced: [guest.portId], failed: [] });
      const fresh = world.open();
      expect(sorted((await fresh.observe()).ports)).toEqual(sorted(want));
      expect(await fresh.sync(want, "exact")).toEqual(NOTHING);
      await fresh.close();
    });

    for (const [from, before] of KINDS) {
      for (const [to, after] of KINDS) {
        if (from === to) continue;
        test(`beside a port that is served, another one goes from ${from} to ${to}`, async () => {
          const stays = await port(1, [1, "10.0.0.3"]);
          const changing = await port(2);
          const wantOf = (identities: readonly Identity[]): readonly Plumbing[] =>
            identities.length === 0 ? [stays] : [stays, { ...changing, identities }];
          await datapath.sync([stays], "exact");
          for (const identities of [before, after]) {
            const want = wantOf(identities);
            expect((await datapath.sync(want, "exact")).failed).toEqual([]);
            expect(sorted((await datapath.observe()).ports)).toEqual(sorted(want));
            const fresh = world.open();
            expect(sorted((await fresh.observe()).ports)).toEqual(sorted(want));
            await fresh.close();
          }
        });
      }
    }

    test("serves interfaces of any name that the NSDB may hold", async () => {
      const names = ["-tap0", ".tap", "@x", "=x", "+x", "a.b-c@e+f=g"];
      const want: Plumbing[] = [];
      for (const [at, interfaceName] of names.entries()) {
        const identities = [{ number: at + 1, fixedAddress: "10.0.0.3" }];
        const ifindex = await world.plug(interfaceName);
        want.push({ portId: portIdOf(at), interfaceName, ifindex, mac: "fa:16:3e:00:00:01", identities });
      }
      expect((await datapath.sync(want.slice(0, 1), "exact")).failed).toEqual([]);
      // The rest beside one that is served, and then all of them at once.
      expect((await datapath.sync(want, "exact")).failed).toEqual([]);
      await world.flushRuleset();
      expect((await datapath.sync(want, "exact")).failed).toEqual([]);
      const fresh = world.open();
      expect(sorted((await fresh.observe()).ports)).toEqual(sorted(want));
      await fresh.close();
    });

    test("`add-only` removes nothing, `exact` leaves nothing else", async () => {
      const [first, second] = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "10.0.0.4"])];
      await datapath.sync([first], "exact");
      expect((await datapath.sync([second], "add-only")).removed).toEqual([]);
      expect(await observedIds()).toEqual([first.portId, second.portId]);
      expect((await datapath.sync([second], "exact")).removed).toEqual([first.portId]);
      expect(await observedIds()).toEqual([second.portId]);
    });

    test("`add-only` carries ports over where the tables must be made anew", async () => {
      const [first, second] = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "10.0.0.4"])];
      await datapath.sync([first], "exact");
      const other = world.open();
      expect((await other.sync([second], "add-only")).failed).toEqual([]);
      expect(await observedIds()).toEqual([first.portId, second.portId]);
      await other.close();
    });

    test("addresses, MAC and numbers change, and numbers swap, in one pass", async () => {
      const [first, second] = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "10.0.0.4"])];
      await datapath.sync([first, second], "exact");
      const changed = [
        { ...first, mac: "fa:16:3e:ff:ff:ff", identities: [{ number: 2, fixedAddress: "10.0.0.9" }] },
        { ...second, identities: [{ number: 1, fixedAddress: "10.0.0.4" }] },
      ];
      const report = await datapath.sync(changed, "exact");
      expect([report.replaced, report.failed]).toEqual([[first.portId, second.portId], []]);
      expect(sorted((await datapath.observe()).ports)).toEqual(sorted(changed));
    });

    test("two ports change interfaces with each other", async () => {
      const [first, second] = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "10.0.0.3"])];
      await datapath.sync([first, second], "exact");
      const { interfaceName, ifindex } = first;
      const changed = [
        { ...first, interfaceName: second.interfaceName, ifindex: second.ifindex },
        { ...second, interfaceName, ifindex },
      ];
      expect((await datapath.sync(changed, "exact")).failed).toEqual([]);
      expect(sorted((await datapath.observe()).ports)).toEqual(sorted(changed));
    });

    test("an interface that was made again is served under its new index", async () => {
      const before = await port(1, [1, "10.0.0.3"]);
      await datapath.sync([before], "exact");
      await world.unplug("ct1");
      const after = { ...before, ifindex: await world.plug("ct1") };
      expect((await datapath.sync([after], "exact")).replaced).toEqual([before.portId]);
      expect((await datapath.observe()).ports).toEqual([after]);
    });

    test("a port whose interface is gone can be removed", async () => {
      const [first, second] = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "10.0.0.4"])];
      await datapath.sync([first, second], "exact");
      await world.unplug("ct1");
      expect((await datapath.sync([second], "exact")).failed).toEqual([]);
      expect(await observedIds()).toEqual([second.portId]);
    });

    test("a port that cannot be is refused in a sentence, and all others are served", async () => {
      const good = await port(1, [1, "10.0.0.3"]);
      const same = { ...good, portId: portIdOf(5), identities: [{ number: 5, fixedAddress: "10.0.0.5" }] };
      const number = { ...(await port(2, [1, "10.0.0.4"])) };
      const hostile = { ...(await port(3, [3, "10.0.0.6"])), interfaceName: 'x"; flush ruleset' };
      const report = await datapath.sync([good, same, number, hostile], "exact");
      expect(report.added).toEqual([good.portId]);
      expect(report.failed.map(({ portId }) => portId)).toEqual([same.portId, number.portId, hostile.portId]);
      expect(report.failed[0]?.reason).toContain('interface "ct1" is taken by port');
      expect(report.failed[1]?.reason).toContain("link-local number 1 is taken by port");
      expect(report.failed[2]?.reason).toContain("must be 1 to 15 letters");
    });

    test("one vanished interface keeps no other port out", async () => {
      const gone = await port(1, [1, "10.0.0.3"]);
      const others = [await port(2, [2, "10.0.0.4"]), await port(3, [3, "10.0.0.5"])];
      await datapath.sync([], "exact");
      await world.unplug("ct1");
      await datapath.sync([others[0] as Plumbing, gone, others[1] as Plumbing], "exact");
      const ids = await observedIds();
      for (const { portId } of others) expect(ids).toContain(portId);
    });

    test("everything comes back after a flush", async () => {
      const want = [await port(1, [1, "10.0.0.3"]), await port(2, [2, "fd00::4"])];
      await datapath.sync(want, "exact");
      await world.flushRuleset();
      expect((await datapath.observe()).baseIntact).toBe(false);
      expect((await datapath.sync(want, "exact")).repairedBase).toBe(true);
      expect(sorted((await datapath.observe()).ports)).toEqual(sorted(want));
    });

    const PORT_1 = `port-${portIdOf(1)}`;
    test.each([
      ["netdev", "from_guest", 0, "ip daddr 169.254.169.253 accept"],
      ["netdev", "from_guest", 2, "ip6 daddr { fe80::a9fe:a9fe, ff02::2 } goto to_proxy6"],
      ["netdev", "deliver", 0, 'fwd to "ct1"'],
      ["netdev", "model", 3, "accept"],
      ["netdev", "model", LAST_OF_MODEL, "accept"],
      ["netdev", "model", LAST_OF_MODEL - 1, "accept"],
      // Of a kind of ports that fewer are of.
      ["netdev", "model", LAST_OF_MODEL - 2, "accept"],
      ["inet", "to_proxy", 2, "accept"],
      ["arp", "host_stays_silent", 0, "accept"],
      ["netdev", PORT_1, 0, "accept"],
      ["netdev", PORT_1, 0, "jump to_proxy4"],
      [
        "netdev",
        PORT_1,
        1,
        "ip6 saddr set ip6 saddr & ::ffff:ffff:ffff:ffff | fd69:fe00:0:2:: ether daddr set 02:a9:fe:a9:fe:01 tcp dport set 9697",
      ],
      ["netdev", `port-${portIdOf(2)}`, 2, "ip saddr set 169.254.0.9"],
    ] as const)(
      "a rule of %s %s (%i) that is another one is seen by whoever comes, and put right",
      async (family, chain, at, rule) => {
        const want = [
          await port(1, [1, "10.0.0.3"]),
          await port(2, [2, "fd00::4"]),
          await port(3, [3, "10.0.0.5"]),
        ];
        await datapath.sync(want, "exact");
        await world.replaceRule(family, chain, at, rule);
        const fresh = world.open();
        const { ports, baseIntact } = await fresh.observe();
        expect(baseIntact && ports.length === want.length).toBe(false);
        // Whatever becomes of the shared part, guests that are served are adopted.
        if (!chain.startsWith("port-")) expect(sorted(ports)).toEqual(sorted(want));
        expect(await fresh.plan(want, "exact")).not.toBe("# nothing to do\n");
        const { failed, repairedBase, replaced } = await fresh.sync(want, "exact");
        expect([failed, repairedBase || replaced.length > 0]).toEqual([[], true]);
        expect(sorted((await fresh.observe()).ports)).toEqual(sorted(want));
        await fresh.close();
        const last = world.open();
        expect(await last.sync((await last.observe()).ports, "exact")).toEqual(NOTHING);
        await last.close();
      },
    );

    test("`plan()` says what `sync()` would do, and does nothing", async () => {
      const want = [await port(1, [1, "10.0.0.3"])];
      const text = await datapath.plan(want, "exact");
      expect(text).toContain(`add chain netdev mn_metadata port-${want[0]?.portId}`);
      expect(text).toContain("# ip link add mn-metadata");
      expect(await datapath.observe()).toEqual({ ports: [], baseIntact: false });
      await datapath.sync(want, "exact");
      expect(await datapath.plan(want, "exact")).toBe("# nothing to do\n");
    });

    test("`sweep()` leaves nothing, says what it took, and can be repeated", async () => {
      await datapath.sync([await port(1, [1, "10.0.0.3"])], "exact");
      const swept = await datapath.sweep();
      expect(swept).toContain("interface mn-metadata");
      expect(swept).toContain("table netdev mn_metadata");
      expect(await datapath.sweep()).toEqual([]);
      expect(await datapath.observe()).toEqual({ ports: [], baseIntact: false });
    });
  });
}

const LAST_OF_MODEL = (SHARED_CHAINS.get("netdev model")?.ruleCount ?? 0) - 1;

/** What a port may have, and what it may become. */
const KINDS: readonly (readonly [string, readonly Identity[]])[] = [
  ["nothing", []],
  ["IPv4", [{ number: 5, fixedAddress: "10.0.0.5" }]],
  [
    "two of IPv4",
    [
      { number: 5, fixedAddress: "10.0.0.5" },
      { number: 6, fixedAddress: "10.0.0.6" },
    ],
  ],
  [
    "IPv4 and IPv6",
    [
      { number: 5, fixedAddress: "10.0.0.5" },
      { number: 7, fixedAddress: "2001:db8::7" },
    ],
  ],
  ["IPv6", [{ number: 7, fixedAddress: "2001:db8::7" }]],
  [
    "IPv6 with IPv4 inside",
    [
      { number: 8, fixedAddress: "::10.0.0.9" },
      { number: 9, fixedAddress: "::ffff:10.0.0.9" },
    ],
  ],
  [
    "two of IPv6",
    [
      { number: 8, fixedAddress: "2001:db8::8" },
      { number: 7, fixedAddress: "2001:db8::7" },
    ],
  ],
];

/** What a pass reports that had nothing to do. */
export const NOTHING = { added: [], replaced: [], removed: [], failed: [], repairedBase: false };

/** A port's id by a small number. */
export function portIdOf(index: number): string {
  return `7d9a6f1c-0000-4000-8000-00000000000${index}`;
}

/** Without orders that mean nothing. */
export function sorted(ports: readonly Plumbing[]): readonly Plumbing[] {
  return ports
    .map((plumbing) => ({
      ...plumbing,
      identities: [...plumbing.identities].sort((a, b) => a.number - b.number),
    }))
    .sort((a, b) => (a.portId < b.portId ? -1 : 1));
}
