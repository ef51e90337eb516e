import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeHost, decodeNeutronPort, decodePort } from "../../src/nsdb/models.ts";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import { modelPath } from "../../src/nsdb/paths.ts";
import { bindPort, listBoundPorts, unbindPort } from "../../src/nsdb/port-binding.ts";
import type { PortBinding } from "../../src/nsdb/port-binding-plan.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { startZookeeper } from "../support/zookeeper.ts";
import { HOST, HOST_ID, NETWORK_ID, NEUTRON_PORT, PORT, PORT_ID } from "./samples.ts";

const OTHER_HOST_ID = "00000000-0000-4000-8000-0000000000aa";
const BINDING: PortBinding = {
  portId: PORT_ID,
  hostId: HOST_ID,
  hostName: "compute-1",
  interfaceName: "tap5d0f3c1e-8a",
  instanceId: "7b1c9d2e-3f40-4a51-8b62-c7d8e9fa0b1c",
  projectId: "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
  macAddress: "FA:16:3E:12:34:56",
  fixedIps: ["192.0.2.17", "fd00::17"],
};

let zookeeper: Awaited<ReturnType<typeof startZookeeper>>;
let roots = 0;
beforeAll(async () => {
  zookeeper = await startZookeeper();
});
afterAll(() => zookeeper.cleanUp());

