import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { AgentProcess } from "../support/agent.ts";
import { ask, type Guest, plug, run, tapOf, unplug } from "../support/guests.ts";
import { type MidonetPort, MidonetWriter } from "../support/midonet.ts";
import { StandInNova } from "../support/nova.ts";
import { startZookeeper } from "../support/zookeeper.ts";

const HOST_ID = "1f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const SECRET = "pa:ss/w+rd==";

interface PluggedPort extends Guest, MidonetPort {
  readonly userData: Buffer;
}

function guest(name: string, tenant: string, address: string, mac: string, digit: number): PluggedPort {
  const interfaceName = tapOf({ name } as Guest);
  return {
    ...{ name, tenant, address, mac, interfaceName },
    route: tenant === "iso" ? "on-link" : "gateway",
    portId: `a0000000-0000-4000-8000-00000000000${digit}`,
    instanceId: `1d000000-0000-4000-8000-00000000000${digit}`,
    projectId: `project${digit}`,
    fixedAddresses: [address],
    userData: randomBytes(64 * 1024),
  };
}

/** The first two share address and MAC on two bridges; the third has no gateway. */
const A = guest("wp-a", "one", "10.0.0.3", "fa:16:3e:00:00:03", 1);
const B = guest("wp-b", "two", "10.0.0.3", "fa:16:3e:00:00:03", 2);
const C = guest("wp-c", "iso", "10.7.0.9", "fa:16:3e:00:00:09", 3);
const D = guest("wp-d", "one", "10.0.0.5", "fa:16:3e:00:00:05", 4);
const TENANTS = ["one", "two", "iso"];

interface PortRow {
  readonly port: string;
  readonly interface: string;
  readonly fixedAddress: string;
  readonly linkLocal: string;
  readonly instanceId: string;
  readonly projectId: string;
}

