import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Answer,
  ask,
  buildHypervisor,
  type Guest,
  plug,
  run,
  start,
  tapOf,
  unplug,
} from "../test/support/guests.ts";
import { StandInNova } from "../test/support/nova.ts";
import { bold, dim, green, red, step, table } from "./show.ts";
import { Wait } from "./wait.ts";

/**
 * The main job, on one machine and without anything else: a hypervisor with two tenants' bridges, guests that
 * overlap on purpose, a stand-in nova that checks signatures, and the real agent between them.
 */
const usage = `npm run demo [-- --keep]

  --keep   leave everything up until Ctrl-C, with hints for playing
`;

interface Cast extends Guest {
  readonly portId: string;
  readonly instanceId: string;
  readonly projectId: string;
  readonly about: string;
}

const BLUE = "b1ue0000000000000000000000000001";
const GREEN = "9reen000000000000000000000000002";
const LONE = "10ne0000000000000000000000000003";

function cast(
  name: string,
  tenant: string,
  projectId: string,
  address: string,
  last: number,
  about: string,
): Cast {
  const digit = String(last);
  return {
    name,
    tenant,
    projectId,
    address,
    about,
    mac: name === "web-green" ? "fa:16:3e:00:00:01" : `fa:16:3e:00:00:0${digit}`,
    route: tenant === "lone" ? "on-link" : "gateway",
    portId: `a0000000-0000-4000-8000-00000000000${digit}`,
    instanceId: `1d000000-0000-4000-8000-00000000000${digit}`,
  };
}

const GUESTS = [
  cast("web-blue", "blue", BLUE, "10.0.0.3", 1, "shares IP and MAC with web-green"),
  cast("web-green", "green", GREEN, "10.0.0.3", 2, "shares IP and MAC with web-blue"),
  cast("db-blue", "blue", BLUE, "10.0.0.4", 4, "its neighbour on the same bridge"),
  cast("lone", "lone", LONE, "10.9.9.9", 5, "isolated network, no gateway"),
];
const NEWCOMER = cast("new-green", "green", GREEN, "10.0.0.7", 7, "plugged in while the agent runs");

const SECRET = "the-demo-secret";
const PATHS = ["/openstack/latest/meta_data.json", "/latest/meta-data/local-ipv4", "/latest/user-data"];

/** Starts again in namespaces of its own: nothing that happens there can reach or change the machine. */
function enterOwnNamespace(): void {
  const isRoot = process.getuid?.() === 0;
  const rootless = isRoot ? [] : ["--user", "--map-root-user"];
  const args = [
    ...rootless,
    "--net",
    "--mount",
    "--propagation",
    "private",
    "--",
    process.execPath,
    ...process.execArgv,
    ...process.argv.slice(1),
  ];
  const env = {
    ...process.env,
    MN_METADATA_DEMO: isRoot ? "root" : "rootless",
    PATH: `${process.env["PATH"]}:/usr/sbin:/sbin`,
  };
  const child = spawn("unshare", args, { stdio: "inherit", env });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => undefined);
  child.on("error", (error) => {
    process.stderr.write(`demo: cannot make namespaces (${error.message}): install util-linux\n`);
    process.exit(1);
  });
  child.on("exit", (code) => {
    if (code !== 0 && !isRoot)
      process.stderr.write("demo: if this kernel forbids user namespaces, run as root\n");
    process.exit(code ?? 1);
  });
}

async function play(keep: boolean): Promise<void> {
  process.stdout.write(
    `\n${bold("mn-metadata, the main job on one machine")}  ${dim(`(as ${process.env["MN_METADATA_DEMO"]}, in namespaces of its own; nothing leaves them)`)}\n\n`,
  );
  const folder = mkdtempSync(join(tmpdir(), "mn-metadata-demo-"));
  const interrupted = new Promise<"interrupted">((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => resolve("interrupted"));
  });
  const stop: (() => Promise<unknown> | unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
  let exitCode = 1;
  try {
    const outcome = await Promise.race([perform(folder, stop), interrupted]);
    exitCode = outcome === "good" ? 0 : outcome === "interrupted" ? 130 : 1;
    if (keep && outcome !== "interrupted") {
      hints(folder);
      await interrupted;
    }
  } catch (error) {
    process.stderr.write(
      `${red("demo failed")}: ${error instanceof Error ? error.message : String(error)}\n`,
    );
  }
  for (const release of stop.reverse()) await release();
  process.exit(exitCode);
}

