import { describe, expect, test } from "vitest";
import { computePortOf } from "../../../src/agent/topology/compute-port.ts";
import type { TopologyProblem } from "../../../src/agent/topology/model.ts";
import type { NeutronPortModel, PortModel } from "../../../src/nsdb/models.ts";

const PORT = "5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915";
const HOST = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";

function made(port: Partial<PortModel> = {}, neutronPort: Partial<NeutronPortModel> = {}) {
  const problems: TopologyProblem[] = [];
  const made = computePortOf(
    PORT,
    HOST,
    {
      id: PORT,
      networkId: undefined,
      hostId: HOST,
      interfaceName: "tap5d0f3c1e-8a",
      adminStateUp: true,
      ...port,
    },
    {
      id: PORT,
      networkId: undefined,
      tenantId: "project",
      name: "",
      macAddress: "fa:16:3e:12:34:56",
      fixedIps: ["192.0.2.17"],
      deviceOwner: "COMPUTE",
      deviceId: "instance",
      hostId: "compute-1",
      allowedAddressPairs: [],
      adminStateUp: true,
      ...neutronPort,
    },
    problems,
  );
  return { port: made, problems };
}

describe("`computePortOf()`", () => {
  test("joins the binding with Neutron's half", () => {
    expect(made().port).toEqual({
      portId: PORT,
      interfaceName: "tap5d0f3c1e-8a",
      mac: "fa:16:3e:12:34:56",
      fixedAddresses: ["192.0.2.17"],
      instanceId: "instance",
      projectId: "project",
    });
  });

  test("is none, and no problem, for another owner, another host, or no binding", () => {
    for (const { port, problems } of [
      made({}, { deviceOwner: "DHCP" }),
      made({ hostId: "a2c4e6f8-1b3d-4f57-8e90-7c5d3b1a2f48" }),
      made({ interfaceName: undefined }),
      made({ hostId: undefined }),
    ]) {
      expect(port).toBeUndefined();
      expect(problems).toEqual([]);
    }
  });

  test("counts every fixed address and every host entry of the allowed pairs once, in one spelling", () => {
    const { port } = made(
      {},
      {
        fixedIps: ["10.0.0.5", "FD00:0::5"],
        allowedAddressPairs: [
          { address: "10.0.0.9", prefixLength: 32, macAddress: "" },
          { address: "10.0.1.0", prefixLength: 24, macAddress: "" },
          { address: "fd00::5", prefixLength: 128, macAddress: "" },
          { address: "fd00::", prefixLength: 64, macAddress: "" },
        ],
      },
    );
    expect(port?.fixedAddresses).toEqual(["10.0.0.5", "fd00::5", "10.0.0.9"]);
    expect(port?.isIpv6Only).toBeUndefined();
  });

  test("takes a port for one of IPv6 by its fixed addresses, whatever its pairs are", () => {
    const allowedAddressPairs = [{ address: "10.0.0.9", prefixLength: 32, macAddress: "" }];
    const { port } = made({}, { fixedIps: ["fd00::5"], allowedAddressPairs });
    expect(port).toMatchObject({ fixedAddresses: ["fd00::5", "10.0.0.9"], isIpv6Only: true });
    expect(made({}, { fixedIps: [], allowedAddressPairs }).port?.isIpv6Only).toBeUndefined();
  });

  test.each(["", "sixteen-letters-", "a b", "tap\n}", 'tap"', "..", "tap/0", "tap;drop"])(
    "refuses the interface name %j, naming object, field and value",
    (interfaceName) => {
      const { port, problems } = made({ interfaceName });
      expect(port).toBeUndefined();
      expect(problems).toHaveLength(1);
      expect(problems[0]?.znode).toBe(`/zoom/0/models/Port/${PORT}`);
      expect(problems[0]?.reason).toContain(`"interface_name" is ${JSON.stringify(interfaceName)}`);
    },
  );

  test.each(["lo", "mn-metadata", "mn-metadata-p"])(
    "refuses the host's own interface %s",
    (interfaceName) => {
      const { port, problems } = made({ interfaceName });
      expect(port).toBeUndefined();
      expect(problems[0]?.reason).toMatch(
        new RegExp(`"interface_name" is "${interfaceName}", .* the host's own`),
      );
    },
  );

  test.each([
    ["device_id", { deviceId: "instance 42" }],
    ["tenant_id", { tenantId: "p\n1" }],
  ])("names a %s that no header can carry, and serves the port without an instance", (field, over) => {
    const { port, problems } = made({}, over);
    expect(port).toMatchObject({ instanceId: "", projectId: "" });
    expect(problems).toHaveLength(1);
    expect(problems[0]?.znode).toBe(`/zoom/0/models/NeutronPort/${PORT}`);
    expect(problems[0]?.reason).toMatch(new RegExp(`^field "${field}" is ".*", but should be an id`));
  });

  test("refuses a port without a MAC address", () => {
    const { port, problems } = made({}, { macAddress: "" });
    expect(port).toBeUndefined();
    expect(problems[0]).toEqual({
      znode: `/zoom/0/models/NeutronPort/${PORT}`,
      reason: expect.stringContaining("mac_address"),
    });
  });
});