describe("the whole path: NSDB in ZooKeeper, guests on taps, nova", () => {
  const folder = mkdtempSync(join(tmpdir(), "mn-whole-path-"));
  let zookeeper: Awaited<ReturnType<typeof startZookeeper>>;
  let store: Store;
  let nova: StandInNova;
  let midonet: MidonetWriter;
  let agent: AgentProcess;

  beforeAll(async () => {
    await run("npm", "run", "--silent", "build");
    zookeeper = await startZookeeper();
    const nsdb = `zk://${zookeeper.address}/midonet`;
    store = await openStore(parseNsdbUrl(nsdb));
    nova = await StandInNova.start({ secret: SECRET, instances: [A, B, C].map(instanceOf) });
    midonet = new MidonetWriter(store, HOST_ID);
    await midonet.setKeys({ enabled: true, novaUrl: nova.url, secret: SECRET });
    for (const port of [A, B, C]) await midonet.bind(port);
    for (const tenant of TENANTS) {
      await run("ip", "link", "add", `br-${tenant}`, "type", "bridge");
      await run("ip", "link", "set", `br-${tenant}`, "up");
    }
    for (const port of [A, B, C]) await plug(port);
    const hostIdFile = join(folder, "host-id");
    writeFileSync(hostIdFile, `#Tue Nov 10 12:00:00 UTC 2020\nhost_uuid=${HOST_ID}\n`);
    agent = new AgentProcess({ nsdb, hostIdFile, runFolder: join(folder, "run") });
    agent.start();
    await agent.serving(3);
  });

  afterAll(async () => {
    await agent?.stop();
    await agent?.command("sweep");
    for (const port of [A, B, C, D]) await unplug(port).catch(() => undefined);
    for (const tenant of TENANTS) await run("ip", "link", "del", `br-${tenant}`).catch(() => undefined);
    await nova?.close();
    await store?.close();
    await zookeeper?.kill();
    rmSync(folder, { recursive: true, force: true });
  });

  test.each([A, B, C])(
    "$name gets its own documents, and user-data of 64 KiB byte for byte",
    async (port) => {
      const [metadata, ipv4, userData] = await ask(port, [
        "/openstack/latest/meta_data.json",
        "/latest/meta-data/local-ipv4",
        "/openstack/latest/user_data",
      ]);
      expect(JSON.parse(metadata?.body ?? "")).toMatchObject({ uuid: port.instanceId });
      expect(ipv4?.body).toBe(port.address);
      const got = Buffer.from(userData?.body ?? "", "latin1");
      expect(createHash("sha256").update(got).digest("hex")).toBe(
        createHash("sha256").update(port.userData).digest("hex"),
      );
    },
  );

  test("a guest is known over IPv6 as well, whatever its own address there", async () => {
    const url = "http://[fe80::a9fe:a9fe%25eth0]/latest/meta-data/local-ipv4";
    const inside = ["nsenter", `--net=/run/netns/${B.name}`, "curl", "-gsS", "-m", "5"] as const;
    // The guest's own duplicate address detection takes a second or two.
    await expect.poll(() => run(...inside, url).catch(String)).toBe(B.address);
    await run("ip", "-n", B.name, "-6", "addr", "flush", "dev", "eth0");
    await run("ip", "-n", B.name, "addr", "add", "fe80::feed/64", "dev", "eth0", "nodad");
    expect(await run(...inside, url)).toBe(B.address);
  });

  test("a guest's forged identity headers change nothing", async () => {
    const forged = {
      "X-Instance-ID": B.instanceId,
      X_Tenant_ID: B.projectId,
      "X-Forwarded-For": "192.0.2.1",
    };
    const [metadata] = await ask(A, ["/openstack/latest/meta_data.json"], forged);
    expect(JSON.parse(metadata?.body ?? "")).toMatchObject({ uuid: A.instanceId });
  });

  test("`ports --json` lists each with its own link-local address", async () => {
    const rows = await agent.json<PortRow[]>("ports");
    expect(new Set(rows.map((row) => row.linkLocal)).size).toBe(3);
    expect(rows).toContainEqual(
      expect.objectContaining({
        port: B.portId,
        interface: B.interfaceName,
        fixedAddress: "10.0.0.3",
        linkLocal: expect.stringMatching(/^169\.254\.\d+\.\d+$/),
        instanceId: B.instanceId,
        projectId: B.projectId,
      }),
    );
  });

  test.each(["SIGKILL", "SIGTERM"] as const)("a restart after %s keeps the addresses", async (signal) => {
    const before = await agent.json<PortRow[]>("ports");
    await agent.stop(signal);
    const left = await agent.json<PortRow[]>("ports");
    expect(left.map((row) => row.linkLocal).sort()).toEqual(before.map((row) => row.linkLocal).sort());
    agent.start();
    await agent.serving(3);
    expect(sorted(await agent.json<PortRow[]>("ports"))).toEqual(sorted(before));
    const [answer] = await ask(A, ["/latest/meta-data/local-ipv4"]);
    expect(answer?.status).toBe(200);
  });

  test("a port bound and plugged live is served; unplugged, it is released", async () => {
    nova.add(instanceOf(D));
    await midonet.bind(D);
    await plug(D);
    await agent.serving(4);
    const [metadata] = await ask(D, ["/openstack/latest/meta_data.json"]);
    expect(JSON.parse(metadata?.body ?? "")).toMatchObject({ uuid: D.instanceId });
    await unplug(D);
    await agent.serving(3);
    await midonet.unbind(D.portId);
  });

  test("a malformed object costs its own port one warn line, and nobody else anything", async () => {
    await midonet.bind(D);
    await midonet.put(`/zoom/0/models/NeutronPort/${D.portId}`, 'id { msb: 1 }\nmac_address: "no"\n');
    await expect.poll(() => agent.log.filter((line) => line.includes("object skipped"))).toHaveLength(1);
    const line = JSON.parse(agent.log.find((text) => text.includes("object skipped")) ?? "");
    expect(line).toMatchObject({ level: "warn", znode: `/zoom/0/models/NeutronPort/${D.portId}` });
    const [answer] = await ask(C, ["/latest/meta-data/local-ipv4"]);
    expect(answer?.status).toBe(200);
    await midonet.unbind(D.portId);
  });

  test("guests are served while ZooKeeper is away, and what changed there is followed once it is back", async () => {
    await zookeeper.kill();
    await expect
      .poll(() => agent.command("status").catch((error) => String(error.stdout)))
      .toContain(`the NSDB cannot be reached (${zookeeper.address}: `);
    for (const port of [A, B, C]) {
      const [answer] = await ask(port, ["/latest/meta-data/local-ipv4"]);
      expect(answer).toMatchObject({ status: 200, body: port.address });
    }
    await zookeeper.start();
    await expect
      .poll(() =>
        midonet.bind(D).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    await plug(D);
    await agent.serving(4);
    const told = agent.log.filter((line) => line.includes("the NSDB is ")).map((line) => JSON.parse(line));
    expect(told.slice(-2)).toEqual([
      expect.objectContaining({ level: "warn", reason: expect.stringContaining(zookeeper.address) }),
      expect.objectContaining({ level: "info", server: zookeeper.address }),
    ]);
    await unplug(D);
    await midonet.unbind(D.portId);
    await agent.serving(3);
  });

  test("a root key with a slip in it takes nothing away, is told, and can be stopped", async () => {
    await agent.stop();
    const before = await run("nft", "list", "ruleset");
    const strayed = new AgentProcess({
      nsdb: `zk://${zookeeper.address}/midonett`,
      hostIdFile: join(folder, "host-id"),
      runFolder: join(folder, "run"),
    });
    strayed.start();
    const said = (name: string) =>
      strayed.command(name).catch((error) => String(error.stdout + error.stderr));
    await expect.poll(() => said("status")).toMatch(/DEGRADED[\s\S]*not known yet[\s\S]*no "\/midonett"/);
    expect(await said("sweep")).toContain("Cannot sweep while the agent runs");
    expect(await run("nft", "list", "ruleset")).toBe(before);
    expect(await strayed.stop()).toBe(0);
    agent.start();
    await agent.serving(3);
  });

  test("`enabled : false` takes everything out of the kernel and says so; true serves again", async () => {
    await midonet.setKeys({ enabled: false, novaUrl: nova.url, secret: SECRET });
    await expect.poll(() => agent.command("status")).toMatch(/IDLE[\s\S]*nothing is plumbed/);
    expect(await run("nft", "list", "ruleset")).toBe("");
    await midonet.setKeys({ enabled: true, novaUrl: nova.url, secret: SECRET });
    await agent.serving(3);
    const [answer] = await ask(A, ["/latest/meta-data/local-ipv4"]);
    expect(answer?.status).toBe(200);
  });
});

function instanceOf(port: PluggedPort) {
  const { instanceId, projectId, name, address, userData } = port;
  return { instanceId, projectId, hostname: name, localIpv4: address, userData };
}

function sorted(rows: readonly PortRow[]): readonly PortRow[] {
  return [...rows].sort((a, b) => a.port.localeCompare(b.port));
}
