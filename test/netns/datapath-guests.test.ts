import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { linkLocalOf, numberOf } from "../../src/datapath/link-local.ts";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";
import { Capture } from "../support/capture.ts";
import { EchoProxy } from "../support/echo-proxy.ts";
import {
  type Guest,
  METADATA_URL,
  METADATA_URL_V6,
  must,
  run,
  TestHost,
  until,
} from "../support/namespace.ts";

const MAC = "fa:16:3e:00:00:03";
const host = new TestHost();
const datapath = openDatapath();
let proxy: EchoProxy;
const guests: Record<string, Guest> = {};
let want: Plumbing[] = [];

async function plumbing(
  index: number,
  guest: Guest,
  ...identities: readonly (readonly [number, string])[]
): Promise<Plumbing> {
  return {
    portId: `7d9a6f1c-0000-4000-8000-00000000000${index}`,
    interfaceName: guest.interfaceName,
    ifindex: await guest.ifindex(),
    mac: guest.mac,
    identities: identities.map(([number, fixedAddress]) => ({ number, fixedAddress })),
  };
}

function guestNamed(name: string): Guest {
  const guest = guests[name];
  if (guest === undefined) throw new Error(`no guest "${name}"`);
  return guest;
}

beforeAll(async () => {
  guests["routed"] = await host.plug({
    tenant: "a",
    addresses: ["10.0.0.3/24"],
    mac: MAC,
    gateway: "10.0.0.1",
  });
  guests["twin"] = await host.plug({ tenant: "b", addresses: ["10.0.0.3/24"], mac: MAC });
  guests["dual"] = await host.plug({
    tenant: "a",
    addresses: ["10.0.0.4/24", "10.0.0.5/24", "fd00::4/64"],
    mac: "fa:16:3e:00:00:04",
  });
  guests["six"] = await host.plug({ tenant: "b", addresses: ["fd00::6/64"], mac: "fa:16:3e:00:00:06" });
  // The routed guest's gateway: another guest that holds 10.0.0.1, so that requests go to its MAC.
  guests["gateway"] = await host.plug({ tenant: "a", addresses: ["10.0.0.1/24"], mac: "fa:16:3e:00:00:01" });
  want = [
    await plumbing(1, guestNamed("routed"), [1, "10.0.0.3"]),
    await plumbing(2, guestNamed("twin"), [2, "10.0.0.3"]),
    await plumbing(3, guestNamed("dual"), [3, "10.0.0.4"], [4, "10.0.0.5"], [43_518, "fd00::4"]),
    await plumbing(4, guestNamed("six"), [65_533, "fd00::6"]),
  ];
  const report = await datapath.sync(want, "exact");
  expect(report.failed).toEqual([]);
  proxy = await EchoProxy.listen();
});

afterAll(async () => {
  await proxy?.close();
  await datapath.sweep();
  await datapath.close();
  await host.close();
});

