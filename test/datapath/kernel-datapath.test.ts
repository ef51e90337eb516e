import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { factsOf } from "../../src/datapath/fact.ts";
import { KernelDatapath } from "../../src/datapath/kernel-datapath.ts";
import type { Nft } from "../../src/datapath/nft-process.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";
import { scriptOf } from "../../src/datapath/script.ts";
import { describeDatapath, NOTHING, portIdOf, sorted, type World } from "../contract/datapath.ts";
import { describeWaysOut } from "../contract/datapath-ways-out.ts";
import { FakeKernel, type Fault } from "../fakes/kernel.ts";

const makeWorld = async (): Promise<World> => {
  const kernel = new FakeKernel();
  return {
    open: () => new KernelDatapath(kernel),
    plug: async (name) => kernel.plug(name),
    unplug: async (name) => kernel.unplug(name),
    flushRuleset: async () => kernel.flushRuleset(),
    change: (script) => kernel.nft.apply(script),
    replaceRule: async (...damage) => kernel.replaceRule(...damage),
    close: async () => undefined,
  };
};

describeDatapath("the fake kernel", makeWorld);
describeWaysOut("the fake kernel", makeWorld);

interface Scenario {
  readonly name: string;
  /** Brings the kernel to where the change starts. */
  readonly before: (kernel: FakeKernel) => readonly Plumbing[];
  /** What happens, and what is wanted from then on. */
  readonly change: (kernel: FakeKernel, before: readonly Plumbing[]) => readonly Plumbing[];
}

function port(kernel: FakeKernel, index: number, ...fixed: readonly string[]): Plumbing {
  const identities = fixed.map((fixedAddress, at) => ({ number: index * 10 + at, fixedAddress }));
  const interfaceName = `ct${index}`;
  const mac = `fa:16:3e:00:00:0${index}`;
  return { portId: portIdOf(index), interfaceName, ifindex: kernel.plug(interfaceName), mac, identities };
}

const two = (kernel: FakeKernel) => [port(kernel, 1, "10.0.0.3"), port(kernel, 2, "10.0.0.3", "fd00::3")];

const scenarios: readonly Scenario[] = [
  { name: "an empty host gets its first ports", before: () => [], change: two },
  { name: "a port is added", before: two, change: (kernel, ports) => [...ports, port(kernel, 3, "fd00::4")] },
  { name: "a port is removed", before: two, change: (_, ports) => ports.slice(1) },
  {
    name: "an interface is made again",
    before: two,
    change: (kernel, [first, ...rest]) => {
      if (first === undefined) throw new Error("no port");
      kernel.unplug(first.interfaceName);
      return [{ ...first, ifindex: kernel.plug(first.interfaceName) }, ...rest];
    },
  },
  {
    name: "an address and a number change",
    before: two,
    change: (_, [first, ...rest]) => [
      { ...(first as Plumbing), identities: [{ number: 99, fixedAddress: "10.0.0.99" }] },
      ...rest,
    ],
  },
  {
    name: "somebody flushes the ruleset",
    before: two,
    change: (kernel, ports) => {
      kernel.flushRuleset();
      return ports;
    },
  },
  {
    name: "somebody deletes the interface",
    before: two,
    change: (kernel, ports) => {
      kernel.unplug("mn-metadata");
      kernel.unplug("mn-metadata-p");
      return ports;
    },
  },
];

describe("a kernel that fails once at any call", () => {
  for (const scenario of scenarios) {
    for (const fault of ["before", "after"] as const) {
      test(`is right by the second pass: ${scenario.name}, failing ${fault} the effect`, async () => {
        const calls = await callsOf(scenario);
        expect(calls).toBeGreaterThan(4);
        for (let call = 1; call <= calls; call++) await survives(scenario, call, fault);
      });
    }
  }
});

describe("`onDrift()`", () => {
  test("tells of a table that is gone while nft cannot end a listing, and `sync` puts it back", async () => {
    const kernel = new FakeKernel();
    let endListing = (): void => undefined;
    const listing = new Promise<undefined>((resolve) => {
      endListing = () => resolve(undefined);
    });
    let isRestless = false;
    const nft: Nft = {
      ...kernel.nft,
      listTable: (family, name) => (isRestless ? listing : kernel.nft.listTable(family, name)),
    };
    const datapath = new KernelDatapath({ nft, nfTables: kernel.nfTables, rtnetlink: kernel.rtnetlink });
    const want = two(kernel);
    await datapath.sync(want, "exact");
    isRestless = true;
    let drifts = 0;
    datapath.onDrift(() => {
      drifts += 1;
    });
    await kernel.nft.apply(["add table ip foreign"]);
    const before = kernel.calls;
    // The look that meets the foreign change begins a listing; the next ones go on beside it.
    await expect.poll(() => kernel.calls - before, { timeout: 5_000 }).toBeGreaterThan(20);
    expect(drifts).toBe(0);
    await kernel.nft.apply(["delete table netdev mn_metadata"]);
    await expect.poll(() => drifts, { timeout: 2_000 }).toBeGreaterThan(0);
    expect(await datapath.sync(want, "exact")).toMatchObject({ failed: [], repairedBase: true });
    isRestless = false;
    endListing();
    expect(sorted((await datapath.observe()).ports)).toEqual(sorted(want));
    await datapath.close();
  });

  test("tells of an element that is gone, after a foreign change as well", async () => {
    const kernel = new FakeKernel();
    const datapath = new KernelDatapath(kernel);
    const want = two(kernel);
    await datapath.sync(want, "exact");
    await kernel.nft.apply(["add table ip foreign"]);
    let drifts = 0;
    datapath.onDrift(() => {
      drifts += 1;
    });
    await kernel.nft.apply(["delete element netdev mn_metadata guest_mac { 169.254.0.10 }"]);
    await expect.poll(() => drifts, { timeout: 2_000 }).toBeGreaterThan(0);
    expect((await datapath.sync(want, "exact")).replaced).toEqual([portIdOf(1)]);
    await datapath.close();
  });
});

