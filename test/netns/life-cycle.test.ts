import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AgentProcess } from "../support/agent.ts";
import { ask, type Guest, plug, run, tapOf, unplug } from "../support/guests.ts";
import { StandInNova } from "../support/nova.ts";

const HOST_ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const SECRET = "s3cret";
const IPV4 = "/latest/meta-data/local-ipv4";

interface Instance extends Guest {
  readonly portId: string;
  readonly instanceId: string;
}

function guest(name: string, address: string, digit: number): Instance {
  return {
    ...{ name, tenant: "lc", address, mac: `fa:16:3e:00:01:0${digit}`, route: "on-link" },
    portId: `b0000000-0000-4000-8000-00000000000${digit}`,
    instanceId: `2d000000-0000-4000-8000-00000000000${digit}`,
  };
}

const A = guest("lc-a", "10.0.0.3", 1);
const B = guest("lc-b", "10.0.0.4", 2);

interface PortRow {
  readonly port: string;
  readonly interface: string;
  readonly fixedAddress: string;
  readonly linkLocal: string;
}

/** The guest takes another address, as after a new DHCP lease. */
async function renumber(port: Guest, address: string): Promise<void> {
  await run("ip", "-n", port.name, "addr", "flush", "dev", "eth0", "scope", "global");
  await run("ip", "-n", port.name, "addr", "add", `${address}/24`, "dev", "eth0");
  await run("ip", "-n", port.name, "route", "replace", "169.254.169.254", "dev", "eth0");
}

function sorted(rows: readonly PortRow[]): readonly PortRow[] {
  return [...rows].sort((a, b) => a.port.localeCompare(b.port));
}

