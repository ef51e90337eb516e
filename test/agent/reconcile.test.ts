import { describe, expect, test } from "vitest";
import type { Logger } from "../../src/agent/log.ts";
import { PortTable } from "../../src/agent/ports/port-table.ts";
import { Reconciler } from "../../src/agent/reconcile.ts";
import type { ComputePort, TopologySnapshot } from "../../src/agent/topology/model.ts";
import type { SyncMode, SyncReport } from "../../src/datapath/datapath.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";

const ignore = () => undefined;
const silent: Logger = { error: ignore, warn: ignore, info: ignore, debug: ignore };
const nothing: SyncReport = { added: [], replaced: [], removed: [], failed: [], repairedBase: false };

function port(name: string): ComputePort {
  return {
    portId: name,
    interfaceName: `tap-${name}`,
    mac: "fa:16:3e:00:00:01",
    fixedAddresses: ["10.0.0.3"],
    instanceId: `instance-${name}`,
    projectId: "p",
  };
}

function snapshotOf(inSync: boolean, ...names: readonly string[]): TopologySnapshot {
  return { inSync, ports: new Map(names.map((name) => [name, port(name)])), problems: [], hostIsKnown: true };
}

/** Everything around a reconciler, with what happened in one list, in order. */
function stage(
  options: {
    sync?: (want: readonly Plumbing[], mode: SyncMode) => SyncReport;
    isReserved?: (number: number) => boolean;
    isUp?: () => boolean;
  } = {},
) {
  const events: string[] = [];
  const { isReserved = () => false, isUp = () => true } = options;
  const table = new PortTable({ now: () => 0, turn: () => 0, quarantineMs: 0, isReserved });
  let snapshot = snapshotOf(false);
  const reconciler = new Reconciler({
    table,
    log: silent,
    retryMs: 1,
    snapshot: () => snapshot,
    linkOf: () => ({ ifindex: 3, up: isUp() }),
    linksAreComplete: () => true,
    onRepair: async () => undefined,
    endTenure: async (tenure) => {
      events.push(
        `end ${tenure.portId} (${table.tenureOf(tenure.linkLocal) === tenure ? "row there" : "row gone"})`,
      );
    },
    datapath: {
      sync: async (want, mode) => {
        const rows = want.every(({ identities }) =>
          identities.every(({ number }) => table.tenures().some((tenure) => tenure.number === number)),
        );
        events.push(
          `sync ${mode} [${want.map(({ portId }) => portId).join(" ")}]${rows ? "" : " without rows"}`,
        );
        return options.sync?.(want, mode) ?? nothing;
      },
    },
  });
  return {
    events,
    table,
    reconciler,
    async see(next: TopologySnapshot) {
      snapshot = next;
      reconciler.trigger();
      await reconciler.idle();
    },
  };
}

describe("`Reconciler`", () => {
  test("adds only until the NSDB was read whole, then is exact", async () => {
    const { events, see, table } = stage();
    await see(snapshotOf(false, "a"));
    expect(table.inSync).toBe(false);
    await see(snapshotOf(true, "a"));
    expect(events).toEqual(["sync add-only [a]", "sync exact [a]"]);
    expect(table.inSync).toBe(true);
  });

  test("makes the row before the kernel opens; closes the kernel, then sockets, then the row", async () => {
    const { events, see, table } = stage();
    await see(snapshotOf(true, "a"));
    await see(snapshotOf(true));
    expect(events).toEqual(["sync exact [a]", "sync exact []", "end a (row there)"]);
    expect(table.tenures()).toEqual([]);
  });

  test("ends nothing while the kernel still holds it", async () => {
    let broken = false;
    const { events, see, table } = stage({
      sync: () => {
        if (broken) throw new Error("nft is not there");
        return nothing;
      },
    });
    await see(snapshotOf(true, "a"));
    broken = true;
    await see(snapshotOf(true));
    expect(table.tenures()).toHaveLength(1);
    expect(events.filter((event) => event.startsWith("end"))).toEqual([]);
  });

  test("tries again by itself after a failure, and is then in sync", async () => {
    let failures = 2;
    const { see, reconciler } = stage({
      sync: () => {
        if (failures-- > 0) throw new Error("busy");
        return nothing;
      },
    });
    await see(snapshotOf(true, "a"));
    expect(reconciler.status()).toMatchObject({ inSync: false, broken: "busy" });
    await expect
      .poll(() => reconciler.status())
      .toMatchObject({ inSync: true, broken: undefined, passes: 3 });
  });

  test("keeps the row of a port that could not be removed, and reports it", async () => {
    const failed = [{ portId: "a", reason: "device busy" }];
    let stuck = false;
    const { see, table, reconciler } = stage({ sync: () => (stuck ? { ...nothing, failed } : nothing) });
    await see(snapshotOf(true, "a"));
    stuck = true;
    await see(snapshotOf(true));
    expect(table.tenures()).toHaveLength(1);
    expect(reconciler.status().failing.get("a")).toBe("device busy");
    stuck = false;
    await expect.poll(() => table.tenures()).toEqual([]);
  });

  test("keeps an interface for the port that was served through it, also while that is down", async () => {
    let up = true;
    const { events, see, reconciler } = stage({ isUp: () => up });
    // The newcomer's id is the lower one.
    const both = ["b", "a"].map((name) => [name, { ...port(name), interfaceName: "tap" }] as const);
    const snapshot = { ...snapshotOf(true), ports: new Map(both) };
    await see({ ...snapshot, ports: new Map(both.slice(0, 1)) });
    await see(snapshot);
    up = false;
    await see(snapshot);
    up = true;
    await see(snapshot);
    expect(events.filter((event) => event.startsWith("sync"))).toEqual([
      "sync exact [b]",
      "sync exact [b]",
      "sync exact []",
      "sync exact [b]",
    ]);
    expect(reconciler.status().idle.get("a")).toContain('interface "tap" already serves port b');
    await see({ ...snapshot, ports: new Map(both.slice(1)) });
    expect(events.at(-2)).toBe("sync exact [a]");
  });

  test("where the numbers have run out, who has one is served, and who leaves is let go", async () => {
    const { events, see, reconciler } = stage({ isReserved: (number) => number !== 7 });
    await see(snapshotOf(true, "a", "b"));
    expect(reconciler.status().failing.get("b")).toMatch(/^Cannot give it a link-local address/);
    await see(snapshotOf(true, "b"));
    await expect.poll(() => events.at(-1)).toBe("sync exact [b]");
    expect(events).toContain("end a (row there)");
    expect(reconciler.status()).toMatchObject({ failing: new Map(), broken: undefined });
    await reconciler.stop();
  });

  test("makes one pass of many triggers, and one more for those that came meanwhile", async () => {
    const { events, reconciler } = stage();
    for (let count = 0; count < 100; count++) reconciler.trigger();
    await reconciler.idle();
    expect(events).toHaveLength(1);
  });

  test("starts no pass after `stop()`", async () => {
    const { events, reconciler } = stage();
    await reconciler.stop();
    reconciler.trigger();
    await reconciler.idle();
    expect(events).toEqual([]);
  });
});
