import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { AgentProcess } from "../support/agent.ts";
import { Crowd, instanceOf, memberOf } from "../support/crowd.ts";
import { run } from "../support/guests.ts";
import { MidonetWriter } from "../support/midonet.ts";
import { StandInNova } from "../support/nova.ts";
import { judge, killAndStart, type Round } from "../support/restart.ts";
import { startZookeeper } from "../support/zookeeper.ts";

const HOST_ID = "2f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const SECRET = "restart";
const GUESTS = Array.from({ length: 12 }, (_, n) => n);
const ROUNDS = 5;

describe("an agent that is killed while guests ask", () => {
  const folder = mkdtempSync(join(tmpdir(), "mn-restart-"));
  let zookeeper: Awaited<ReturnType<typeof startZookeeper>>;
  let store: Store;
  let nova: StandInNova;
  let crowd: Crowd;
  let agent: AgentProcess;

  beforeAll(async () => {
    await run("npm", "run", "--silent", "build");
    zookeeper = await startZookeeper();
    const nsdb = `zk://${zookeeper.address}/midonet`;
    store = await openStore(parseNsdbUrl(nsdb));
    nova = await StandInNova.start({ secret: SECRET, instances: GUESTS.map(instanceOf) });
    const midonet = new MidonetWriter(store, HOST_ID);
    await midonet.setKeys({ enabled: true, novaUrl: nova.url, secret: SECRET });
    await midonet.bindAll(GUESTS.map(memberOf));
    crowd = await Crowd.plug(GUESTS.length, GUESTS);
    const hostIdFile = join(folder, "host-id");
    writeFileSync(hostIdFile, `host_uuid=${HOST_ID}\n`);
    agent = new AgentProcess({ nsdb, hostIdFile, runFolder: join(folder, "run") });
    agent.start();
    await agent.serving(GUESTS.length);
  });

  afterAll(async () => {
    await agent?.stop();
    await agent?.command("sweep");
    await crowd?.unplug();
    await nova?.close();
    await store?.close();
    await zookeeper?.cleanUp();
    rmSync(folder, { recursive: true, force: true });
  });

  test("gives no guest another's data, refuses nobody once it listens, and keeps every address", async () => {
    const addresses = async () => Object.fromEntries((await agent.json<Row[]>("ports")).map(pair));
    const before = await addresses();
    crowd.poll(GUESTS, 5);
    const rounds: Round[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      // Each kill comes at another moment of the start: while it still opens, reads the NSDB, or serves.
      if (round % 2 === 0) await agent.serving(GUESTS.length);
      rounds.push(await killAndStart(agent));
    }
    await agent.serving(GUESTS.length);
    for (const n of GUESTS) await crowd.firstAnswer(n);
    const verdict = judge(await crowd.stopPolling(), rounds);

    expect(verdict.foreign).toEqual([]);
    expect(verdict.failedWhileListening).toEqual([]);
    expect(verdict.own).toBeGreaterThan(GUESTS.length * ROUNDS);
    expect(await addresses()).toEqual(before);
    expect(Object.keys(before)).toHaveLength(GUESTS.length);
  });
});

interface Row {
  readonly port: string;
  readonly linkLocal: string;
}

function pair({ port, linkLocal }: Row): [string, string] {
  return [port, linkLocal];
}