async function perform(folder: string, stop: (() => unknown)[]): Promise<"good" | "bad"> {
  step("hypervisor: a network namespace with one bridge for each tenant (blue, green, lone)");
  await buildHypervisor(["blue", "green", "lone"]);

  const nova = await StandInNova.start({ secret: SECRET, instances: GUESTS.map(instanceOf) });
  stop.push(() => nova.close());
  step(`nova: a stand-in at ${nova.url} that refuses every request without a right signature`);

  writeNsdb(folder, nova.url);
  step(`NSDB: MidoNet's tree in a folder; mn-conf keys and ${GUESTS.length} ports bound to this host`);
  for (const guest of GUESTS) await bind(folder, guest);

  for (const guest of GUESTS) await plug(guest);
  step(`guests: ${GUESTS.map(({ name }) => name).join(", ")}`);

  const agent = startAgent(folder);
  stop.push(agent.stop);
  await agent.serving(GUESTS.length);
  step("agent: up, in sync, kernel programmed");

  const rows: Row[] = [];
  for (const guest of GUESTS) rows.push(await visit(folder, guest));
  rows.push(await liar(folder, GUESTS[2] as Cast, GUESTS[0] as Cast));

  const [, , leaver] = GUESTS as [Cast, Cast, Cast, Cast];
  await unplug(leaver);
  await agent.serving(GUESTS.length - 1);
  step(`${leaver.name} was unplugged: its link-local address is released`);

  nova.add(instanceOf(NEWCOMER));
  await bind(folder, NEWCOMER);
  await plug(NEWCOMER);
  await agent.serving(GUESTS.length);
  step(`${NEWCOMER.name} was plugged in while the agent ran`);
  rows.push(await visit(folder, NEWCOMER));

  const good = rows.every((row) => row.good);
  process.stdout.write(
    `\n${table(["guest", "its address", "link-local", "instance it was told", "ms", "verdict"], rows)}\n`,
  );
  explain(good, nova.requests.length);
  return good ? "good" : "bad";
}

interface Row {
  readonly cells: readonly string[];
  readonly good: boolean;
}

function instanceOf(guest: Cast) {
  const { instanceId, projectId, name, address } = guest;
  return {
    instanceId,
    projectId,
    hostname: name,
    localIpv4: address,
    userData: Buffer.from(`#!/bin/sh\necho I am ${name}\n`),
  };
}

/** What one guest got, and whether it is all its own. */
async function visit(folder: string, guest: Cast, headers: Record<string, string> = {}): Promise<Row> {
  const answers = await askPatiently(guest, headers);
  const [metadata, ipv4, userData] = answers as [Answer, Answer, Answer];
  const told = metadata.status === 200 ? (JSON.parse(metadata.body) as { uuid: string }).uuid : "-";
  const failed = answers.find(({ status }) => status !== 200);
  const right =
    told === guest.instanceId &&
    ipv4.body.trim() === guest.address &&
    userData.body.includes(`I am ${guest.name}\n`);
  const verdict =
    failed !== undefined
      ? `no: ${failed.error ?? `status ${failed.status}`}`
      : right
        ? "its own"
        : "NOT ITS OWN";
  const ms = Math.min(...answers.map((answer) => answer.ms)).toFixed(1);
  const cells = [
    guest.name,
    `${guest.address} ${guest.mac}`,
    await linkLocalOf(folder, guest),
    told,
    ms,
    verdict,
  ];
  return { cells, good: failed === undefined && right };
}

/** As cloud-init does: the agent's 503 means "ask again", where nova or the host is slow. */
async function askPatiently(guest: Cast, headers: Record<string, string>): Promise<readonly Answer[]> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const answers = await ask(guest, PATHS, headers, 30_000);
    if (performance.now() > deadline || answers.every(({ status }) => status !== 503)) return answers;
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

/** A guest that claims to be another, in every header that it could think of. */
async function liar(folder: string, guest: Cast, victim: Cast): Promise<Row> {
  const row = await visit(folder, guest, {
    "X-Instance-ID": victim.instanceId,
    X_Instance_ID: victim.instanceId,
    "X-Tenant-ID": victim.projectId,
    "X-Forwarded-For": victim.address,
    Connection: "close, X-Instance-ID-Signature",
  });
  const [, ...rest] = row.cells;
  return { ...row, cells: [`${guest.name}, lying`, ...rest] };
}

async function linkLocalOf(folder: string, guest: Cast): Promise<string> {
  const rows = JSON.parse(await agentCommand(folder, "ports", "--json")) as {
    port: string;
    linkLocal: string;
  }[];
  return rows.find(({ port }) => port === guest.portId)?.linkLocal ?? "-";
}

