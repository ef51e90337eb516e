import { afterAll, beforeAll, expect, test } from "vitest";
import { linkLocalOf } from "../../src/datapath/link-local.ts";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import type { Plumbing } from "../../src/datapath/plumbing.ts";
import { EchoProxy } from "../support/echo-proxy.ts";
import { METADATA_URL, must, run, until } from "../support/namespace.ts";

const datapath = openDatapath();
let proxy: EchoProxy | undefined;

interface Tap {
  readonly name: string;
  readonly address: string;
  readonly mac: string;
  readonly number: number;
}

const A: Tap = { name: "saved-a", address: "10.0.0.3", mac: "fa:16:3e:00:00:03", number: 1 };
const B: Tap = { name: "saved-b", address: "10.0.0.4", mac: "fa:16:3e:00:00:04", number: 2 };

/** With a number of its own choice, as the order in which guests start gives it after a boot. */
async function plug({ name, address, mac, number }: Tap, ifindex: number): Promise<Plumbing> {
  await must("ip", "netns", "add", name);
  const peer = ["peer", "name", "eth0", "netns", name];
  await must("ip", "link", "add", "name", name, "index", String(ifindex), "type", "veth", ...peer);
  await must("ip", "link", "set", name, "up");
  await must("ip", "-n", name, "link", "set", "eth0", "address", mac, "up");
  await must("ip", "-n", name, "addr", "add", `${address}/24`, "dev", "eth0");
  await must("ip", "-n", name, "route", "add", "169.254.169.254", "dev", "eth0");
  const portId = `7d9a6f1c-0000-4000-8000-00000000000${number}`;
  return { portId, interfaceName: name, ifindex, mac, identities: [{ number, fixedAddress: address }] };
}

async function unplug({ name }: Tap): Promise<void> {
  await run("ip", "link", "del", name);
  await run("ip", "netns", "del", name);
}

async function expectServed(): Promise<void> {
  for (const { name, number } of [A, B]) {
    const { stdout } = await run("ip", "netns", "exec", name, "curl", "-gsS", "-m", "5", METADATA_URL);
    expect(stdout).toBe(linkLocalOf(number));
  }
}

beforeAll(async () => {
  const ports = [await plug(A, 7_001), await plug(B, 7_002)];
  await datapath.sync(ports, "exact");
  proxy = await EchoProxy.listen();
});

afterAll(async () => {
  await proxy?.close();
  await datapath.sweep();
  await datapath.close();
  for (const tap of [A, B]) await unplug(tap);
});

test("a ruleset that was saved before a reboot and is loaded after it lets no guest have another's answers", async () => {
  await expectServed();
  const saved = await must("nft", "list", "ruleset");
  for (const tap of [A, B]) await unplug(tap);
  const want = [await plug(B, 7_001), await plug(A, 7_002)];
  await datapath.sync(want, "exact");
  await expectServed();

  let repairs = 0;
  const stop = datapath.onDrift(() => {
    void datapath.sync(want, "exact").then(() => {
      repairs += 1;
    });
  });
  // What an nft script may hold is more than a command line may.
  await must("sh", "-c", 'printf "%s\n" "$1" | nft -f -', "sh", `flush ruleset\n${saved}`);
  await until("it is repaired", () => repairs > 0, 5_000);
  stop();
  await expectServed();
  const next = openDatapath();
  expect(await next.observe()).toMatchObject({ baseIntact: true });
  await next.close();
});

test("the command of docs/datapath.md saves everything but our tables", async () => {
  await must("nft", "add table inet host; add chain inet host c; add rule inet host c counter");
  const [, command = ""] = /^ {4}(nft list tables .*)$/m.exec(await must("cat", "docs/datapath.md")) ?? [];
  const saved = await must("sh", "-c", command.replace(/ >.*$/, ""));
  expect(saved).toContain("table inet host");
  expect(saved).not.toContain("mn_metadata");
  await must("nft", "delete table inet host");
});
