import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ActivePort } from "../../../src/agent/ports/active.ts";
import { PortTable } from "../../../src/agent/ports/port-table.ts";
import { turnAt } from "../../../src/agent/ports/turn.ts";
import type { ComputePort } from "../../../src/agent/topology/model.ts";
import { linkLocalOf, NUMBER_COUNT } from "../../../src/datapath/link-local.ts";

const A = "11111111-1111-4111-8111-111111111111";
const B = "22222222-2222-4222-8222-222222222222";
const C = "33333333-3333-4333-8333-333333333333";
const D = "44444444-4444-4444-8444-444444444444";

function active(portId: string, over: Partial<ComputePort> = {}): ActivePort {
  const port = {
    portId,
    interfaceName: `tap${portId.slice(0, 4)}`,
    mac: "fa:16:3e:00:00:01",
    fixedAddresses: ["10.0.0.3"],
    instanceId: `instance-of-${portId}`,
    projectId: "project",
    ...over,
  };
  return { port, ifindex: 5 };
}

function newTable({
  now = (): number => 0,
  reserved = [] as readonly number[],
  quarantineMs = 60_000,
  /** Numbers are given from the first on where nothing else is said. */
  turn = (): number => 0,
} = {}): PortTable {
  return new PortTable({ now, turn, quarantineMs, isReserved: (number) => reserved.includes(number) });
}

function closeAll(table: PortTable): void {
  for (const tenure of table.leaving()) table.close(tenure);
}

const numbersOf = ({ want }: ReturnType<PortTable["open"]>) =>
  want.flatMap((plumbing) => plumbing.identities.map((identity) => identity.number));

