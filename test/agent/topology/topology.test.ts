import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { TopologySnapshot } from "../../../src/agent/topology/model.ts";
import { Topology } from "../../../src/agent/topology/topology.ts";
import { NsdbError } from "../../../src/nsdb/error.ts";
import { parseNsdbUrl } from "../../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../../src/nsdb/open-store.ts";
import type { Store } from "../../../src/nsdb/store.ts";
import { type MidonetPort, MidonetWriter, portText } from "../../support/midonet.ts";

const HOST_ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";

const OTHER_HOST_ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f2";

function port(digit: number): MidonetPort {
  return {
    portId: `a0000000-0000-4000-8000-00000000000${digit}`,
    interfaceName: `tap${digit}`,
    fixedAddresses: [`10.0.0.${digit}`],
    mac: "fa:16:3e:00:00:01",
    instanceId: `instance${digit}`,
    projectId: "project",
  };
}

describe("`Topology`", () => {
  let folder: string;
  let store: Store;
  let midonet: MidonetWriter;
  let topology: Topology | undefined;
  let seen: TopologySnapshot[];

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "mn-topology-"));
    store = await openStore(parseNsdbUrl(`dir:${folder}`));
    midonet = new MidonetWriter(store, HOST_ID);
    seen = [];
  });

  afterEach(async () => {
    topology?.close();
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const follow = () => {
    topology = new Topology(store, HOST_ID, (snapshot) =>
      seen.push({ ...snapshot, ports: new Map(snapshot.ports) }),
    );
  };
  const newest = () => {
    const snapshot = seen.at(-1);
    return { inSync: snapshot?.inSync, ports: [...(snapshot?.ports.keys() ?? [])].sort() };
  };

  test("is in sync once everything that the host lists has been read", async () => {
    await midonet.bind(port(1));
    await midonet.bind(port(2));
    follow();
    await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId, port(2).portId] });
    expect(seen.at(-1)?.ports.get(port(1).portId)).toEqual(port(1));
  });

  test("is in sync, and says so, where the NSDB does not know the host", async () => {
    follow();
    await expect.poll(newest).toEqual({ inSync: true, ports: [] });
    expect(seen.at(-1)?.hostIsKnown).toBe(false);
    await midonet.bind(port(1));
    await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId] });
  });

  test("follows ports that come, change and go", async () => {
    await midonet.bind(port(1));
    follow();
    await expect.poll(newest).toMatchObject({ ports: [port(1).portId] });
    await midonet.bind(port(2));
    await expect.poll(newest).toMatchObject({ ports: [port(1).portId, port(2).portId] });
    await midonet.bind({ ...port(2), instanceId: "another" });
    await expect.poll(() => seen.at(-1)?.ports.get(port(2).portId)?.instanceId).toBe("another");
    await midonet.unbind(port(1).portId);
    await expect.poll(newest).toMatchObject({ ports: [port(2).portId] });
  });

  test("says nothing of a listed port before it is read, so that its first news is the port", async () => {
    await midonet.bind(port(1));
    follow();
    await expect.poll(newest).toMatchObject({ inSync: true, ports: [port(1).portId] });
    await midonet.createAll([port(2)]);
    const before = seen.length;
    await midonet.list([port(2)]);
    await expect.poll(() => seen.length).toBeGreaterThan(before);
    expect([...(seen[before]?.ports.keys() ?? [])]).toContain(port(2).portId);
  });

  test("tells the first half of many ports while it reads the second", async () => {
    const many = Array.from({ length: 600 }, (_, at) => ({
      ...port(1),
      portId: `a0000000-0000-4000-8000-${at.toString(16).padStart(12, "0")}`,
      interfaceName: `tap${at}`,
    }));
    await midonet.bindAll(many);
    // Of the 1,200 objects of the ports, and the host's, the last 500 take their time.
    let reads = 0;
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const slow: Store = {
      ...store,
      get session() {
        return store.session;
      },
      onSession: (listener) => store.onSession(listener),
      get: async (path, onChange) => {
        reads += 1;
        if (reads > 701) await released;
        return store.get(path, onChange);
      },
    };
    // Not the timer by which what has been read is told in the end.
    vi.useFakeTimers({ toFake: ["setTimeout"] });
    topology = new Topology(slow, HOST_ID, (snapshot) =>
      seen.push({ ...snapshot, ports: new Map(snapshot.ports) }),
    );
    try {
      // expect.poll() would move the timers on.
      const deadline = performance.now() + 10_000;
      while (seen.length === 0 && performance.now() < deadline) await new Promise(setImmediate);
    } finally {
      vi.useRealTimers();
    }
    expect(seen[0]).toMatchObject({ inSync: false });
    expect(seen[0]?.ports.size).toBeGreaterThanOrEqual(300);
    release();
    await expect.poll(newest).toMatchObject({ inSync: true, ports: many.map(({ portId }) => portId) });
  });

  test("skips an object that cannot be used, names it and the field, and serves it again once mended", async () => {
    await midonet.bind(port(1));
    await midonet.bind(port(2));
    const path = `/zoom/0/models/Port/${port(1).portId}`;
    await midonet.put(path, "id { msb: 1 }\n");
    follow();
    await expect.poll(newest).toEqual({ inSync: true, ports: [port(2).portId] });
    expect(seen.at(-1)?.problems).toEqual([{ znode: path, reason: expect.stringContaining("lsb") }]);
    await midonet.bind(port(1));
    await expect.poll(newest).toMatchObject({ ports: [port(1).portId, port(2).portId] });
    expect(seen.at(-1)?.problems).toEqual([]);
  });

  test("keeps the ports of a host object that has been emptied", async () => {
    await midonet.bind(port(1));
    follow();
    await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId] });
    const path = `/zoom/0/models/Host/${HOST_ID}`;
    await midonet.put(path, "");
    await expect.poll(() => seen.at(-1)?.problems).toMatchObject([{ znode: path }]);
    expect(newest()).toEqual({ inSync: true, ports: [port(1).portId] });
  });

  test("keeps the ports of a host object that can no longer be read", async () => {
    await midonet.bind(port(1));
    follow();
    await expect.poll(newest).toMatchObject({ ports: [port(1).portId] });
    await midonet.put(`/zoom/0/models/Host/${HOST_ID}`, "port_ids { msb: nonsense }");
    await expect.poll(() => seen.at(-1)?.problems.length).toBe(1);
    expect(newest()).toMatchObject({ ports: [port(1).portId] });
  });

  describe("where an ACL keeps us out", () => {
    const denied = new Set<string>();
    let code: "denied" | "protocol" = "denied";
    let get: Store["get"];
    const why = (path: string) => `Cannot read "${path}": denied`;

    beforeEach(() => {
      denied.clear();
      code = "denied";
      const open = store.get;
      get = (path) => open.call(store, path);
      store.get = (path, onChange) => {
        const answer = open.call(store, path, onChange);
        return denied.has(path) ? Promise.reject(new NsdbError(code, why(path))) : answer;
      };
    });

    test.each(["denied", "protocol"] as const)(
      "of one object (%s), serves the other ports, names it, and serves it once it may be read",
      async (reason) => {
        code = reason;
        await midonet.bind(port(1));
        await midonet.bind(port(2));
        const path = `/zoom/0/models/NeutronPort/${port(1).portId}`;
        denied.add(path);
        follow();
        await expect.poll(newest).toEqual({ inSync: true, ports: [port(2).portId] });
        expect(seen.at(-1)?.problems).toEqual([{ znode: path, reason: why(path) }]);
        denied.clear();
        await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId, port(2).portId] });
        expect(seen.at(-1)?.problems).toEqual([]);
      },
    );

    test("of an object that is known, keeps what it said", async () => {
      await midonet.bind(port(1));
      follow();
      await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId] });
      const path = `/zoom/0/models/Port/${port(1).portId}`;
      denied.add(path);
      const data = Buffer.from(portText({ ...port(1), interfaceName: "other" }, OTHER_HOST_ID));
      const version = (await get(path))?.version ?? -1;
      await store.write([{ kind: "set", path, data, version }]);
      await expect.poll(() => seen.at(-1)?.problems).toEqual([{ znode: path, reason: why(path) }]);
      await midonet.bind(port(2));
      await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId, port(2).portId] });
      denied.clear();
      await expect.poll(newest).toEqual({ inSync: true, ports: [port(2).portId] });
      expect(seen.at(-1)?.problems).toEqual([]);
    });

    test("of the host, is not in sync, and names it", async () => {
      await midonet.bind(port(1));
      const path = `/zoom/0/models/Host/${HOST_ID}`;
      denied.add(path);
      follow();
      await expect.poll(() => seen.at(-1)?.problems).toEqual([{ znode: path, reason: why(path) }]);
      expect(newest()).toEqual({ inSync: false, ports: [] });
      expect(seen.at(-1)?.hostIsKnown).toBe(true);
      denied.clear();
      await expect.poll(newest).toEqual({ inSync: true, ports: [port(1).portId] });
      expect(seen.at(-1)?.problems).toEqual([]);
    });
  });
});