describe("the path", () => {
  test("tells two guests with the same address and MAC apart", async () => {
    expect(await guestNamed("routed").fetch(METADATA_URL)).toBe(linkLocalOf(1));
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(2));
  });

  test("serves each fixed address of a port under its own number", async () => {
    const dual = guestNamed("dual");
    expect(await dual.fetch(METADATA_URL, "--interface", "10.0.0.4")).toBe(linkLocalOf(3));
    expect(await dual.fetch(METADATA_URL, "--interface", "10.0.0.5")).toBe(linkLocalOf(4));
  });

  test("serves IPv6 on every port, under the number of its first IPv6 address", async () => {
    const seen = async (name: string) => numberOf(await guestNamed(name).fetch(METADATA_URL_V6));
    expect(await seen("routed")).toBe(1);
    expect(await seen("twin")).toBe(2);
    expect(await seen("dual")).toBe(43_518);
    expect(await seen("six")).toBe(65_533);
  });

  test("serves any source in fe80::/64", async () => {
    const dual = guestNamed("dual");
    await dual.run("ip", "addr", "flush", "dev", "eth0", "scope", "link");
    await dual.run("ip", "addr", "add", "fe80::1234:5678:9abc:def0/64", "dev", "eth0", "nodad");
    const peer = await dual.fetch(METADATA_URL_V6);
    expect(peer).toMatch(/:1234:5678:9abc:def0$/);
    expect(numberOf(peer)).toBe(43_518);
  });

  test("answers IPv4 on a port that has only IPv6 addresses, from wherever its guest asks", async () => {
    const six = guestNamed("six");
    for (const address of ["169.254.7.7", "192.0.2.9"]) {
      await six.run("ip", "addr", "replace", `${address}/16`, "dev", "eth0");
      await six.run("ip", "route", "replace", "169.254.169.254", "dev", "eth0", "src", address);
      expect(await six.fetch(METADATA_URL)).toBe(linkLocalOf(65_533));
    }
  });

  test("answers it there beside an IPv4 address that is the port's by an allowed pair", async () => {
    const six = guestNamed("six");
    const before = want;
    want = want.map((port) => {
      if (port.interfaceName !== six.interfaceName) return port;
      const pair = { number: 65_532, fixedAddress: "10.0.0.99" };
      return { ...port, identities: [...port.identities, pair], isIpv6Only: true };
    });
    expect((await datapath.sync(want, "exact")).failed).toEqual([]);
    for (const [address, number] of [
      ["10.0.0.99", 65_532],
      ["192.0.2.77", 65_533],
      ["10.0.0.99", 65_532],
    ] as const) {
      await six.run("ip", "addr", "replace", `${address}/16`, "dev", "eth0");
      await six.run("ip", "route", "replace", "169.254.169.254", "dev", "eth0", "src", address);
      expect(await six.fetch(METADATA_URL)).toBe(linkLocalOf(number));
    }
    want = before;
    await datapath.sync(want, "exact");
  });

  test("carries large bodies whole, both ways and both families", async () => {
    const folder = mkdtempSync(join(tmpdir(), "mn-body-"));
    const body = Buffer.alloc(1_000_000, "0123456789abcdef");
    writeFileSync(join(folder, "body"), body);
    const sha1 = createHash("sha1").update(body).digest("hex");
    for (const url of [METADATA_URL, METADATA_URL_V6]) {
      for (const name of ["routed", "dual"]) {
        const guest = guestNamed(name);
        const sent = await guest.fetch(url, "-H", "Expect:", "--data-binary", `@${join(folder, "body")}`);
        expect(sent).toBe(sha1);
        const received = await guest.fetch(`${url}1000000`, "-o", "/dev/null", "-w", "%{size_download}");
        expect(received).toBe("1000000");
      }
    }
    rmSync(folder, { recursive: true });
  });

  test("keeps 9697 and every other port of the metadata address shut", async () => {
    const twin = guestNamed("twin");
    expect(await twin.fetch("http://169.254.169.254:9697/", "-m", "1")).toContain("timed out");
    expect(await twin.fetch("http://169.254.169.254:22/", "-m", "1")).toContain("timed out");
  });

  test("leaves no connection tracking, no neighbour to resolve, and no checksum error", async () => {
    expect((await must("ip", "neigh", "show", "dev", "mn-metadata")).replaceAll(/.*NOARP.*\n?/g, "")).toBe(
      "",
    );
    const { stdout } = await run("nstat", "-asz", "TcpInCsumErrors");
    expect(stdout).toMatch(/TcpInCsumErrors\s+0\s/);
  });

  test("shows no other port of the switch a request, an answer, or the question for the address", async () => {
    const [routed, dual, gateway] = [guestNamed("routed"), guestNamed("dual"), guestNamed("gateway")];
    await dual.run("ip", "neigh", "flush", "all");
    const ours = "host 169.254.169.254 or host fe80::a9fe:a9fe or ip6 dst ff02::1:fffe:a9fe";
    const filter = `${ours} or ether host 02:a9:fe:a9:fe:01 or icmp`;
    const atGateway = await Capture.start(gateway.namespace, "eth0", filter);
    for (const guest of [routed, dual]) {
      expect(await guest.fetch(METADATA_URL)).toMatch(/^169\.254\./);
      expect(numberOf(await guest.fetch(METADATA_URL_V6))).toBeGreaterThan(0);
    }
    // Ordinary traffic through the same queues comes last, so all before it would have arrived.
    expect((await dual.run("ping", "-c", "1", "-W", "10", "10.0.0.1")).code).toBe(0);
    await until("the capture has it", () => atGateway.lines().some((line) => line.includes("ICMP echo")));
    expect((await atGateway.stop()).filter((line) => !line.includes("ICMP echo"))).toEqual([]);
  });

  test("leaves other link-local addresses of the host to the host", async () => {
    const { stdout } = await run("ip", "route", "get", "169.254.0.1");
    expect(stdout).not.toContain("metadata");
  });

  test("counts what a port sent", async () => {
    const before = await datapath.counters(want[0]?.portId ?? "");
    await guestNamed("routed").fetch(METADATA_URL);
    const after = await datapath.counters(want[0]?.portId ?? "");
    expect((after?.packets ?? 0) - (before?.packets ?? 0)).toBeGreaterThan(3);
  });
});