describe("`PortTable`", () => {
  test("finds a tenure by its link-local address as soon as `open()` returns", () => {
    const table = newTable();
    const [plumbing] = table.open([active(A)]).want;
    const number = plumbing?.identities[0]?.number ?? 0;
    expect(table.tenureOf(linkLocalOf(number))).toMatchObject({
      portId: A,
      number,
      fixedAddress: "10.0.0.3",
    });
    expect(table.tenureOf("169.254.77.77")).toBeUndefined();
    expect(table.tenureOf("10.0.0.3")).toBeUndefined();
  });

  test("gives each fixed address of a port its own number, and keeps them", () => {
    const table = newTable();
    const port = active(A, { fixedAddresses: ["10.0.0.3", "10.0.0.4", "fd00::5"] });
    const first = numbersOf(table.open([port]));
    expect(new Set(first).size).toBe(3);
    expect(numbersOf(table.open([port, active(B)])).slice(0, 3)).toEqual(first);
  });

  test("follows a port whose link or content changed, and one that left and came back, as if it saw all for the first time", () => {
    const table = newTable();
    const port = active(A);
    const [first] = table.open([port, active(B)]).want;
    expect(table.open([port, active(B)]).want[0]).toBe(first);
    expect(table.open([{ ...port, ifindex: 6 }]).want[0]).toEqual({ ...first, ifindex: 6 });
    expect(table.leaving().map(({ portId }) => portId)).toEqual([B]);
    expect(table.open([active(A, { mac: "fa:16:3e:00:00:02" })]).want[0]).toEqual({
      ...first,
      mac: "fa:16:3e:00:00:02",
    });
    table.open([]);
    expect(table.open([port]).want[0]).toEqual(first);
    table.open([]);
    closeAll(table);
    expect(numbersOf(table.open([port]))).not.toEqual(first?.identities.map(({ number }) => number));
    expect(table.leaving()).toEqual([]);
  });

  test("keeps a leaving tenure findable until it is closed, and then lets its number rest", () => {
    let now = 0;
    const table = newTable({ now: () => now, quarantineMs: 1_000 });
    const [number = 0] = numbersOf(table.open([active(A)]));
    const tenure = table.tenureOf(linkLocalOf(number));
    table.open([]);
    expect(table.tenureOf(linkLocalOf(number))).toBe(tenure);
    expect(table.leaving()).toEqual([tenure]);
    closeAll(table);
    expect(table.tenureOf(linkLocalOf(number))).toBeUndefined();
    now = 999;
    expect(numbersOf(table.open([active(B)]))).not.toContain(number);
  });

  test("goes round before it gives a number again", () => {
    const table = newTable({ quarantineMs: 0 });
    const seen = new Set<number>();
    for (let turn = 0; turn < 500; turn++) {
      const [number = 0] = numbersOf(table.open([active(A)]));
      expect(seen.has(number)).toBe(false);
      seen.add(number);
      table.open([]);
      closeAll(table);
    }
  });

  test("keeps an adopted number for the port and address that held it", () => {
    const table = newTable();
    table.adopt([
      {
        portId: A,
        interfaceName: "tapA",
        ifindex: 4,
        mac: "",
        identities: [{ number: 300, fixedAddress: "10.0.0.3" }],
      },
    ]);
    const [other = 0] = numbersOf(table.open([active(B)]));
    expect(other).not.toBe(300);
    expect(numbersOf(table.open([active(B), active(A)]))).toEqual([other, 300]);
  });

  test.each([
    ["keeps it for the same instance", "one", "one", true],
    ["keeps it for one that is named for the first time", "", "one", true],
    ["gives another instance on the same port and address another", "one", "two", false],
    ["gives another where the instance has no name any more", "one", "", false],
  ])("of the numbers that an earlier run left, %s", (_, before, after, isKept) => {
    const earlier = newTable();
    const { want } = earlier.open([active(A, { instanceId: before })]);
    const table = newTable();
    table.adopt(want);
    const [number = 0] = numbersOf(table.open([active(A, { instanceId: after })]));
    expect(number === want[0]?.identities[0]?.number).toBe(isKept);
    expect(table.tenureOf(linkLocalOf(number))).toMatchObject({ instanceId: after });
    table.releaseAdopted();
    expect(numbersOf(table.open([active(A, { instanceId: after })]))).toEqual([number]);
  });

  test("begins where the clock stands, whatever an earlier run left or did not leave", () => {
    const left = newTable().open([active(A)]).want;
    for (const adopted of [[], left]) {
      const table = newTable({ turn: () => 40_000 });
      table.adopt(adopted);
      expect(numbersOf(table.open([active(B)]))).toEqual([40_001]);
    }
  });

  test("follows the clock all round, but never backwards", () => {
    let turn = NUMBER_COUNT - 1;
    const table = newTable({ turn: () => turn });
    const ports = [active(A), active(B), active(C), active(D)];
    expect(numbersOf(table.open(ports.slice(0, 2)))).toEqual([NUMBER_COUNT, 1]);
    turn = 5;
    expect(numbersOf(table.open(ports.slice(0, 3))).at(-1)).toBe(2);
    // Long after, when it has come round more than half.
    turn = 2 * NUMBER_COUNT - 10;
    expect(numbersOf(table.open(ports)).at(-1)).toBe(NUMBER_COUNT - 9);
  });

  test("gives no number to another port within two minutes, however often the agent is started anew", () => {
    fc.assert(
      fc.property(fc.array(deed, { maxLength: 80 }), (deeds) => {
        expect(reuses(deeds)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  test("counts an adopted port as the holder of its interface, before and after it is known", () => {
    const table = newTable();
    const identities = [{ number: 300, fixedAddress: "10.0.0.3" }];
    table.adopt([{ portId: A, interfaceName: "tap1111", ifindex: 4, mac: "", identities }]);
    expect(table.holds(A, "tap1111")).toBe(true);
    table.open([active(A)]);
    expect(table.holds(A, "tap1111")).toBe(true);
    expect(table.holds(B, "tap1111")).toBe(false);
  });

  test("rests the adopted numbers that nobody claimed", () => {
    const table = newTable();
    table.adopt([
      {
        portId: A,
        interfaceName: "tapA",
        ifindex: 4,
        mac: "",
        identities: [{ number: 300, fixedAddress: "10.0.0.3" }],
      },
    ]);
    table.open([]);
    table.releaseAdopted();
    const [again = 0] = numbersOf(table.open([active(A)]));
    expect(again).not.toBe(300);
  });

  test("gives a port that passes to another instance another number, and ends the old tenure", () => {
    const table = newTable();
    const [before = 0] = numbersOf(table.open([active(A, { instanceId: "one" })]));
    const [after = 0] = numbersOf(table.open([active(A, { instanceId: "two" })]));
    expect(after).not.toBe(before);
    expect(table.leaving()).toMatchObject([{ number: before, instanceId: "one" }]);
    closeAll(table);
    expect(table.tenureOf(linkLocalOf(after))).toMatchObject({ instanceId: "two" });
    expect(numbersOf(table.open([active(A, { instanceId: "two" })]))).toEqual([after]);
  });

  test("keeps the number when the instance is named for the first time, as a new tenure", () => {
    const table = newTable();
    const [before = 0] = numbersOf(table.open([active(A, { instanceId: "" })]));
    const unnamed = table.tenureOf(linkLocalOf(before));
    const [after = 0] = numbersOf(table.open([active(A, { instanceId: "one" })]));
    expect(after).toBe(before);
    expect(table.tenureOf(linkLocalOf(after))).not.toBe(unnamed);
  });

  test("never gives a reserved number", () => {
    const table = newTable({ reserved: [1, 2, 3] });
    expect(numbersOf(table.open([active(A)]))).toEqual([4]);
  });

  test("says so when every number is taken", () => {
    const table = new PortTable({
      now: () => 0,
      turn: () => 0,
      quarantineMs: 0,
      isReserved: (number) => number < NUMBER_COUNT,
    });
    table.open([active(A)]);
    const { want, refused } = table.open([active(A), active(B)]);
    expect(want.map(({ portId }) => portId)).toEqual([A]);
    expect([...refused.keys()]).toEqual([B]);
    expect(refused.get(B)).toMatch(/^Cannot give it a link-local address: all .*reserved_ranges/);
    // Nobody else is kept from leaving, and then there is one again.
    expect(table.open([active(B)]).want).toEqual([]);
    closeAll(table);
    expect(table.open([active(B)])).toMatchObject({ want: [{ portId: B }], refused: new Map() });
  });

  test("serves a port at those of its addresses that there is a number for", () => {
    const table = newTable({ reserved: Array.from({ length: NUMBER_COUNT - 2 }, (_, at) => at + 1) });
    const { want, refused } = table.open([
      active(A, { fixedAddresses: ["10.0.0.3", "10.0.0.4", "10.0.0.5"] }),
    ]);
    expect(want[0]?.identities.map(({ fixedAddress }) => fixedAddress)).toEqual(["10.0.0.3", "10.0.0.4"]);
    expect([...refused.keys()]).toEqual([A]);
  });

  test("gives another number for one that becomes reserved, held or adopted", () => {
    const reserved: number[] = [];
    const table = newTable({ reserved });
    const identities = [{ number: 300, fixedAddress: "10.0.0.3" }];
    table.adopt([{ portId: B, interfaceName: "tap2222", ifindex: 4, mac: "", identities }]);
    const [number = 0] = numbersOf(table.open([active(A)]));
    reserved.push(number, 300);
    const [other, adopted] = numbersOf(table.open([active(A), active(B)]));
    expect([number, 300]).not.toContain(other);
    expect([number, 300]).not.toContain(adopted);
    expect(table.leaving().map((tenure) => tenure.number)).toEqual([number]);
    closeAll(table);
    table.releaseAdopted();
    expect(numbersOf(table.open([active(A), active(B)]))).toEqual([other, adopted]);
  });

  test("tells listeners of each change, and of being in sync once", () => {
    const table = newTable();
    let told = 0;
    const stop = table.onChange(() => told++);
    table.open([active(A)]);
    table.markInSync();
    table.markInSync();
    expect([told, table.inSync]).toEqual([2, true]);
    stop();
    table.open([]);
    expect(told).toBe(2);
  });
});

/** What happens on a host, and how long before it (ms) nothing else does. */
type Deed = readonly ["plug" | "unplug" | "restart" | "toggle", afterMs: number];

/** A start takes a second or longer; ports come and go as they like. Together they stay below a round of the clock. */
const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.tuple(fc.constantFrom("plug", "unplug"), fc.integer({ min: 0, max: 500 })),
  fc.tuple(fc.constantFrom("restart", "toggle"), fc.integer({ min: 1_000, max: 6_000 })),
);

/** Numbers that one port had and another got too soon, each as a sentence. */
function reuses(deeds: readonly Deed[]): readonly string[] {
  let nowMs = 1_700_000_000_123;
  const options = { now: () => nowMs, quarantineMs: 120_000, turn: () => turnAt(nowMs) };
  let table = newTable(options);
  let ports: readonly ActivePort[] = [];
  const had = new Map<number, { readonly portId: string; atMs: number }>();
  const found: string[] = [];
  const pass = (): ReturnType<PortTable["open"]>["want"] => {
    const { want } = table.open(ports);
    closeAll(table);
    table.releaseAdopted();
    for (const { portId, identities } of want) {
      for (const { number } of identities) {
        const before = had.get(number);
        if (before !== undefined && before.portId !== portId && nowMs - before.atMs < 120_000)
          found.push(`${number} of ${before.portId} is given to ${portId} after ${nowMs - before.atMs} ms`);
        had.set(number, { portId, atMs: nowMs });
      }
    }
    return want;
  };
  for (const [at, [what, afterMs]] of deeds.entries()) {
    const left = pass();
    nowMs += afterMs;
    if (what === "plug") ports = [...ports, active(`port-${at}`)];
    else if (what === "unplug") ports = ports.slice(0, -1);
    else {
      table = newTable(options);
      if (what === "restart") table.adopt(left);
    }
  }
  pass();
  return found;
}
