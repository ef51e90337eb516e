import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { AgentStatus } from "../../src/agent/status.ts";
import { AgentProcess } from "../../test/support/agent.ts";
import { instanceOf, memberOf, nowMs } from "../../test/support/crowd.ts";
import { type EnsembleHost, HOST_ID } from "../../test/support/ensemble-host.ts";
import { run } from "../../test/support/guests.ts";
import { MidonetWriter } from "../../test/support/midonet.ts";
import { StandInNova } from "../../test/support/nova.ts";
import { seconds } from "./ensemble-parts.ts";
import type { Figure } from "./parts.ts";

/** Where servers and novas listen, so that a host in another namespace reaches them. */
export const SHARED_ADDRESS = "10.98.0.1";
const OTHER_NAMESPACE = "other-host";
const OTHER_HOST_ID = "5f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const OTHER_TAP = "tapother";
const AT_ONCE = 8;
const URL_KEY = "agent.openstack.metadata.nova_metadata_url";
const SECRET_KEY = "agent.openstack.metadata.shared_secret";

/** Joins this namespace to that of another host. */
export async function buildOtherHost(): Promise<void> {
  const inside = (...words: string[]) => run("ip", "-n", OTHER_NAMESPACE, ...words);
  await run("ip", "netns", "add", OTHER_NAMESPACE);
  await run(
    "ip",
    "link",
    "add",
    "to-other",
    "type",
    "veth",
    "peer",
    "name",
    "to-here",
    "netns",
    OTHER_NAMESPACE,
  );
  await run("ip", "addr", "add", `${SHARED_ADDRESS}/24`, "dev", "to-other");
  await run("ip", "link", "set", "to-other", "up");
  await inside("addr", "add", "10.98.0.2/24", "dev", "to-here");
  await inside("link", "set", "to-here", "up");
  await inside("link", "set", "lo", "up");
  await inside("link", "add", OTHER_TAP, "type", "veth", "peer", "name", "guest");
  await inside("link", "set", OTHER_TAP, "up");
}

/** `mn-conf set`, 500 times, eight at once, into three znodes; two agents follow. */
export async function writers(host: EnsembleHost, quick: boolean): Promise<readonly Figure[]> {
  const total = quick ? 48 : 500;
  const secret = "changed";
  const second = await StandInNova.start({
    secret,
    host: SHARED_ADDRESS,
    instances: host.guests.map(instanceOf),
  });
  const other = await startOther(host, second);
  const targets = [
    { words: ["-t", "default"], path: "/config/templates/default" },
    { words: ["-h", HOST_ID], path: `/config/nodes/${HOST_ID}` },
    { words: ["-h", "local"], path: `/config/nodes/${OTHER_HOST_ID}` },
  ];
  // What is hidden for one host is what the other follows: the first has a URL of its own, the second has not.
  const urls = [
    `${host.nova.url},${second.url}`,
    `${second.url},${host.nova.url}`,
    host.nova.url,
    second.url,
  ];
  const textOf = (i: number): string => {
    const url = i % 3 < 2 ? `, ${URL_KEY} : "${urls[(i % 7) % urls.length]}"` : "";
    const changed = i === Math.floor(total / 2 / 3) * 3 ? `, ${SECRET_KEY} : ${secret}` : "";
    return `parallel.k${i} : ${i}${url}${changed}`;
  };
  const beganMs = nowMs();
  let next = 0;
  const writer = async (): Promise<void> => {
    for (let i = next++; i < total; i = next++) {
      const options = ["--nsdb", host.nsdb, "--host-id-file", other.hostIdFile];
      const target = targets[i % 3]?.words ?? [];
      await run(process.execPath, "dist/config/mn-conf.js", ...options, "set", ...target, textOf(i));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, writer));
  const endedMs = nowMs();
  host.nova.secret = secret;

  const stored = await Promise.all(
    targets.map(async ({ path }) => JSON.parse(await textAt(host, path)) as Stored),
  );
  const kept = stored.reduce((sum, each) => sum + Object.keys(each.parallel).length, 0);
  const wanted = [urlOf(stored[1]), urlOf(stored[0])];
  const rightMs = await follows([() => host.status(), () => other.agent.json("status")], wanted);
  const own = host.crowd.firstAnswer(0).then(() => "its guest has its answer");
  const others = await other.agent.command("explain", OTHER_TAP, "--probe");
  const figures = [
    {
      what: `mn-conf set, ${total} processes, ${AT_ONCE} at once, into three znodes`,
      value: seconds(endedMs - beganMs),
    },
    { what: "… values that are there at the end", value: `${kept} of ${total}`, target: "all" },
    {
      what: "… last write → both agents use the URLs that are stored for their host",
      value: seconds(rightMs - endedMs),
      target: "≤ 2 s",
    },
    { what: "… with the secret that was changed meanwhile, the first agent", value: await own },
    { what: "… and the second", value: /^probe\s+(.*)$/m.exec(others)?.[1] ?? others },
  ];
  await other.agent.stop();
  await other.agent.command("sweep");
  await second.close();
  return figures;
}

interface Stored {
  readonly parallel: Readonly<Record<string, number>>;
  readonly agent: { readonly openstack: { readonly metadata: { readonly nova_metadata_url?: string } } };
}

function urlOf(stored: Stored | undefined): string {
  return stored?.agent.openstack.metadata.nova_metadata_url ?? "";
}

async function textAt({ store }: EnsembleHost, path: string): Promise<string> {
  return (await store.get(path))?.data.toString() ?? "{}";
}

/** Waits until each agent uses the URLs that are wanted of it. @returns When. */
async function follows(
  asks: readonly (() => Promise<AgentStatus>)[],
  wanted: readonly string[],
): Promise<number> {
  const deadline = nowMs() + 20_000;
  for (const [i, ask] of asks.entries()) {
    let used = "";
    while (used !== wanted[i]) {
      if (nowMs() > deadline) throw new Error(`an agent uses ${used}; stored for it is ${wanted[i]}`);
      used = ((await ask()).proxy?.endpoints ?? []).map(({ url }) => url).join();
      await sleep(10);
    }
  }
  return nowMs();
}

async function startOther(host: EnsembleHost, nova: StandInNova) {
  const member = { ...memberOf(host.guests.length + 2), interfaceName: OTHER_TAP };
  await new MidonetWriter(host.store, OTHER_HOST_ID).bindAll([member]);
  for (const each of [host.nova, nova]) each.add(instanceOf(host.guests.length + 2));
  const hostIdFile = join(host.runFolder, "other-host-id");
  writeFileSync(hostIdFile, `host_uuid=${OTHER_HOST_ID}\n`);
  const agent = new AgentProcess({
    nsdb: host.nsdb,
    hostIdFile,
    runFolder: host.runFolder,
    namespace: OTHER_NAMESPACE,
  });
  agent.start();
  await agent.serving(1);
  return { agent, hostIdFile };
}
