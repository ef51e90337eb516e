import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatapath } from "../../src/datapath/open-datapath.ts";
import { NOTHING, portIdOf } from "../contract/datapath.ts";
import { ifindexOf, must, run } from "../support/namespace.ts";

const datapath = openDatapath();

beforeAll(async () => {
  // Of this run's mount namespace only; nft looks there for names of marks.
  await must("mount", "-t", "tmpfs", "tmpfs", "/etc/iproute2");
  await must("ip", "link", "add", "name", "marked", "type", "veth", "peer", "name", "marked-p");
});

afterAll(async () => {
  await datapath.sweep();
  await datapath.close();
  await run("ip", "link", "del", "marked");
  await must("umount", "/etc/iproute2");
});

test.each(["10.0.0.3", "fd00::3"])(
  "a host that has names for marks, the numbers of interfaces among them, shows its ports: %s",
  async (fixedAddress) => {
    const ifindex = await ifindexOf("marked");
    writeFileSync("/etc/iproute2/rt_marks", `${ifindex} vpn\n${0x7fff_ffff} corp\n`);
    const identities = [{ number: 1, fixedAddress }];
    const mac = "fa:16:3e:00:00:03";
    const want = [{ portId: portIdOf(1), interfaceName: "marked", ifindex, mac, identities }];
    await datapath.sync(want, "exact");
    const next = openDatapath();
    expect(await next.observe()).toEqual({ ports: want, baseIntact: true });
    expect(await next.sync(want, "exact")).toEqual(NOTHING);
    await next.close();
  },
);
