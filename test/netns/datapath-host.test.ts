import { type ChildProcess, spawn } from "node:child_process";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { linkLocalOf, METADATA_ADDRESS, numberOf } from "../../src/datapath/link-local.ts";
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

/** Answers as Neutron's metadata proxy does in a DHCP namespace; says so when it listens. */
const THEIR_SERVICE = `
require("node:http").createServer((_, response) => response.end("theirs"))
  .listen(80, "169.254.169.254", () => console.log("listening"));`;

const host = new TestHost();
const datapath = openDatapath();
let guest: Guest;
let stranger: Guest;
let theirs: Guest;
let bridge: string;
let proxy: EchoProxy;
let want: readonly Plumbing[];

beforeAll(async () => {
  guest = await host.plug({ tenant: "a", addresses: ["10.0.0.3/24"], mac: "fa:16:3e:00:00:03" });
  stranger = await host.plug({ tenant: "a", addresses: ["10.0.0.4/24"], mac: "fa:16:3e:00:00:04" });
  theirs = await host.plug({ tenant: "a", addresses: ["10.0.0.2/24"], mac: "fa:16:3e:00:00:02" });
  const [tap] = JSON.parse(await must("ip", "-j", "link", "show", guest.interfaceName)) as {
    master: string;
  }[];
  bridge = tap?.master ?? "";
  const { interfaceName, mac } = guest;
  const identities = [{ number: 2, fixedAddress: "10.0.0.3" }];
  const port = { portId: "7d9a6f1c-0000-4000-8000-000000000001", interfaceName, mac, identities };
  want = [{ ...port, ifindex: await guest.ifindex() }];
  await datapath.sync(want, "exact");
  proxy = await EchoProxy.listen();
});

afterAll(async () => {
  await proxy?.close();
  await datapath.sweep();
  await datapath.close();
  await host.close();
});

/** Gives the host an address on the guests' network, for the test. */
async function asRouter(): Promise<void> {
  await must("ip", "addr", "add", "10.0.0.1/24", "dev", bridge);
  onTestFinished(async () => {
    await must("ip", "addr", "del", "10.0.0.1/24", "dev", bridge);
  });
}

/** Sets some of the kernel's switches for as long as the work takes. */
async function having<T>(switches: Readonly<Record<string, number>>, work: () => Promise<T>): Promise<T> {
  const before = await must("sysctl", ...Object.keys(switches));
  await must("sysctl", "-w", ...Object.entries(switches).map(([name, value]) => `${name}=${value}`));
  try {
    return await work();
  } finally {
    await must("sysctl", "-w", ...before.trim().replaceAll(" = ", "=").split("\n"));
  }
}

describe("a host that forwards packets from its own addresses", () => {
  test("forwards none that a guest sends from the metadata address to another guest", async () => {
    await asRouter();
    await stranger.run("ip", "addr", "add", "169.254.169.254/32", "dev", "lo");
    onTestFinished(async () => {
      await stranger.run("ip", "addr", "del", "169.254.169.254/32", "dev", "lo");
    });
    await stranger.run("ip", "route", "add", "169.254.0.2", "via", "10.0.0.1");
    const switches = {
      "net.ipv4.ip_forward": 1,
      "net.ipv4.conf.all.accept_local": 1,
      "net.ipv4.conf.all.rp_filter": 0,
      [`net.ipv4.conf.${bridge}.rp_filter`]: 0,
    };
    const atGuest = await Capture.start(guest.namespace, "eth0", "src host 169.254.169.254 or icmp");
    await having(switches, async () => {
      const words = ["--interface", "169.254.169.254", "--local-port", "9697", "-m", "1"];
      expect(await stranger.fetch("http://169.254.0.2:4444/", ...words)).toContain("curl: (28)");
      expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(2));
    });
    // Through the same queues, so all before it would have arrived.
    expect((await guest.run("ping", "-c", "1", "-W", "10", "10.0.0.1")).code).toBe(0);
    await until("the capture has it", () => atGuest.lines().some((line) => line.includes("ICMP echo reply")));
    const seen = await atGuest.stop();
    expect(seen.filter((line) => line.includes(".4444"))).toEqual([]);
    expect(seen.some((line) => line.includes("169.254.169.254.80 > 10.0.0.3"))).toBe(true);
  });
});

describe("a guest that is not ours", () => {
  let service: ChildProcess;

  beforeAll(async () => {
    await theirs.run("ip", "addr", "add", "169.254.169.254/32", "dev", "eth0");
    const words = ["netns", "exec", theirs.namespace, process.execPath, "-e", THEIR_SERVICE];
    service = spawn("ip", words, { stdio: ["ignore", "pipe", "inherit"] });
    await new Promise((resolve) => service.stdout?.once("data", resolve));
  });

  afterAll(async () => {
    const ended = new Promise((resolve) => service.once("exit", resolve));
    service.kill("SIGKILL");
    await ended;
  });

  test.each([0, 1])("has the metadata service of its network, with bridge-nf at %i", async (value) => {
    // In a namespace of its own the kernel may have no such switch; then there is but one way to be.
    const name = "net.bridge.bridge-nf-call-iptables";
    const isThere = (await run("sysctl", name)).code === 0;
    await having(isThere ? { [name]: value } : {}, async () => {
      expect(await stranger.fetch(METADATA_URL)).toBe("theirs");
      expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(2));
    });
  });

  test("reaches nothing of ours by the host, and the host itself does not either", async () => {
    await asRouter();
    await stranger.run("ip", "route", "replace", "169.254.169.254", "via", "10.0.0.1");
    for (const url of [METADATA_URL, "http://169.254.169.254:9697/"]) {
      expect(await stranger.fetch(url, "-m", "1")).toContain("curl: (28)");
      expect((await run("curl", "-gsS", "-m", "1", url)).stderr).toContain("curl: (28)");
    }
  });
});

