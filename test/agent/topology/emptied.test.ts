import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { TopologySnapshot } from "../../../src/agent/topology/model.ts";
import { Topology } from "../../../src/agent/topology/topology.ts";
import { parseNsdbUrl } from "../../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../../src/nsdb/open-store.ts";
import type { Store } from "../../../src/nsdb/store.ts";
import { type MidonetPort, MidonetWriter, portText } from "../../support/midonet.ts";

const HOST_ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const REASON = "it is empty: somebody is writing it, or failed to";
const PORT: MidonetPort = {
  portId: "a0000000-0000-4000-8000-000000000001",
  interfaceName: "tap1",
  fixedAddresses: ["10.0.0.1"],
  mac: "fa:16:3e:00:00:01",
  instanceId: "instance",
  projectId: "project",
};

let folder: string;
let store: Store;
let midonet: MidonetWriter;
let topology: Topology | undefined;
let newest: TopologySnapshot | undefined;
/** How many ports each snapshot had. */
let counts: number[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "mn-topology-"));
  store = await openStore(parseNsdbUrl(`dir:${folder}`));
  midonet = new MidonetWriter(store, HOST_ID);
  newest = undefined;
  counts = [];
  await midonet.bind(PORT);
});

afterEach(async () => {
  topology?.close();
  await store.close();
  rmSync(folder, { recursive: true, force: true });
});

function follow(): void {
  topology = new Topology(store, HOST_ID, (snapshot) => {
    newest = { ...snapshot, ports: new Map(snapshot.ports) };
    counts.push(snapshot.ports.size);
  });
}

const pathOf = (kind: "Port" | "NeutronPort") => `/zoom/0/models/${kind}/${PORT.portId}`;

test.each(["Port", "NeutronPort"] as const)(
  "`Topology` keeps what a %s said that has been emptied, and says so until it is whole again",
  async (kind) => {
    follow();
    await expect.poll(() => newest?.inSync).toBe(true);
    counts = [];
    const path = pathOf(kind);
    const whole = (await store.get(path))?.data.toString() ?? "";
    await midonet.put(path, "");
    await expect.poll(() => newest?.problems).toEqual([{ znode: path, reason: REASON }]);
    await midonet.put(path, whole);
    await expect.poll(() => newest?.problems).toEqual([]);
    expect(newest?.ports.get(PORT.portId)).toEqual(PORT);
    expect(counts).not.toContain(0);
  },
);

test.each(["Port", "NeutronPort"] as const)(
  "`Topology` is in sync without a %s that has been empty from the start, names it, and serves it once written",
  async (kind) => {
    const path = pathOf(kind);
    const whole = (await store.get(path))?.data.toString() ?? "";
    await midonet.put(path, "");
    follow();
    await expect.poll(() => newest?.inSync).toBe(true);
    expect(newest?.ports.size).toBe(0);
    expect(newest?.problems).toEqual([{ znode: path, reason: REASON }]);
    await midonet.put(path, whole);
    await expect.poll(() => newest?.ports.get(PORT.portId)).toEqual(PORT);
    expect(newest?.problems).toEqual([]);
  },
);

test("`Topology` takes what is written at last, and an object that is gone, at their word", async () => {
  follow();
  await expect.poll(() => newest?.inSync).toBe(true);
  await midonet.put(pathOf("Port"), "");
  await expect.poll(() => newest?.problems.length).toBe(1);
  await midonet.put(pathOf("Port"), portText({ ...PORT, interfaceName: "tap2" }, HOST_ID));
  await expect.poll(() => newest?.ports.get(PORT.portId)?.interfaceName).toBe("tap2");
  await midonet.put(pathOf("NeutronPort"), "");
  await expect.poll(() => newest?.problems.length).toBe(1);
  rmSync(join(folder, pathOf("NeutronPort")));
  await expect.poll(() => newest?.ports.size).toBe(0);
  expect(newest?.problems).toEqual([]);
});
