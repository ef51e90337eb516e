import { existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, test, vi } from "vitest";
import {
  cleanUp,
  cloudOf,
  dhcpIps,
  endTimeOf,
  essence,
  folder,
  ownedBy,
  run,
  start,
} from "../support/dhcp-tool.ts";
import { dhcpPort, type FakeOpenStack, network, subnetOf } from "../support/openstack.ts";

afterAll(cleanUp);

function agent(alive: boolean, enabled: boolean) {
  return { id: "a1", agent_type: "DHCP agent", host: "net1", alive, admin_state_up: enabled, binary: "dhcp" };
}

describe.concurrent("remove_dhcp_ports.sh", { timeout: 600_000 }, () => {
  test("a dry run shows the ports and changes nothing", async ({ expect }) => {
    const blue = network("blue");
    const ports = [dhcpPort(1, blue), dhcpPort(2, blue, { device_owner: "compute:nova" })];
    const cloud = await cloudOf({ networks: [blue], ports, agents: [agent(true, true)] });
    const cwd = folder();
    const { code, stdout, stderr } = await run(cwd, cloud);
    expect(code).toBe(0);
    expect(stdout.trim().split("\n")).toHaveLength(2);
    expect(stdout).toMatch(/^PORT +NETWORK +FIXED ADDRESSES +MAC +HOST +STATUS$/m);
    expect(stdout).toMatch(
      new RegExp(`^${ports[0]?.id} +blue +10\\.0\\.0\\.1 +fa:16:3e:00:00:01 +net1`, "m"),
    );
    expect(stderr).toContain("--yes deletes them");
    expect(stderr).toContain("alive on net1");
    expect(cloud.requests.some((line) => line.startsWith("DELETE"))).toBe(false);
    expect(existsSync(join(cwd, "b.json"))).toBe(false);
  });

  test("with --yes it deletes exactly the DHCP ports, and --restore makes them again", async ({ expect }) => {
    const blue = network("blue");
    const odd = { name: "--name; $(touch oops) | x", admin_state_up: false, "binding:profile": { a: "b" } };
    const two = [...dhcpIps(blue.id, "10.0.9.1"), ...dhcpIps(blue.id, "10.0.9.2")];
    const ports = [
      dhcpPort(1, blue, odd),
      dhcpPort(2, blue, { fixed_ips: two, description: "d e" }),
      dhcpPort(3, blue, { device_owner: "network:dhcp_other" }),
      dhcpPort(4, blue, { device_owner: "compute:nova" }),
    ];
    const before = ports.slice(0, 2).map(essence);
    const subnets = [subnetOf(blue)];
    const cloud = await cloudOf({
      networks: [blue],
      subnets,
      ports,
      agents: [agent(false, true), agent(true, false)],
    });
    const cwd = folder();
    const removed = await run(cwd, cloud, "--yes", "--backup", "b.json");
    expect(removed).toMatchObject({ code: 0 });
    expect([...cloud.ports.keys()]).toEqual([ports[2]?.id, ports[3]?.id]);
    expect(statSync(join(cwd, "b.json")).mode & 0o777).toBe(0o600);

    const saved = JSON.parse(readFileSync(join(cwd, "b.json"), "utf8"));
    delete saved.ports[1].project_id;
    writeFileSync(join(cwd, "torn.json"), JSON.stringify(saved));
    const torn = await run(cwd, cloud, "--restore", "torn.json", "--yes");
    expect(torn).toMatchObject({ code: 1 });
    expect(torn.stderr).toMatch(/Cannot read the backup "torn\.json": port \S+ has no "project_id"\.$/m);
    expect(torn.stderr).not.toContain("Traceback");
    expect(cloud.ports.size).toBe(2);

    const shown = await run(cwd, cloud, "--restore", "b.json");
    expect(shown).toMatchObject({ code: 0 });
    expect(cloud.ports.size).toBe(2);
    const restored = await run(cwd, cloud, "--restore", "b.json", "--yes");
    expect(restored).toMatchObject({ code: 0 });
    expect(ownedBy(cloud, "network:dhcp").map(essence)).toMatchObject(
      before.map(({ tenant_id: _tenant, description, ...port }) =>
        description === "" ? port : { ...port, description },
      ),
    );
    expect(existsSync(join(cwd, "oops"))).toBe(false);
    const again = await run(cwd, cloud, "--restore", "b.json", "--yes");
    expect(again).toMatchObject({ code: 0 });
    expect(again.stderr).toContain("Nothing to do");
    expect(cloud.ports.size).toBe(4);
    const text = [removed, shown, restored, again].map((r) => r.stdout + r.stderr).join("");
    expect(text + readFileSync(join(cwd, "b.json"), "utf8")).not.toContain(cloud.password);
  });

  test("--network and --host choose; an unknown or ambiguous name is refused", async ({ expect }) => {
    const nets = [network("blue"), network("red"), network("twin"), network("twin")];
    const [blue = network(""), red = network(""), twin = network("")] = nets;
    const ports = [
      dhcpPort(1, blue),
      dhcpPort(2, red),
      dhcpPort(3, red, { "binding:host_id": "net2" }),
      dhcpPort(4, twin),
    ];
    const cloud = await cloudOf({ networks: nets, ports });
    const cwd = folder();
    const unknown = await run(cwd, cloud, "--network", "nope", "--yes");
    expect(unknown).toMatchObject({ code: 2 });
    expect(unknown.stderr).toContain('"nope": there is none');
    const ambiguous = await run(cwd, cloud, "--network", "twin", "--yes");
    expect(ambiguous).toMatchObject({ code: 2 });
    expect(ambiguous.stderr).toContain(twin.id);
    expect(cloud.ports.size).toBe(4);
    const args = ["--network", "red", "--network", twin.id, "--host", "net2", "--host", "net3", "--yes"];
    expect(await run(cwd, cloud, ...args)).toMatchObject({ code: 0 });
    expect([...cloud.ports.keys()]).toEqual([0, 1, 3].map((i) => ports[i]?.id));
    const none = await run(cwd, cloud, ...args);
    expect(none.code).toBe(0);
    expect(none.stderr).toContain("Nothing to do");
  });

  test("it refuses while a DHCP agent is alive, unless forced", async ({ expect }) => {
    const blue = network("blue");
    const cloud = await cloudOf({
      networks: [blue],
      ports: [dhcpPort(1, blue)],
      agents: [agent(true, true)],
    });
    const cwd = folder();
    const refused = await run(cwd, cloud, "--yes");
    expect(refused.code).toBe(3);
    expect(refused.stderr).toContain("alive on net1");
    expect(cloud.ports.size).toBe(1);
    expect(await run(cwd, cloud, "--yes", "--force")).toMatchObject({ code: 0 });
    expect(cloud.ports.size).toBe(0);
  });

  test("it retries, says what stays, and a second run goes on", async ({ expect }) => {
    const blue = network("blue");
    const ports = [1, 2, 3, 4, 5].map((n) => dhcpPort(n, blue));
    const [fails, conflicts, gone, hangs] = ports.map((port) => `/v2.0/ports/${port.id}`);
    let healed = false;
    const cloud: FakeOpenStack = await cloudOf({
      networks: [blue],
      ports,
      fault: (method, path, n) => {
        if (method !== "DELETE") return undefined;
        if (path === fails && n === 1) return { status: 500 };
        if (path === conflicts && !healed) return { status: 409 };
        if (path === hangs && n === 1) return "hang";
        if (path === gone) {
          cloud.ports.delete(path.slice("/v2.0/ports/".length));
          return { status: 404 };
        }
        return undefined;
      },
    });
    const cwd = folder();
    const { child, ended } = start(cwd, cloud.env, ["--yes", "--backup", "b.json", "--timeout", "3600"]);
    await vi.waitUntil(() => cloud.count("DELETE", hangs ?? "") === 1, { timeout: 300_000 });
    endTimeOf(child);
    const partial = await ended;
    expect(partial.stderr).toContain("no answer within 3600 s");
    expect(partial).toMatchObject({ code: 4 });
    expect([...cloud.ports.keys()]).toEqual([ports[1]?.id]);
    expect(partial.stderr).toContain(`Not deleted:\n${ports[1]?.id}`);
    expect(partial.stderr).toContain("Cannot delete 1 of 5");
    expect(partial.stderr).toContain("409");
    healed = true;
    expect(await run(cwd, cloud, "--yes", "--backup", "b.json")).toMatchObject({ code: 0 });
    expect(cloud.ports.size).toBe(0);
    expect(JSON.parse(readFileSync(join(cwd, "b.json"), "utf8")).ports).toHaveLength(5);
  });

  test("an API that does not answer is given up after --timeout", async ({ expect }) => {
    const cloud = await cloudOf({ networks: [], ports: [], fault: () => "hang" });
    const { code, stderr } = await run(folder(), cloud, "--timeout", "1");
    expect(code).toBe(5);
    expect(stderr).toContain("no answer within 1 s");
  });

  test("an interruption leaves a backup, and the next run finishes", async ({ expect }) => {
    const blue = network("blue");
    const ports = [1, 2, 3].map((n) => dhcpPort(n, blue));
    const second = `/v2.0/ports/${ports[1]?.id}`;
    const cloud = await cloudOf({
      networks: [blue],
      ports,
      fault: (method, path, n) => (method === "DELETE" && path === second && n === 1 ? "hang" : undefined),
    });
    const cwd = folder();
    const { child, ended } = start(cwd, cloud.env, ["--yes", "--backup", "b.json"]);
    await vi.waitUntil(() => cloud.count("DELETE", second) === 1, { timeout: 300_000 });
    child.kill("SIGINT");
    const interrupted = await ended;
    expect(interrupted.code).toBe(130);
    expect(interrupted.stderr).toContain("b.json");
    expect([...cloud.ports.keys()]).toEqual([ports[1]?.id, ports[2]?.id]);
    expect(JSON.parse(readFileSync(join(cwd, "b.json"), "utf8")).ports).toHaveLength(3);
    expect(await run(cwd, cloud, "--yes")).toMatchObject({ code: 0 });
    expect(cloud.ports.size).toBe(0);
  });

  test("hundreds of ports over many pages take few logins", async ({ expect }) => {
    const nets = [network("blue"), network("red")];
    const ports = Array.from({ length: 300 }, (_, i) => dhcpPort(i + 1, nets[i % 2] ?? network("")));
    const cloud = await cloudOf({ networks: nets, ports, pageSize: 50 });
    const result = await run(folder(), cloud, "--yes");
    expect(result).toMatchObject({ code: 0 });
    expect(cloud.ports.size).toBe(0);
    expect(result.stderr).toContain("150/300 deleted");
    expect(cloud.count("POST", "/v3/auth/tokens")).toBeLessThan(20);
  });

  test("no API or wrong credentials end with 5 and never show the password", async ({ expect }) => {
    const blue = network("blue");
    const cloud = await cloudOf({ networks: [blue], ports: [dhcpPort(1, blue)] });
    const cwd = folder();
    const [denied, away] = await Promise.all([
      start(cwd, { ...cloud.env, OS_PASSWORD: "hunter-two" }, ["--yes"]).ended,
      start(cwd, { ...cloud.env, OS_AUTH_URL: "http://u:hunter-two@127.0.0.1:1/v3" }, ["--yes"]).ended,
    ]);
    expect(denied).toMatchObject({ code: 5 });
    expect(denied.stderr).toContain("requires authentication");
    expect(away).toMatchObject({ code: 5 });
    for (const { stdout, stderr } of [denied, away]) expect(stdout + stderr).not.toContain("hunter-two");
    expect(cloud.ports.size).toBe(1);
  });

  test("without a backup nothing is deleted", async ({ expect }) => {
    const blue = network("blue");
    const cloud = await cloudOf({ networks: [blue], ports: [dhcpPort(1, blue)] });
    const cwd = folder();
    writeFileSync(join(cwd, "mine.json"), "{}");
    const foreign = await run(cwd, cloud, "--yes", "--backup", "mine.json");
    expect(foreign.code).toBe(1);
    expect(foreign.stderr).toContain("not a backup of this tool");
    expect(readFileSync(join(cwd, "mine.json"), "utf8")).toBe("{}");
    expect(await run(cwd, cloud, "--yes", "--backup", "no/such/b.json")).toMatchObject({ code: 1 });
    expect(cloud.ports.size).toBe(1);
  });

  test("where only the old neutron client is, it does the same with that", async ({ expect }) => {
    const blue = network("blue");
    const subnets = [subnetOf(blue)];
    const ports = [dhcpPort(1, blue, { name: "a b" }), dhcpPort(2, blue, { device_owner: "compute:nova" })];
    const live = agent(true, true);
    const cloud = await cloudOf({ networks: [blue], subnets, ports, agents: [live] });
    const PATH = folder();
    for (const tool of NEUTRON_HOST) symlinkSync(`/usr/bin/${tool}`, join(PATH, tool));
    const cwd = folder();
    const old = (...args: string[]) => start(cwd, { ...cloud.env, PATH }, args).ended;
    expect(await old("--yes")).toMatchObject({ code: 3 });
    live.alive = false;
    expect(await old("--yes", "--network", "blue", "--backup", "b.json")).toMatchObject({ code: 0 });
    expect([...cloud.ports.keys()]).toEqual([ports[1]?.id]);
    expect(await old("--yes", "--restore", "b.json")).toMatchObject({ code: 0 });
    const { description: _description, ...before } = essence(ports[0] ?? {});
    expect(ownedBy(cloud, "network:dhcp").map(essence)).toMatchObject([before]);
  });

  test("usage errors end with 2 before anything is asked", async ({ expect }) => {
    const cwd = folder();
    for (const args of [["--bogus"], ["--network"], ["--timeout", "x"], ["--restore", "f", "--host", "h"]]) {
      expect(await start(cwd, {}, args).ended, args.join(" ")).toMatchObject({ code: 2 });
    }
    const help = await start(cwd, {}, ["--help"]).ended;
    expect(help).toMatchObject({ code: 0, stderr: "" });
    expect(help.stdout).toContain("Exit status");
  });
});

const NEUTRON_HOST = [
  ..."bash neutron python3 timeout grep sed mktemp rm sleep date tail".split(" "),
  ..."head cat wc mv sort paste".split(" "),
];