describe("an end of our interface", () => {
  test.each(["mn-metadata", "mn-metadata-p"])("%s is taken out of a bridge again within 2 s", async (end) => {
    let repairs = 0;
    const stop = datapath.onDrift(() => {
      void datapath.sync(want, "exact").then(({ repairedBase }) => {
        if (repairedBase) repairs += 1;
      });
    });
    onTestFinished(stop);
    await must("ip", "link", "set", end, "master", bridge);
    await until("it is repaired", () => repairs > 0, 2_000);
    expect(await must("ip", "link", "show", end)).not.toContain("master");
    expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(2));
    expect((await datapath.observe()).baseIntact).toBe(true);
  });
});

describe("an interface of somebody else's by one of our names", () => {
  test.each([
    ["mn-metadata", "bridge"],
    ["mn-metadata-p", "veth", "peer", "name", "other0"],
    ["mn-metadata", "veth", "peer", "name", "other0"],
  ])("%s (%s) is left alone, and told", async (name, ...kind) => {
    await datapath.sweep();
    await must("ip", "link", "add", "name", name, "type", ...kind);
    onTestFinished(async () => {
      await must("ip", "link", "del", name);
    });
    const sentence = `Cannot create the interface "${name}": one of that name is there that is not ours`;
    expect(await datapath.plan(want, "exact")).toContain(`# ${sentence}`);
    await expect(datapath.sync(want, "exact")).rejects.toThrow(sentence);
    expect(await datapath.sweep()).toEqual([]);
    await must("ip", "link", "show", name);
  });

  test.each([
    ["link", "set", "mn-metadata-p", "name", "other0"],
    ["link", "set", "mn-metadata", "name", "other0"],
    ["link", "set", "mn-metadata", "address", "02:00:00:00:00:99"],
  ])("ours is known again after `ip %s %s %s %s %s`", async (...words) => {
    await datapath.sync(want, "exact");
    await must("ip", ...words);
    expect((await datapath.sync(want, "exact")).failed).toEqual([]);
    expect((await run("ip", "link", "show", "other0")).code).not.toBe(0);
    expect((await datapath.observe()).baseIntact).toBe(true);
  });
});

test.each(["mn-metadata", "mn-metadata-p"])(
  "%s is made anew where somebody moved it to another namespace",
  async (end) => {
    await datapath.sync(want, "exact");
    await must("ip", "link", "set", end, "netns", stranger.namespace);
    expect(await datapath.sync(want, "exact")).toMatchObject({ failed: [], repairedBase: true });
    expect((await datapath.observe()).baseIntact).toBe(true);
  },
);

describe("a host on which IPv6 cannot be had", () => {
  const damages: readonly (readonly [what: string, reason: string, damage: string, cure: string])[] = [
    [
      "a rule before ours",
      "this still has no effect: ip -6 route replace",
      "ip -6 rule add pref 1 to fd69:fe00::/32 blackhole",
      "ip -6 rule del pref 1",
    ],
    [
      "the kernel refuses the address",
      'Cannot set "/proc/sys/net/ipv6/conf/mn-metadata/disable_ipv6"',
      "sysctl -w net.ipv6.conf.mn-metadata.disable_ipv6=1 && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys",
      "umount /proc/sys",
    ],
  ];

  test.each(damages)(
    "serves over IPv4, opens and closes ports, tells it: %s",
    async (_, reason, damage, cure) => {
      await datapath.sync(want, "exact");
      await must("sh", "-c", damage);
      let isCured = false;
      onTestFinished(async () => {
        if (!isCured) await must("sh", "-c", cure);
      });
      for (let pass = 0; pass < 3; pass++) {
        expect((await datapath.sync(want, "exact")).failed).toEqual([]);
        expect(await datapath.observe()).toEqual({ ports: want, baseIntact: true });
        expect((await datapath.sync([], "exact")).removed).toEqual(want.map(({ portId }) => portId));
      }
      const [finding, ...others] = await datapath.inspectHostFirewall();
      expect(finding?.sentence).toContain(
        `Guests are served over IPv4 only, and IPv6 is tried again: ${reason}`,
      );
      expect(others).toEqual([]);
      await datapath.sync(want, "exact");
      await proxy.close();
      proxy = await EchoProxy.listen([METADATA_ADDRESS]);
      expect(await guest.fetch(METADATA_URL)).toBe(linkLocalOf(2));

      let isBack = false;
      const stop = datapath.onDrift(() => {
        void datapath.sync(want, "exact").then(({ repairedBase }) => {
          isBack ||= repairedBase;
        });
      });
      await must("sh", "-c", cure);
      isCured = true;
      await until("IPv6 is had again", () => isBack);
      stop();
      expect(await datapath.inspectHostFirewall()).toEqual([]);
      await proxy.close();
      proxy = await EchoProxy.listen();
      expect(numberOf(await guest.fetch(METADATA_URL_V6))).toBe(2);
    },
  );
});
