import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import { Capture } from "../support/capture.ts";
import { EchoProxy } from "../support/echo-proxy.ts";
import { type Guest, METADATA_URL, must, TestHost, until } from "../support/namespace.ts";

const host = new TestHost();
const datapath = openDatapath();
let [victim, attacker, unplumbed]: (Guest | undefined)[] = [];
let proxy: EchoProxy;

beforeAll(async () => {
  victim = await host.plug({ tenant: "a", addresses: ["10.0.0.3/24"], mac: "fa:16:3e:00:00:03" });
  attacker = await host.plug({ tenant: "a", addresses: ["10.0.0.4/24"], mac: "fa:16:3e:00:00:04" });
  unplumbed = await host.plug({ tenant: "a", addresses: ["10.0.0.5/24"], mac: "fa:16:3e:00:00:05" });
  const ports = [victim, attacker].map(async (guest, at) => ({
    portId: `7d9a6f1c-0000-4000-8000-00000000000${at}`,
    interfaceName: guest.interfaceName,
    ifindex: await guest.ifindex(),
    mac: guest.mac,
    identities: [{ number: at + 1, fixedAddress: `10.0.0.${at + 3}` }],
  }));
  const { failed } = await datapath.sync(await Promise.all(ports), "exact");
  expect(failed).toEqual([]);
  proxy = await EchoProxy.listen();
});

afterAll(async () => {
  await proxy?.close();
  await datapath.sweep();
  await datapath.close();
  await host.close();
});

describe("a guest that lies", () => {
  test("reaches the proxy as itself or not at all, and nobody else hears the answer", async () => {
    if (victim === undefined || attacker === undefined) throw new Error("no guests");
    const links = JSON.parse(await must("ip", "-j", "link", "show", "type", "bridge")) as {
      address: string;
    }[];
    const atProxy = await Capture.start(
      undefined,
      "mn-metadata",
      "tcp[tcpflags] & tcp-syn != 0 or ip6 or udp or icmp",
    );
    const atVictim = await Capture.start(
      victim.namespace,
      "eth0",
      "ether src 02:a9:fe:a9:fe:01 or src host 169.254.169.254 or src host fe80::a9fe:a9fe",
    );
    const atAttacker = await Capture.start(attacker.namespace, "eth0", "ether src 02:a9:fe:a9:fe:01");
    const script = fileURLToPath(new URL("../support/spoof.py", import.meta.url));
    const facts = [
      "10.0.0.4",
      attacker.mac,
      "169.254.0.1",
      victim.mac,
      "fe80::f816:3eff:fe00:4",
      links[0]?.address ?? "",
    ];
    const sent = await attacker.run("/usr/bin/python3", script, ...facts);
    expect(sent.stderr).toBe("");
    const probes = sent.stdout
      .trim()
      .split("\n")
      .map((line) => line.split(" "));
    expect(probes.length).toBeGreaterThan(30);

    // The last word goes through the same queues, so all before it has arrived.
    expect(await attacker.fetch(METADATA_URL, "--local-port", "29999")).toBe("169.254.0.2");
    await until("the capture has it", () => atProxy.lines().some((line) => line.includes(".29999")));
    const seen = await atProxy.stop();
    // However tcpdump spells a port behind another header: nothing but TCP right behind IP may get so far.
    expect(seen.filter((line) => !/\.\d+ > \S+\.\d+: Flags \[/.test(line))).toEqual([]);
    const inbound = seen.filter((line) => line.includes(".9697: Flags [S]"));
    const reached = new Map<number, string>();
    for (const line of inbound) {
      const [, source = "", port] = /(\S+)\.(\d+) > \S+\.9697: Flags \[S\]/.exec(line) ?? [];
      if (port !== "29999") reached.set(Number(port) - 20_000, source);
    }
    const mayReach = probes.filter(([, may]) => may === "1").map(([n]) => Number(n));
    expect([...reached.keys()].sort((a, b) => a - b)).toEqual(mayReach);
    for (const source of reached.values()) expect(source).toMatch(/^(169\.254\.0\.2|fd69:fe00:0:2:.*)$/);

    const answers = await atAttacker.stop();
    // Its forged request, and the honest one that the last fetch may need.
    expect([1, 2]).toContain(answers.filter((line) => line.includes("Reply 169.254.169.254")).length);
    // The forged one and what the guest's own kernel may ask; nothing for the DAD probe, which would go to all nodes.
    const advertised = answers.filter((line) => line.includes("neighbor advertisement"));
    expect(advertised.length).toBeGreaterThan(0);
    for (const line of advertised)
      expect(line).toMatch(/ > (fe80::99|fe80::f816:3eff:fe00:4|fe80::dead:beef): /);
    // What the victim may hear of all this is the poison that the attacker sent it by the switch, as any frame.
    expect((await atVictim.stop()).filter((line) => line.includes("02:a9:fe:a9:fe:01 >"))).toEqual([]);
    expect(new Set(proxy.peers)).toEqual(new Set(["169.254.0.2"]));
  });

  test("gets nothing through a port without plumbing, even where the host has an address on its bridge", async () => {
    if (unplumbed === undefined) throw new Error("no guest");
    const [bridge] = JSON.parse(await must("ip", "-j", "link", "show", "type", "bridge")) as {
      ifname: string;
    }[];
    await must("ip", "addr", "add", "10.0.0.254/24", "dev", bridge?.ifname ?? "");
    await must("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0");
    await unplumbed.run("ip", "route", "replace", "169.254.169.254", "via", "10.0.0.254");
    const heard = proxy.peers.length;
    for (const url of [METADATA_URL, "http://169.254.169.254:9697/"]) {
      expect(await unplumbed.fetch(url, "-m", "1")).toMatch(/timed out|Could not connect|Failed to connect/);
    }
    await unplumbed.run("ip", "route", "replace", "169.254.169.254", "dev", "eth0");
    await unplumbed.run("ip", "neigh", "flush", "all");
    expect(await unplumbed.fetch(METADATA_URL, "-m", "1")).toMatch(
      /timed out|Could not connect|Failed to connect|No route/,
    );
    expect(proxy.peers).toHaveLength(heard);
  });
});

describe("the kernel's answer", () => {
  test("to a neighbour solicitation is right, with and without the guest's own address in it", async () => {
    if (attacker === undefined) throw new Error("no guest");
    const script = `
import sys
from scapy.all import *
own = ${JSON.stringify(attacker.mac)}
ask = Ether(src=own, dst="02:a9:fe:a9:fe:01") / IPv6(src="fe80::99", dst="fe80::a9fe:a9fe") / ICMPv6ND_NS(tgt="fe80::a9fe:a9fe")
for packet in (ask, ask / ICMPv6NDOptSrcLLAddr(lladdr=own)):
    answer = srp1(packet, iface="eth0", timeout=3, verbose=False)
    given = answer[ICMPv6ND_NA].cksum
    del answer[ICMPv6ND_NA].cksum
    again = Ether(bytes(answer))
    print(answer.src, answer.dst, answer[IPv6].src, answer[IPv6].dst, answer[ICMPv6ND_NA].tgt, given == again[ICMPv6ND_NA].cksum)
`;
    const { stdout, stderr } = await attacker.run("/usr/bin/python3", "-c", script);
    const right = `02:a9:fe:a9:fe:01 ${attacker.mac} fe80::a9fe:a9fe fe80::99 fe80::a9fe:a9fe True`;
    expect(stderr).toBe("");
    expect(stdout.trim().split("\n")).toEqual([right, right]);
  });
});
