import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, test } from "vitest";
import { cleanUp, cloudOf, dhcpIps, folder, ownedBy, run } from "../support/dhcp-tool.ts";
import { dhcpPort, type FakeOpenStack, network, subnetOf } from "../support/openstack.ts";

afterAll(cleanUp);

describe.concurrent("remove_dhcp_ports.sh, while others change the ports", { timeout: 600_000 }, () => {
  test("a port that moved between two removals is restored where it was last", async ({ expect }) => {
    const blue = network("blue");
    const subnets = [subnetOf(blue)];
    const cloud = await cloudOf({ networks: [blue], subnets, ports: [dhcpPort(1, blue), dhcpPort(2, blue)] });
    const cwd = folder();
    expect(await run(cwd, cloud, "--yes", "--backup", "b.json")).toMatchObject({ code: 0 });
    const { ports: older } = JSON.parse(readFileSync(join(cwd, "b.json"), "utf8"));
    const moved = { "binding:host_id": "net2", device_id: "d2", fixed_ips: dhcpIps(blue.id, "10.0.9.9") };
    const later = [dhcpPort(1, blue, moved), dhcpPort(2, blue)];
    for (const port of later) cloud.ports.set(port.id, port);
    expect(await run(cwd, cloud, "--yes", "--backup", "b.json")).toMatchObject({ code: 0 });
    const backup = JSON.parse(readFileSync(join(cwd, "b.json"), "utf8"));
    expect(backup.ports).toMatchObject(later.map(({ id }) => ({ id })));
    // As this tool wrote it once, with both.
    writeFileSync(join(cwd, "both.json"), JSON.stringify({ ...backup, ports: [...older, ...backup.ports] }));

    const shown = await run(cwd, cloud, "--restore", "both.json");
    expect(shown.stderr).toContain("2 port(s) would be made again");
    expect(shown.stdout).toMatch(/10\.0\.9\.9 .*net2/);
    const restored = await run(cwd, cloud, "--yes", "--restore", "b.json");
    expect(restored).toMatchObject({ code: 0 });
    expect(restored.stderr).toContain("Done: 2 port(s) restored");
    expect(ownedBy(cloud, "network:dhcp")[0]).toMatchObject(moved);
  });

  test("a port with another's MAC address does not count as restored, unless it is the same", async ({
    expect,
  }) => {
    const blue = network("blue");
    const [one, two, three] = [dhcpPort(1, blue), dhcpPort(2, blue), dhcpPort(3, blue)];
    const elsewhere = { "binding:host_id": "net9" };
    const cloud: FakeOpenStack = await cloudOf({
      networks: [blue],
      subnets: [subnetOf(blue)],
      ports: [{ ...three, ...elsewhere }],
      // While ours are being made, somebody else makes them.
      fault: (method, path) => {
        if (`${method} ${path}` !== "POST /v2.0/ports") return undefined;
        for (const port of [{ ...one, ...elsewhere }, two]) cloud.ports.set(port.id, port);
        return undefined;
      },
    });
    const cwd = folder();
    const backup = { format: "neutron-dhcp-ports/1", ports: [one, two, three] };
    writeFileSync(join(cwd, "b.json"), JSON.stringify(backup));
    const first = await run(cwd, cloud, "--yes", "--restore", "b.json");
    expect(first).toMatchObject({ code: 4 });
    expect(first.stderr).toMatch(/Left alone: 1 port\(s\) .*another host.*: \S+\.$/m);
    expect(first.stderr).toContain(three.id);
    expect(first.stderr).toMatch(/Cannot restore 1 of 2 port\(s\): .*409/);
    expect(first.stderr).toContain(one.id);
    const second = await run(cwd, cloud, "--yes", "--restore", "b.json");
    expect(second).toMatchObject({ code: 0 });
    expect(second.stderr).toContain("Left alone: 2 port(s)");
    expect(cloud.ports.size).toBe(3);
  });
});