const HOST_ID = "c0ffee00-0000-4000-8000-00000000beef";

/** The agent's keys and this host's identity, as an operator's `mn-conf set` and MidoNet would leave them. */
function writeNsdb(folder: string, novaUrl: string): void {
  mkdirSync(join(folder, "nsdb/config/templates"), { recursive: true });
  writeFileSync(join(folder, "host-id"), `host_uuid=${HOST_ID}\n`);
  const keys = { enabled: true, nova_metadata_url: novaUrl, shared_secret: SECRET };
  writeFileSync(
    join(folder, "nsdb/config/templates/default"),
    `${JSON.stringify({ agent: { openstack: { metadata: keys } } }, null, 4)}\n`,
  );
}

async function bind(folder: string, guest: Cast): Promise<void> {
  await agentCommand(
    folder,
    ...["port", "bind", "--port", guest.portId, "--interface", tapOf(guest), "--instance", guest.instanceId],
    ...["--project", guest.projectId, "--fixed-ip", guest.address, "--mac", guest.mac],
  );
}

function agentArguments(folder: string): readonly string[] {
  const options = [
    "--nsdb",
    `dir:${join(folder, "nsdb")}`,
    "--host-id-file",
    join(folder, "host-id"),
    "--run-folder",
    join(folder, "run"),
  ];
  return ["dist/agent/main.js", ...options];
}

function agentCommand(folder: string, ...args: readonly string[]): Promise<string> {
  return run(process.execPath, ...agentArguments(folder), ...args);
}

function startAgent(folder: string) {
  const log: string[] = [];
  const child = start((line) => log.push(line), process.execPath, ...agentArguments(folder), "agent");
  const ended = new Promise<void>((resolve) => child.on("exit", () => resolve()));
  return {
    /** Waits until the agent serves that many addresses and is in sync, for as long as it gets on. */
    async serving(count: number): Promise<void> {
      const wait = new Wait();
      let seen: string | undefined;
      while (child.exitCode === null && wait.goesOn(seen)) {
        const began = performance.now();
        const status = await agentCommand(folder, "status", "--json").then(JSON.parse, () => undefined);
        if (status?.inSync === true && status.ports.served === count) return;
        if (status !== undefined)
          seen = `it is ${status.state}, ${status.inSync ? "in sync" : "not in sync yet"}, and serves ${status.ports.served}`;
        // Each question is a process: on a slow machine they must not take the agent's time.
        await new Promise((resolve) => setTimeout(resolve, Math.max(50, performance.now() - began)));
      }
      throw new Error(
        `the agent should serve ${count} addresses; ${child.exitCode === null ? (seen ?? "it did not answer") : "it ended"}; its log:\n${log.slice(-20).join("\n")}`,
      );
    },
    async stop(): Promise<void> {
      child.kill("SIGTERM");
      await ended;
    },
  };
}

function explain(good: boolean, requests: number): void {
  process.stdout.write(`
${good ? green("Every guest got its own metadata, and nobody else's.") : red("A guest did not get its own metadata.")} nova answered ${requests} signed requests.

What happened: each guest asked http://169.254.169.254/ as any image does. Its frame was caught on its own tap,
by an nftables hook that runs before the bridge sees it: the kernel knows the interface, so no address or header
of the guest's matters. The source became a link-local address that only this port has on this host, and the
agent at 169.254.169.254:9697 mapped it back to the port, signed the request (HMAC-SHA256 of the instance id)
and passed nova's answer on, byte for byte. web-blue and web-green have the same IP and the same MAC; "lone"
has no gateway, so the kernel answered its ARP; the liar's headers were taken away before ours went on.
Nothing was remembered but in the kernel: kill the agent, start it again, and it adopts what it finds there.

`);
}

function hints(folder: string): void {
  const enter = `nsenter -t ${process.pid} --net --mount`;
  process.stdout.write(`${bold("Everything is still up; Ctrl-C ends it.")} In another terminal, as ${process.env["MN_METADATA_DEMO"] === "root" ? "root" : "the same user (add -U --preserve-credentials to nsenter)"}, in this folder:

  ${enter} ip netns exec web-blue curl http://169.254.169.254/openstack/latest/meta_data.json
  ${enter} nft list table netdev mn_metadata
  ${enter} node ${agentArguments(folder).join(" ")} status
  ${enter} node ${agentArguments(folder).join(" ")} explain web-green

`);
}

if (process.argv.includes("--help")) process.stdout.write(usage);
else if (process.env["MN_METADATA_DEMO"] === undefined) enterOwnNamespace();
else await play(process.argv.includes("--keep"));