describe("`sync()`", () => {
  test("a second agent adopts what the first left, and changes nothing", async () => {
    const second = openDatapath();
    const observed = await second.observe();
    expect(observed.baseIntact).toBe(true);
    expect(observed.ports.map(({ portId }) => portId).sort()).toEqual(
      want.map(({ portId }) => portId).sort(),
    );
    const report = await second.sync(observed.ports, "exact");
    expect(report).toEqual({ added: [], replaced: [], removed: [], failed: [], repairedBase: false });
    await second.close();
  });

  test("puts everything back in one pass after `nft flush ruleset`, noticed within 2 s", async () => {
    await datapath.sync(want, "exact");
    let drifted = false;
    const stop = datapath.onDrift(() => {
      drifted = true;
    });
    await must("nft", "flush", "ruleset");
    await until("the drift is noticed", () => drifted, 2_000);
    stop();
    expect((await datapath.sync(want, "exact")).repairedBase).toBe(true);
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(2));
  });

  test("notices a rule, an address or an interface that somebody took away", async () => {
    const damages: readonly (readonly string[])[] = [
      ["ip", "rule", "del", "from", "169.254.169.254"],
      ["ip", "-6", "rule", "del", "from", "fe80::a9fe:a9fe"],
      ["ip", "addr", "del", "169.254.169.254/32", "dev", "mn-metadata"],
      ["ip", "addr", "del", "fe80::a9fe:a9fe/64", "dev", "mn-metadata"],
      ["ip", "route", "flush", "table", "9697"],
      ["ip", "link", "set", "mn-metadata-p", "down"],
      ["ip", "link", "set", "mn-metadata", "down"],
      ["nft", "delete", "table", "inet", "mn_metadata"],
      ["nft", "flush", "chain", "netdev", "mn_metadata", "to_proxy4"],
      ["nft", "flush", "chain", "netdev", "mn_metadata", `port-${want[1]?.portId}`],
      ["nft", "flush", "map", "netdev", "mn_metadata", "guest_mac"],
      ["ip", "link", "set", "mn-metadata", "mtu", "1000"],
      ["ip", "link", "set", "mn-metadata-p", "mtu", "1000"],
      ["ip", "link", "del", "mn-metadata"],
    ];
    for (const [command = "", ...words] of damages) {
      await datapath.sync(want, "exact");
      let drifted = false;
      const stop = datapath.onDrift(() => {
        drifted = true;
      });
      await must(command, ...words);
      await until(`"${command} ${words.join(" ")}" is noticed`, () => drifted, 4_000);
      stop();
      const { failed } = await datapath.sync(want, "exact");
      expect(failed).toEqual([]);
      expect((await datapath.observe()).baseIntact).toBe(true);
      expect((await datapath.observe()).ports).toHaveLength(want.length);
    }
    await proxy.close();
    proxy = await EchoProxy.listen();
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(2));
    expect(numberOf(await guestNamed("twin").fetch(METADATA_URL_V6))).toBe(2);
  });

  test("serves a tap that was made again under the same name", async () => {
    const twin = guestNamed("twin");
    const { interfaceName } = twin;
    await twin.unplug();
    guests["twin"] = await host.plug({ tenant: "b", addresses: ["10.0.0.3/24"], mac: MAC, interfaceName });
    want[1] = await plumbing(2, guestNamed("twin"), [2, "10.0.0.3"]);
    const report = await datapath.sync(want, "exact");
    expect(report.replaced).toEqual([want[1].portId]);
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(2));
  });

  test("moves a number from one port to another, an address and a MAC in one go", async () => {
    const before = [...want];
    const [routed, twin] = want;
    if (routed === undefined || twin === undefined) throw new Error("no ports");
    want = [
      { ...routed, identities: [{ number: 2, fixedAddress: "10.0.0.3" }] },
      { ...twin, identities: [{ number: 1, fixedAddress: "10.0.0.3" }] },
      ...before.slice(2),
    ];
    expect((await datapath.sync(want, "exact")).failed).toEqual([]);
    expect(await guestNamed("routed").fetch(METADATA_URL)).toBe(linkLocalOf(2));
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(1));
    want = before;
    await datapath.sync(want, "exact");
    expect(await guestNamed("routed").fetch(METADATA_URL)).toBe(linkLocalOf(1));
  });

  test("stops serving a port that is no longer wanted, and leaves the others alone", async () => {
    const removed = await datapath.sync(want.slice(1), "add-only");
    expect(removed.removed).toEqual([]);
    expect(await guestNamed("routed").fetch(METADATA_URL)).toBe(linkLocalOf(1));
    expect((await datapath.sync(want.slice(1), "exact")).removed).toEqual([want[0]?.portId]);
    expect(await guestNamed("routed").fetch(METADATA_URL, "-m", "1")).toContain("timed out");
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(2));
    await datapath.sync(want, "exact");
  });

  test("says which rule a closed firewall lacks, and is content once it is there", async () => {
    await must(
      "nft",
      "add table inet fw; add chain inet fw in { type filter hook input priority 0; policy drop; }",
    );
    const [{ sentence } = { sentence: "" }] = await datapath.inspectHostFirewall();
    const [, command = ""] = /Add: nft (.*)$/.exec(sentence) ?? [];
    expect(sentence).toContain('chain "in" of table "inet fw"');
    expect(await guestNamed("twin").fetch(METADATA_URL, "-m", "1")).toContain("timed out");
    await must("nft", command);
    expect(await datapath.inspectHostFirewall()).toEqual([]);
    expect(await guestNamed("twin").fetch(METADATA_URL)).toBe(linkLocalOf(2));
    await must("nft", "delete", "table", "inet", "fw");
  });
});