describe.each([
  ["a directory", async () => `dir:${await mkdtemp(join(tmpdir(), "nsdb-"))}`],
  ["ZooKeeper", async () => `zk://${zookeeper.address}/midonet${++roots}`],
])("port binding in %s", (_, freshUrl) => {
  let url: string;
  let store: Store;

  beforeEach(async () => {
    url = await freshUrl();
    store = await openStore(parseNsdbUrl(url));
  });
  afterEach(async () => {
    await store.close();
    if (url.startsWith("dir:")) await rm(url.slice(4), { recursive: true });
  });

  const text = async (path: string) => (await store.get(path))?.data.toString("utf8");
  const create = (path: string, content: string) =>
    store.write([{ kind: "create", path, data: Buffer.from(content) }]);
  const portIds = async (hostId: string) =>
    decodeHost((await store.get(modelPath("Host", hostId)))?.data ?? Buffer.alloc(0)).portIds;

  it("bind writes the three objects in MidoNet's bytes, and again nothing", async () => {
    expect(await bindPort(store, BINDING)).toBe(true);
    expect(await text(modelPath("Port", PORT_ID))).toBe(`id {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
host_id {
  msb: 2246800662264956824
  lsb: 9842518810263020273
}
interface_name: "tap5d0f3c1e-8a"
admin_state_up: true
`);
    expect(await text(modelPath("NeutronPort", PORT_ID))).toBe(`id {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
tenant_id: "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
mac_address: "fa:16:3e:12:34:56"
admin_state_up: true
fixed_ips {
  ip_address {
    version: V4
    address: "192.0.2.17"
  }
}
fixed_ips {
  ip_address {
    version: V6
    address: "fd00::17"
  }
}
device_owner: COMPUTE
device_id: "7b1c9d2e-3f40-4a51-8b62-c7d8e9fa0b1c"
host_id: "compute-1"
`);
    expect(await text(modelPath("Host", HOST_ID))).toBe(`id {
  msb: 2246800662264956824
  lsb: 9842518810263020273
}
name: "compute-1"
port_ids {
  msb: 6705644472044571502
  lsb: 11322344664447822101
}
`);
    expect(await bindPort(store, BINDING)).toBe(false);
    expect(await listBoundPorts(store, HOST_ID)).toEqual([
      {
        portId: PORT_ID,
        interfaceName: BINDING.interfaceName,
        instanceId: BINDING.instanceId,
        projectId: BINDING.projectId,
        macAddress: "fa:16:3e:12:34:56",
        fixedIps: BINDING.fixedIps,
        problem: undefined,
      },
    ]);
  });

  it("unbind takes away what bind made, and is content when there is nothing", async () => {
    await bindPort(store, BINDING);
    expect(await unbindPort(store, BINDING)).toBe(true);
    expect(await portIds(HOST_ID)).toEqual([]);
    expect(await store.get(modelPath("Port", PORT_ID))).toBeUndefined();
    expect(await store.get(modelPath("NeutronPort", PORT_ID))).toBeUndefined();
    expect(await listBoundPorts(store, HOST_ID)).toEqual([]);
    expect(await unbindPort(store, BINDING)).toBe(false);
  });

  it("unbind leaves an object that cannot be read, and names one that it needs", async () => {
    await bindPort(store, BINDING);
    const path = modelPath("NeutronPort", PORT_ID);
    const znode = await store.get(path);
    await store.write([{ kind: "set", path, data: Buffer.from("x {"), version: znode?.version ?? 0 }]);
    expect(await unbindPort(store, BINDING)).toBe(true);
    expect(await store.get(modelPath("Port", PORT_ID))).toBeUndefined();
    expect((await store.get(path))?.data.toString()).toBe("x {");
    const port = modelPath("Port", PORT_ID);
    await store.write([{ kind: "create", path: port, data: Buffer.from("y {") }]);
    await expect(unbindPort(store, BINDING)).rejects.toThrow(`Cannot use znode "${port}": `);
  });

  it("keeps every field that it does not write, where it was", async () => {
    await create(modelPath("Port", PORT_ID), PORT);
    await create(modelPath("NeutronPort", PORT_ID), NEUTRON_PORT);
    await create(modelPath("Host", HOST_ID), HOST);
    expect(await bindPort(store, { ...BINDING, fixedIps: ["192.0.2.17"] })).toBe(false);

    await bindPort(store, {
      ...BINDING,
      interfaceName: "tap2",
      fixedIps: ["192.0.2.17", "192.0.2.18"],
      networkId: NETWORK_ID,
    });
    expect(await text(modelPath("Port", PORT_ID))).toBe(PORT.replace("tap5d0f3c1e-8a", "tap2"));
    const added =
      '}\nfixed_ips {\n  ip_address {\n    version: V4\n    address: "192.0.2.18"\n  }\n}\ndevice_owner';
    expect(await text(modelPath("NeutronPort", PORT_ID))).toBe(
      NEUTRON_PORT.replace("}\ndevice_owner", added),
    );
    expect(await text(modelPath("Host", HOST_ID))).toBe(HOST);

    expect(await unbindPort(store, BINDING)).toBe(true);
    const port = await text(modelPath("Port", PORT_ID));
    expect(port).toContain("tunnel_key: 12\n");
    expect(port).toContain("previous_host_id {\n  msb: 2246800662264956824\n");
    expect(decodePort(Buffer.from(port ?? ""))).toMatchObject({
      hostId: undefined,
      interfaceName: undefined,
    });
    expect(await text(modelPath("NeutronPort", PORT_ID))).toContain('status: "ACTIVE"');
    expect(await text(modelPath("Host", HOST_ID))).toContain("tunnel_zone_ids");
    expect(await unbindPort(store, BINDING)).toBe(false);
  });

  it("bind moves a port from another host, whose late unbind then changes nothing", async () => {
    await bindPort(store, { ...BINDING, hostId: OTHER_HOST_ID, hostName: "compute-2" });
    await bindPort(store, BINDING);
    expect(await portIds(OTHER_HOST_ID)).toEqual([]);
    expect(await portIds(HOST_ID)).toEqual([PORT_ID]);
    expect(await text(modelPath("Port", PORT_ID))).toContain("previous_host_id {\n  msb: 16384\n");
    expect(await unbindPort(store, { portId: PORT_ID, hostId: OTHER_HOST_ID })).toBe(false);
    expect(decodePort((await store.get(modelPath("Port", PORT_ID)))?.data ?? Buffer.alloc(0)).hostId).toBe(
      HOST_ID,
    );
  });

  it("thirty binds and unbinds at once lose nothing", async () => {
    const ports = Array.from(
      { length: 30 },
      (_, i) => `00000000-0000-4000-9000-${String(i).padStart(12, "0")}`,
    );
    await Promise.all(
      ports.map((portId, i) => bindPort(store, { ...BINDING, portId, interfaceName: `tap${i}` })),
    );
    expect([...(await portIds(HOST_ID))].sort()).toEqual(ports);
    await Promise.all(ports.slice(10).map((portId) => unbindPort(store, { portId, hostId: HOST_ID })));
    expect([...(await portIds(HOST_ID))].sort()).toEqual(ports.slice(0, 10));
  });

  it.each([
    "/zoom/0/objects/Port",
    "/zoom/0/locks/zoom-topology",
    "/zoom/0/models/Network",
    "/config/schemas/cluster",
  ])("leaves an NSDB alone in which there is %s, unless forced", async (evidence) => {
    await create(evidence, "");
    const refused = expect.objectContaining({
      code: "denied",
      message: expect.stringMatching(/MidoNet cluster.*--force/),
    });
    await expect(bindPort(store, BINDING)).rejects.toEqual(refused);
    await expect(unbindPort(store, BINDING)).rejects.toEqual(refused);
    expect(await store.get(modelPath("Port", PORT_ID))).toBeUndefined();
    expect(await bindPort(store, BINDING, { force: true })).toBe(true);
    expect(await unbindPort(store, BINDING, { force: true })).toBe(true);
    // What is MidoNet's is never deleted.
    expect(await store.get(modelPath("NeutronPort", PORT_ID))).toBeDefined();
    expect(
      decodePort((await store.get(modelPath("Port", PORT_ID)))?.data ?? Buffer.alloc(0)).hostId,
    ).toBeUndefined();
  });

  it("schemas of our own and objects written by scripts are no evidence", async () => {
    await create("/config/schemas/agent", "{}");
    await create(modelPath("Port", PORT_ID), PORT);
    expect(await bindPort(store, BINDING)).toBe(true);
    const neutronPort = await store.get(modelPath("NeutronPort", PORT_ID));
    expect(decodeNeutronPort(neutronPort?.data ?? Buffer.alloc(0)).deviceId).toBe(BINDING.instanceId);
  });

  it.each<[string, Partial<PortBinding>]>([
    ["port", { portId: "x" }],
    ["host id", { hostId: "../x" }],
    ["interface", { interfaceName: "a b" }],
    ["interface", { interfaceName: "sixteen-bytes-xx" }],
    ["interface", { interfaceName: "mn-metadata" }],
    ["instance", { instanceId: "" }],
    ["project", { projectId: "a\nb" }],
    ["MAC", { macAddress: "fa:16:3e" }],
    ["fixed IP", { fixedIps: ["10.0.0.256"] }],
    ["fixed IP", { fixedIps: [] }],
    ["network", { networkId: "net" }],
  ])("refuses a bad %s: %j", async (what, change) => {
    const message = expect.stringMatching(new RegExp(`^Cannot .*${what}`));
    await expect(bindPort(store, { ...BINDING, ...change })).rejects.toMatchObject({
      code: "usage",
      message,
    });
    expect(await store.children("/zoom")).toBeUndefined();
  });

  it("says which object it cannot read, and list shows it beside the good ones", async () => {
    await bindPort(store, BINDING);
    const path = modelPath("NeutronPort", PORT_ID);
    const version = (await store.get(path))?.version ?? 0;
    await store.write([{ kind: "set", path, data: Buffer.from("tenant_id: {"), version }]);
    await expect(bindPort(store, BINDING)).rejects.toMatchObject({ code: "malformed", path });
    expect(await listBoundPorts(store, HOST_ID)).toMatchObject([
      {
        interfaceName: BINDING.interfaceName,
        instanceId: "",
        problem: expect.stringMatching(/NeutronPort.*line 1/),
      },
    ]);
  });
});