/** On the directory NSDB and without MidoNet, as `mn-metadata port bind` leaves it. */
describe("what a host does to a served port", () => {
  const folder = mkdtempSync(join(tmpdir(), "mn-life-cycle-"));
  let nova: StandInNova;
  let agent: AgentProcess;

  const bind = (port: Instance, over: Partial<{ tap: string; address: string }> = {}) =>
    agent.command(
      ...["port", "bind", "--port", port.portId, "--interface", over.tap ?? tapOf(port), "--mac", port.mac],
      ...["--instance", port.instanceId, "--project", "p", "--fixed-ip", over.address ?? port.address],
    );
  const setKeys = (more: Readonly<Record<string, unknown>>) => {
    const keys = { enabled: true, nova_metadata_url: nova.url, shared_secret: SECRET, ...more };
    const text = JSON.stringify({ agent: { openstack: { metadata: keys } } });
    writeFileSync(join(folder, "nsdb/config/templates/default"), text);
  };
  const rows = () => agent.json<PortRow[]>("ports");
  const statusOf = async (port: Guest) => (await ask(port, [IPV4]))[0]?.status;

  beforeAll(async () => {
    await run("npm", "run", "--silent", "build");
    nova = await StandInNova.start({
      secret: SECRET,
      instances: [A, B].map(({ instanceId, name, address }) => {
        return { instanceId, projectId: "p", hostname: name, localIpv4: address };
      }),
    });
    mkdirSync(join(folder, "nsdb/config/templates"), { recursive: true });
    setKeys({});
    writeFileSync(join(folder, "host-id"), `host_uuid=${HOST_ID}\n`);
    await run("ip", "link", "add", "br-lc", "type", "bridge");
    await run("ip", "link", "set", "br-lc", "up");
    const options = {
      nsdb: `dir:${folder}/nsdb`,
      hostIdFile: `${folder}/host-id`,
      runFolder: `${folder}/run`,
    };
    agent = new AgentProcess(options);
    agent.start();
    for (const port of [A, B]) {
      await plug(port);
      await bind(port);
    }
    await agent.serving(2);
  });

  afterAll(async () => {
    await agent?.stop();
    await agent?.command("sweep");
    for (const port of [A, B]) await unplug(port).catch(() => undefined);
    await run("ip", "link", "del", "br-lc").catch(() => undefined);
    await nova?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("a tap that is created anew under its name is served again", async () => {
    await unplug(A);
    await agent.serving(1);
    await plug(A);
    await agent.serving(2);
    expect(await statusOf(A)).toBe(200);
    expect(await statusOf(B)).toBe(200);
  });

  test("a tap that goes down releases its address, and up serves it under another", async () => {
    const before = (await rows()).find(({ port }) => port === A.portId)?.linkLocal;
    await run("ip", "link", "set", tapOf(A), "down");
    await agent.serving(1);
    await run("ip", "link", "set", tapOf(A), "up");
    await agent.serving(2);
    expect((await rows()).find(({ port }) => port === A.portId)?.linkLocal).not.toBe(before);
    expect(await statusOf(A)).toBe(200);
  });

  test("a port follows its binding to another tap, and keeps its link-local address", async () => {
    const before = (await rows()).find(({ port }) => port === A.portId)?.linkLocal;
    await run("ip", "link", "set", tapOf(A), "down");
    await run("ip", "link", "set", tapOf(A), "name", "tap-renamed");
    await run("ip", "link", "set", "tap-renamed", "up");
    await agent.serving(1);
    await bind(A, { tap: "tap-renamed" });
    await agent.serving(2);
    expect(await statusOf(A)).toBe(200);
    const after = (await rows()).find(({ port }) => port === A.portId);
    expect(after?.interface).toBe("tap-renamed");
    expect(after?.linkLocal).not.toBe(before);
    await run("ip", "link", "set", "tap-renamed", "down");
    await run("ip", "link", "set", "tap-renamed", "name", tapOf(A));
    await run("ip", "link", "set", tapOf(A), "up");
    await bind(A);
    await agent.serving(2);
  });

  test("a fixed address that changes live is served, and the old one no longer", async () => {
    await bind(A, { address: "10.0.0.33" });
    await expect
      .poll(async () => (await rows()).map(({ fixedAddress }) => fixedAddress).sort())
      .toEqual(["10.0.0.33", "10.0.0.4"]);
    await renumber(A, "10.0.0.33");
    expect(await statusOf(A)).toBe(200);
    await bind(A);
    await renumber(A, A.address);
    await expect.poll(() => statusOf(A)).toBe(200);
  });

  test("a second port that claims a served tap is refused, and told so", async () => {
    const rival = { ...guest("lc-c", "10.0.0.3", 0), mac: A.mac };
    await bind(rival, { tap: tapOf(A) });
    await expect.poll(() => agent.command("status")).toContain("2 served, 1 not served");
    expect(await statusOf(A)).toBe(200);
    expect((await rows()).map(({ port }) => port).sort()).toEqual([A.portId, B.portId]);
    const warnings = agent.log.filter((line) => line.includes(rival.portId) && line.includes('"warn"'));
    expect(warnings).toHaveLength(1);
    for (const state of ["down", "up"]) {
      await run("ip", "link", "set", tapOf(A), state);
      await agent.serving(state === "up" ? 2 : 1);
    }
    expect((await rows()).map(({ port }) => port).sort()).toEqual([A.portId, B.portId]);
    expect(await statusOf(A)).toBe(200);
    await agent.command("port", "unbind", "--port", rival.portId);
    await agent.serving(2);
  });

  test("an address that becomes the host's own is no guest's any more", async () => {
    const before = (await rows()).find(({ port }) => port === A.portId)?.linkLocal ?? "";
    await run("ip", "addr", "add", `${before}/16`, "dev", "br-lc");
    const after = async () => (await rows()).find(({ port }) => port === A.portId)?.linkLocal ?? before;
    await expect.poll(after, { timeout: 5_000 }).not.toBe(before);
    await agent.serving(2);
    expect(await statusOf(A)).toBe(200);
    expect(await agent.command("status")).not.toContain("ATTENTION");
    await run("ip", "addr", "del", `${before}/16`, "dev", "br-lc");
    expect(await statusOf(A)).toBe(200);
  });

  test("is served where the host has some of the few addresses that are left", async () => {
    await agent.stop();
    await agent.command("sweep");
    await run("ip", "addr", "add", "169.254.0.1/30", "dev", "br-lc");
    // All but the first four.
    const reserved = ["169.254.0.5", "169.254.0.6/31"];
    for (let bits = 3; bits < 16; bits++)
      reserved.push(`169.254.${(2 ** bits) >> 8}.${(2 ** bits) & 255}/${32 - bits}`);
    setKeys({ reserved_ranges: reserved });
    agent.start();
    await agent.serving(2);
    expect((await rows()).map(({ linkLocal }) => linkLocal).sort()).toEqual(["169.254.0.2", "169.254.0.4"]);
    expect([await statusOf(A), await statusOf(B)]).toEqual([200, 200]);
    await run("ip", "addr", "del", "169.254.0.1/30", "dev", "br-lc");
    setKeys({});
  });

  test("every address stays where the host cannot read its ruleset just when the agent starts", async () => {
    const before = sorted(await rows());
    await agent.stop();
    const { PATH = "" } = process.env;
    const failOnce = `if [ -e ${folder}/short ]; then rm ${folder}/short; echo "utils.c:38: Memory allocation failure" >&2; exit 3; fi`;
    const stand = `#!/bin/sh\ncase "$*" in *"list table"*) ${failOnce};; esac\nexec env PATH="${PATH}" nft "$@"\n`;
    mkdirSync(join(folder, "bin"));
    writeFileSync(join(folder, "bin/nft"), stand, { mode: 0o755 });
    writeFileSync(join(folder, "short"), "");
    process.env["PATH"] = `${folder}/bin:${PATH}`;
    agent.start();
    process.env["PATH"] = PATH;
    await agent.serving(2);
    expect(existsSync(join(folder, "short"))).toBe(false);
    expect(sorted(await rows())).toEqual(before);
  });

  test("numbers begin elsewhere after each switching off and on: nothing tells which ones still rest", async () => {
    const before = (await rows()).map(({ linkLocal }) => linkLocal);
    setKeys({ enabled: false });
    await expect.poll(() => agent.command("status")).toContain("IDLE");
    setKeys({});
    await agent.serving(2);
    for (const { linkLocal } of await rows()) expect(before).not.toContain(linkLocal);
  });

  test("damage that `explain` sees first is repaired as soon", async () => {
    for (let round = 0; round < 3; round++) {
      await run("nft", "flush", "ruleset");
      await agent.command("explain", tapOf(A)).catch(() => undefined);
      await expect.poll(() => run("nft", "list", "ruleset"), { timeout: 2_000 }).toContain(A.portId);
      expect(await statusOf(A)).toBe(200);
    }
  });

  test("`nft flush ruleset` is noticed and repaired by itself", async () => {
    await run("nft", "flush", "ruleset");
    await expect.poll(() => run("nft", "list", "ruleset"), { timeout: 5_000 }).toContain(A.portId);
    expect(await statusOf(A)).toBe(200);
    expect(await statusOf(B)).toBe(200);
  });

  test("a deleted interface of ours is made again", async () => {
    await run("ip", "link", "del", "mn-metadata");
    await expect
      .poll(() => run("ip", "-br", "addr", "show", "dev", "mn-metadata").catch(() => ""), { timeout: 5_000 })
      .toContain("169.254.169.254");
    await expect.poll(() => statusOf(A), { timeout: 5_000 }).toBe(200);
    await expect
      .poll(() => run("ss", "-Hltn", "sport = :9697"))
      .toMatch(/\[fe80::a9fe:a9fe\]%mn-metadata:9697/);
    expect(await agent.command("status")).toContain("[fe80::a9fe:a9fe%mn-metadata]:9697");
  });

  test("`explain` follows a guest by any of its names, and a probe takes the real path", async () => {
    const [row] = (await rows()).filter(({ port }) => port === B.portId);
    const names = [B.portId, tapOf(B), row?.linkLocal ?? "", `::ffff:${row?.linkLocal}`, B.address];
    for (const name of names) {
      expect(await agent.command("explain", name)).toContain(`port       ${B.portId}`);
    }
    await ask(B, [`${IPV4}?secret=1`]);
    const [explained] = await agent.json<{ verdict: string; lastRequests: { path: string }[] }[]>(
      "explain",
      B.address,
    );
    expect(explained?.verdict).toMatch(/^Served: its last request, GET \/latest\/meta-data\/local-ipv4/);
    expect(explained?.lastRequests[0]?.path).toBe(IPV4);
    const probed = await agent.command("explain", B.address, "--probe");
    expect(probed).toMatch(/probe +GET \/openstack was answered 200/);
    await expect.poll(async () => (await rows()).length).toBe(2);
    await expect(agent.command("explain", "10.9.9.9")).rejects.toThrow(/Cannot find "10.9.9.9"/);
  });

  test("`explain` says why a bound port is not served", async () => {
    await bind({ ...guest("lc-d", "10.0.0.9", 9) });
    await expect
      .poll(() => agent.command("explain", "10.0.0.9").catch((error) => String(error.stdout ?? error)))
      .toMatch(/Not served: interface "tap-lc-d" does not exist/);
    await agent.command("port", "unbind", "--port", guest("lc-d", "10.0.0.9", 9).portId);
  });

  test("`plan` beside a running agent finds nothing to do", async () => {
    await expect.poll(() => agent.command("plan")).toBe("# nothing to do\n");
  });

  test("`sweep` refuses beside a running agent", async () => {
    await expect(agent.command("sweep")).rejects.toThrow(/Cannot sweep while the agent runs/);
  });
});