describe("the text of a port's chain", () => {
  test("is what PORT_CHAIN_FORM stands for: raise that, and write the new digest here", () => {
    const identities = [{ number: 7, fixedAddress: "10.0.0.3" }];
    const port = {
      portId: portIdOf(1),
      interfaceName: "tap1",
      ifindex: 5,
      mac: "fa:16:3e:00:00:01",
      identities,
    };
    const text = [port, { ...port, isIpv6Only: true }].flatMap((one) => scriptOf([], factsOf(one)));
    expect(createHash("sha256").update(text.join("\n")).digest("hex").slice(0, 12)).toBe("21f3ed24162d");
  });
});

describe("what somebody changes just before it is asked for", () => {
  test.each([
    ["observe()", (datapath: KernelDatapath) => datapath.observe()],
    ["counters()", (datapath: KernelDatapath) => datapath.counters(portIdOf(1))],
    ["plan()", (datapath: KernelDatapath) => datapath.plan([], "add-only")],
  ])("is told by `onDrift()` although `%s` saw it first", async (_, look) => {
    const kernel = new FakeKernel();
    const datapath = new KernelDatapath(kernel);
    await datapath.sync(two(kernel), "exact");
    let drifts = 0;
    datapath.onDrift(() => {
      drifts += 1;
    });
    kernel.flushRuleset();
    await look(datapath);
    expect(drifts).toBe(1);
    await datapath.close();
  });
});

describe("addresses of the host itself", () => {
  test("are read with the rest, and a change of them is a drift", async () => {
    const kernel = new FakeKernel();
    kernel.hostAddresses = [{ address: "169.254.0.1", prefixLength: 30 }];
    const datapath = new KernelDatapath(kernel);
    await datapath.observe();
    expect([1, 2, 3].map((number) => datapath.isHosts(number))).toEqual([true, false, true]);
    await datapath.sync(two(kernel), "exact");
    let drifts = 0;
    datapath.onDrift(() => {
      drifts += 1;
    });
    kernel.hostAddresses = [{ address: "169.254.0.2", prefixLength: 32 }];
    await expect.poll(() => drifts, { timeout: 3_000 }).toBe(1);
    // Whoever sees it first: nobody else would see it again.
    kernel.hostAddresses = [{ address: "169.254.0.2", prefixLength: 31 }, ...kernel.hostAddresses];
    kernel.hostAddresses = [{ address: "169.254.9.9", prefixLength: 32 }, ...kernel.hostAddresses];
    await datapath.observe();
    expect(drifts).toBe(2);
    expect([1, 2, 3].map((number) => datapath.isHosts(number))).toEqual([false, true, false]);
    await datapath.close();
  });
});

async function callsOf(scenario: Scenario): Promise<number> {
  const { kernel, datapath, want } = await start(scenario);
  const before = kernel.calls;
  await datapath.sync(want, "exact");
  return kernel.calls - before;
}

async function survives(scenario: Scenario, call: number, fault: Fault): Promise<void> {
  const { kernel, datapath, want } = await start(scenario);
  kernel.failOnce(call, fault);
  await datapath.sync(want, "exact").catch(() => undefined);
  const second = await datapath.sync(want, "exact");
  expect(second.failed, `call ${call}\n${kernel}`).toEqual([]);
  const { ports, baseIntact } = await datapath.observe();
  expect(baseIntact, `call ${call}\n${kernel}`).toBe(true);
  expect(sorted(ports), `call ${call}\n${kernel}`).toEqual(sorted(want));
  expect(await datapath.sync(want, "exact")).toEqual(NOTHING);
  await datapath.close();
}

async function start(scenario: Scenario) {
  const kernel = new FakeKernel();
  const datapath = new KernelDatapath(kernel);
  const before = scenario.before(kernel);
  if (before.length > 0) await datapath.sync(before, "exact");
  return { kernel, datapath, want: scenario.change(kernel, before) };
}
