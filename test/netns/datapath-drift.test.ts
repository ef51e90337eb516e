import { type ChildProcess, spawn } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { linkLocalOf } from "../../src/datapath/link-local.ts";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";
import { EchoProxy } from "../support/echo-proxy.ts";
import { type Guest, METADATA_URL, must, replaceOurRule, TestHost, until } from "../support/namespace.ts";

/** As a container engine or a firewall that is loaded again and again; nothing of ours is in it. */
const FOREIGN_LOOP = `
while nft 'add table ip foreign; add chain ip foreign c; add rule ip foreign c counter'; do
  nft delete table ip foreign
done`;

const host = new TestHost();
const datapath = openDatapath();
let guest: Guest;
let proxy: EchoProxy;
let others: ChildProcess;
let want: readonly Plumbing[];

beforeAll(async () => {
  guest = await host.plug({ tenant: "a", addresses: ["10.0.0.3/24"], mac: "fa:16:3e:00:00:03" });
  want = [
    {
      portId: "7d9a6f1c-0000-4000-8000-000000000001",
      interfaceName: guest.interfaceName,
      ifindex: await guest.ifindex(),
      mac: guest.mac,
      identities: [{ number: 1, fixedAddress: "10.0.0.3" }],
    },
  ];
  await datapath.sync(want, "exact");
  proxy = await EchoProxy.listen();
  others = spawn("sh", ["-c", FOREIGN_LOOP], { stdio: "ignore" });
});

afterAll(async () => {
  const ended = new Promise((resolve) => others?.once("exit", resolve));
  others?.kill("SIGKILL");
  await ended;
  await proxy?.close();
  await datapath.sweep();
  await datapath.close();
  await host.close();
});

describe("where others change rules all the time", () => {
  test.each([
    ["delete", "table", "netdev", "mn_metadata"],
    ["delete", "table", "inet", "mn_metadata"],
    ["delete", "table", "arp", "mn_metadata"],
    ["flush", "chain", "netdev", "mn_metadata", "port-7d9a6f1c-0000-4000-8000-000000000001"],
    ["flush", "map", "netdev", "mn_metadata", "guest_mac"],
  ])("`nft %s %s %s` is noticed and repaired within 2 s", async (...words) => {
    let repairs = 0;
    const stop = datapath.onDrift(() => {
      void datapath.sync(want, "exact").then(() => {
        repairs += 1;
      });
    });
    await must("nft", ...words);
    await until("it is repaired", () => repairs > 0, 2_000);
    stop();
    expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(1));
    const { ports, baseIntact } = await datapath.observe();
    expect({ ports, baseIntact }).toEqual({ ports: want, baseIntact: true });
  });

  test.each([
    ["netdev", "from_guest", 0, "ip daddr 169.254.169.253 accept"],
    ["netdev", "port-7d9a6f1c-0000-4000-8000-000000000001", 0, "accept"],
  ] as const)(
    "a rule of %s %s that is replaced by another is repaired within 2 s, and once",
    async (family, chain, at, rule) => {
      let repairs = 0;
      const stop = datapath.onDrift(() => {
        void datapath.sync(want, "exact").then(({ repairedBase, replaced }) => {
          if (repairedBase || replaced.length > 0) repairs += 1;
        });
      });
      await replaceOurRule(family, chain, at, rule);
      await until("it is repaired", () => repairs > 0, 2_000);
      expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(1));
      // The look after the repair reads what the repair made.
      await must("nft", "add rule netdev mn_metadata model accept");
      await until("that is repaired too", () => repairs > 1, 2_000);
      stop();
      expect(repairs).toBe(2);
    },
  );

  test("ports of a version without our model are adopted, and stay when the tables are made anew", async () => {
    await must("nft", "delete", "chain", "netdev", "mn_metadata", "model");
    const next = openDatapath();
    expect(await next.observe()).toEqual({ ports: want, baseIntact: false });
    expect(await next.sync([], "add-only")).toMatchObject({ failed: [], repairedBase: true });
    expect(await next.observe()).toEqual({ ports: want, baseIntact: true });
    await next.close();
    expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(1));
  });
});
