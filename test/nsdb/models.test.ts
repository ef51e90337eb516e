import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NsdbError } from "../../src/nsdb/error.ts";
import { decodeHost, decodeNeutronPort, decodePort, HostDecoder } from "../../src/nsdb/models.ts";
import { HOST, HOST_ID, MINIMAL_NEUTRON_PORT, NETWORK_ID, NEUTRON_PORT, PORT, PORT_ID } from "./samples.ts";

const neutronPort = (text: string) => decodeNeutronPort(Buffer.from(text, "utf8"));

describe("models", () => {
  it("decodeNeutronPort() reads MidoNet's sample", () => {
    expect(neutronPort(NEUTRON_PORT)).toEqual({
      id: PORT_ID,
      networkId: NETWORK_ID,
      tenantId: "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
      name: `web "é" it's`,
      macAddress: "fa:16:3e:12:34:56",
      fixedIps: ["192.0.2.17"],
      deviceOwner: "COMPUTE",
      deviceId: "7b1c9d2e-3f40-4a51-8b62-c7d8e9fa0b1c",
      hostId: "compute-1",
      allowedAddressPairs: [],
      adminStateUp: true,
    });
  });

  it("decodePort() and decodeHost() read MidoNet's samples", () => {
    expect(decodePort(Buffer.from(PORT))).toEqual({
      id: PORT_ID,
      networkId: NETWORK_ID,
      hostId: HOST_ID,
      interfaceName: "tap5d0f3c1e-8a",
      adminStateUp: true,
    });
    expect(decodeHost(Buffer.from(HOST))).toEqual({ id: HOST_ID, name: "compute-1", portIds: [PORT_ID] });
  });

  it("decodeHost() reads port ids as printed and in every other spelling alike", () => {
    const half = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
    const spellings: readonly ((msb: bigint, lsb: bigint) => string)[] = [
      (msb, lsb) => `port_ids {\n  msb: ${msb}\n  lsb: ${lsb}\n}\n`,
      (msb, lsb) => `port_ids {\n  msb: ${msb}\n  lsb: ${lsb}\n}\n;`,
      (msb, lsb) => `port_ids {\n  msb: ${msb}\n  lsb: ${lsb}\n}\n# "\n`,
      (msb, lsb) => `port_ids {\n  lsb: ${lsb}\n  msb: 0x${msb.toString(16)}\n}\n`,
      (msb, lsb) => `port_ids: [<msb: 0${msb.toString(8)} lsb: ${lsb}>]`,
    ];
    const port = fc.record({ msb: half, lsb: half, spell: fc.constantFrom(...spellings) });
    fc.assert(
      fc.property(fc.array(port), (ports) => {
        const text = `name: "a"\n${ports.map(({ msb, lsb, spell }) => spell(msb, lsb)).join("")}alive: true\n`;
        const { name, portIds } = decodeHost(Buffer.from(text));
        const ids = ports.map(({ msb, lsb }) =>
          [msb, lsb].map((of) => of.toString(16).padStart(16, "0")).join(""),
        );
        expect(name).toBe("a");
        expect(portIds.map((id) => id.replaceAll("-", "")).sort()).toEqual(ids.sort());
      }),
    );
  });

  it("HostDecoder reads text after text as decodeHost() reads each", () => {
    const id = (n: number) => `port_ids {\n  msb: ${n}\n  lsb: ${n * 7}\n}\n`;
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    const decoder = new HostDecoder();
    let parts = ['name: "host"\n', ...Array.from({ length: 12 }, (_, n) => id(n))];
    for (let round = 0; round < 400; round++) {
      const [at, gone] = [random(parts.length + 1), random(3)];
      const odd = [`port_ids { msb: ${round} lsb: 2 }\n`, "# port_ids {\n", 'name: "é port_ids {"\n', ""];
      parts = parts.toSpliced(at, gone, random(3) === 0 ? (odd[random(4)] ?? "") : id(random(1_000)));
      const text = parts.join("");
      const cut = random(8) === 0 ? text.slice(0, random(text.length)) : text;
      const outcome = (decode: (data: Buffer) => unknown) => {
        try {
          return decode(Buffer.from(cut));
        } catch (error) {
          return (error as Error).message;
        }
      };
      expect(outcome((data) => decoder.decode(data))).toEqual(outcome(decodeHost));
    }
  });

  it("decodeHost() sees a port id where it is one only: not in a text, a comment, another message, nor beyond 64 bits", () => {
    const printed = "port_ids {\n  msb: 1\n  lsb: 2\n}\n";
    const decode = (text: string) => decodeHost(Buffer.from(text)).portIds;
    expect(decode(`other {\n${printed}}\n`)).toEqual([]);
    expect(decode(`# ${printed.replaceAll("\n", " ")}\n`)).toEqual([]);
    expect(decode(`name: "${printed.replaceAll("\n", "\\n")}"\n`)).toEqual([]);
    expect(() => decode(printed.replace("1", String(2n ** 64n)))).toThrow(
      'field "port_ids.msb" is 18446744073709551616, but should be a whole number from 0 to 18446744073709551615',
    );
    expect(() => decode(`${printed}${printed}port_ids {\n`)).toThrow("line 10, column 1");
  });

  it("takes an absent device_owner for a guest's", () => {
    expect(neutronPort(MINIMAL_NEUTRON_PORT)).toMatchObject({
      deviceOwner: "COMPUTE",
      tenantId: "t1",
      fixedIps: ["10.0.0.5"],
      hostId: "",
      adminStateUp: true,
    });
  });

  it("an empty object has the defaults", () => {
    expect(neutronPort("")).toMatchObject({
      id: undefined,
      tenantId: "",
      macAddress: "",
      fixedIps: [],
      deviceId: "",
    });
    expect(decodePort(Buffer.alloc(0))).toMatchObject({
      hostId: undefined,
      interfaceName: undefined,
      adminStateUp: true,
    });
    expect(decodeHost(Buffer.alloc(0)).portIds).toEqual([]);
  });

  it.each([
    ["device_owner: 4", { deviceOwner: "COMPUTE" }],
    ["device_owner: 0x0", { deviceOwner: "DHCP" }],
    ["device_owner: LOADBALANCERV2", { deviceOwner: "LOADBALANCERV2" }],
    ['nope { a: 1 b { c: "x" } } name: "k" # c', { name: "k" }],
    ["name: 'a' 'b'", { name: "ab" }],
    ['name: "a" name: "b"', { name: "b" }],
    ['fixed_ips < ip_address < version: 1 address: "1.2.3.4" > >', { fixedIps: ["1.2.3.4"] }],
    ['fixed_ips { ip_address { version: V6 address: "fd00::1" } } fixed_ips { }', { fixedIps: ["fd00::1"] }],
    ['mac_address: "FA:16:3E:AB:CD:EF"', { macAddress: "fa:16:3e:ab:cd:ef" }],
    ["admin_state_up: false", { adminStateUp: false }],
    [
      "id { msb: 0x5d0f3c1e8a474b6e lsb: 01164410307574474724425 }",
      { id: "5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915" },
    ],
    [
      'allowed_address_pairs { ip_address { version: V4 address: "10.0.0.9" prefix_length: 32 } mac_address: "fa:16:3e:00:00:01" }',
      { allowedAddressPairs: [{ address: "10.0.0.9", prefixLength: 32, macAddress: "fa:16:3e:00:00:01" }] },
    ],
    [
      'allowed_address_pairs { ip_address { version: V6 address: "fd00::" prefix_length: 64 } }',
      { allowedAddressPairs: [{ address: "fd00::", prefixLength: 64, macAddress: "" }] },
    ],
  ])("reads %s", (text, expected) => {
    expect(neutronPort(text)).toMatchObject(expected);
  });

  it.each([
    ["device_owner: BAREMETAL", /"device_owner" is BAREMETAL, but should be one of DHCP/],
    ["device_owner: 8", /"device_owner" is 8/],
    ['device_owner: "COMPUTE"', /"device_owner"/],
    ["id { msb: 1 }", /"id.lsb" is missing/],
    ["id { msb: -1 lsb: 1 }", /"id.msb" is -1/],
    ["id { msb: 18446744073709551616 lsb: 1 }", /"id.msb"/],
    ["id { msb: 1.5 lsb: 1 }", /"id.msb"/],
    ['id: "5d0f3c1e-8a47-4b6e-9d21-0c7be4f3a915"', /"id".*a message/],
    ['fixed_ips { ip_address { address: "1.2.3.4" } }', /"fixed_ips.ip_address.version" is missing/],
    [
      'fixed_ips { ip_address { version: V6 address: "1.2.3.4" } }',
      /"fixed_ips.ip_address.address" is "1.2.3.4", but should be an IPv6/,
    ],
    ["fixed_ips { ip_address { version: V4 } }", /"fixed_ips.ip_address.address"/],
    ["tenant_id: 7", /"tenant_id" is 7, but should be a string/],
    ['mac_address: "nonsense"', /"mac_address" is "nonsense"/],
    ["admin_state_up: yes", /"admin_state_up" is yes, but should be true or false/],
    [
      'allowed_address_pairs { ip_address { version: V4 address: "10.0.0.9" prefix_length: 33 } }',
      /prefix_length" is 33.*from 0 to 32/,
    ],
  ])("refuses %s, naming field and reason", (text, message) => {
    expect(() => neutronPort(text)).toThrow(NsdbError);
    expect(() => neutronPort(text)).toThrow(message);
  });

  it("throws nothing but its own error, whatever the object", () => {
    const samples = [NEUTRON_PORT, PORT, HOST, MINIMAL_NEUTRON_PORT].map((sample) => sample.split("\n"));
    const shuffled = fc
      .constantFrom(...samples)
      .chain((lines) =>
        fc.shuffledSubarray([...lines, "id: 1", "fixed_ips: 3", "device_owner: {}", "}", "port_ids {"]),
      );
    const values = fc.constantFrom(
      "1",
      "-1",
      "0x",
      "true",
      '""',
      '"::1"',
      "{ }",
      "{ msb: 1 lsb: 2 }",
      "V4",
      "< >",
    );
    const names = fc.constantFrom(
      "id",
      "fixed_ips",
      "mac_address",
      "device_owner",
      "port_ids",
      "host_id",
      "admin_state_up",
    );
    const odd = fc.array(fc.tuple(names, values).map(([name, value]) => `${name}: ${value}`));
    fc.assert(
      fc.property(fc.oneof(shuffled, odd), (lines) => {
        const data = Buffer.from(lines.join("\n"));
        for (const decode of [decodeHost, decodePort, decodeNeutronPort]) {
          try {
            decode(data);
          } catch (error) {
            if (!(error instanceof NsdbError) || error.code !== "malformed") throw error;
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
