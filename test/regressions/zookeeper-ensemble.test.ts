import zookeeperClient, { type Client } from "node-zookeeper-client";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { NsdbError } from "../../src/nsdb/error.ts";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { SessionState, Store } from "../../src/nsdb/store.ts";
import { type Watch, watchZnode } from "../../src/nsdb/watch.ts";
import { startEnsemble, type ZookeeperEnsemble, type ZookeeperServer } from "../support/zookeeper.ts";

const PATHS = Array.from({ length: 20 }, (_, i) => `/n${i}`);
/** What the view may lag behind a write that has been answered, or behind the session's return. */
const LAG = { timeout: 2_000, interval: 5 };

let ensemble: ZookeeperEnsemble;
let root = 0;
let client: Client;
let store: Store;
let writer: Store;
let watches: Watch[];
let view: Map<string, string | undefined>;
let seen: SessionState[];
let absences: number;
let generation: number;

beforeAll(async () => {
  ensemble = await startEnsemble({ tickMs: 200 });
});
afterAll(() => ensemble.cleanUp());

beforeEach(async () => {
  root += 1;
  const url = parseNsdbUrl(`zk://${ensemble.addresses}/ensemble${root}`);
  // Patient: nothing has gone wrong yet, and a machine may be slow.
  const patient = await openStore(url);
  await patient.write(PATHS.map((path) => ({ kind: "create", path, data: Buffer.from("0") })));
  await patient.close();
  writer = await openStore(url, { sessionTimeoutMs: 2_000 });
  const made = vi.spyOn(zookeeperClient, "createClient");
  store = await openStore(url, { sessionTimeoutMs: 2_000 });
  client = made.mock.results.at(-1)?.value as Client; // Its last attempt was the one that connected.
  made.mockRestore();
  [view, seen, absences, generation] = [new Map(), [], 0, 0];
  store.onSession((state) => seen.push(state));
  watches = PATHS.map((path) =>
    watchZnode(store, path, (znode) => {
      if (znode === undefined) absences += 1;
      view.set(path, znode?.data.toString());
    }),
  );
  await follows();
});
afterEach(async () => {
  for (const watch of watches) watch.close();
  for (const server of ensemble.servers) server.cont();
  await Promise.all([store.close(), writer.close()]);
});

function isExact(): void {
  expect([...new Set(view.values())]).toEqual([String(generation)]);
  expect(view.size).toBe(PATHS.length);
}

/** Writes all nodes, and waits until they are seen. */
async function follows(): Promise<void> {
  generation += 1;
  const data = Buffer.from(String(generation));
  for (;;) {
    try {
      const versions = await Promise.all(PATHS.map(async (path) => (await writer.get(path))?.version ?? -1));
      await writer.write(PATHS.map((path, i) => ({ kind: "set", path, data, version: versions[i] ?? -1 })));
      break;
    } catch (error) {
      if (!(error instanceof NsdbError) || !["unreachable", "timeout", "bad-version"].includes(error.code))
        throw error;
    }
  }
  await vi.waitFor(isExact, LAG);
}

/** The server that the watching store is on. */
async function ours(): Promise<ZookeeperServer> {
  const socket = (
    client as Client & { readonly connectionManager: { readonly socket: { readonly remotePort: number } } }
  ).connectionManager.socket;
  const server = ensemble.servers.find((candidate) => candidate.tcpPort === socket.remotePort);
  if (server === undefined) throw new Error("the store is on none of the servers");
  return server;
}

async function restart(...servers: ZookeeperServer[]): Promise<void> {
  for (const server of servers) server.launch();
  for (const server of servers) await server.serving();
}

async function connectedAgain(): Promise<void> {
  await vi.waitFor(() => expect(store.session).toBe("connected"), { timeout: 10_000, interval: 5 });
}

describe("a store on an ensemble of three", () => {
  it("follows through the leader's death", async () => {
    const leader = await ensemble.leader();
    await leader.kill();
    await follows();
    expect(absences).toBe(0);
    await restart(leader);
    await follows();
  }, 60_000);

  it("follows through the death of the server that it is on", async () => {
    const server = await ours();
    await server.kill();
    await follows();
    expect(seen.slice(0, 3)).toEqual(["suspended", "renewed", "connected"]);
    expect(absences).toBe(0);
    await restart(server);
  }, 60_000);

  it("follows when the server that it is on is stopped, and never answers again", async () => {
    const server = await ours();
    server.stop();
    await vi.waitFor(() => expect(seen).toContain("renewed"), { timeout: 10_000 });
    await follows();
    expect(absences).toBe(0);
    server.cont();
    await server.serving();
  }, 60_000);

  it("keeps what it knows while two of three are away, and is exact again when they are back", async () => {
    const down = ensemble.servers.slice(0, 2);
    for (const server of down) await server.kill();
    await vi.waitFor(() => expect(store.session).toBe("suspended"), { timeout: 10_000 });
    isExact();
    await restart(...down);
    await connectedAgain();
    await follows();
    expect(absences).toBe(0);
  }, 60_000);

  it("keeps what it knows while all are away, and sees what changed meanwhile", async () => {
    for (const server of ensemble.servers) await server.kill();
    await vi.waitFor(() => expect(store.session).toBe("suspended"), { timeout: 10_000 });
    isExact();
    await restart(...ensemble.servers);
    await follows();
    await connectedAgain();
    expect(absences).toBe(0);
  }, 60_000);

  it("goes on when its session ends at the server", async () => {
    const thief = zookeeperClient.createClient(ensemble.addresses, {
      sessionTimeout: 2_000,
      sessionId: client.getSessionId(),
      sessionPassword: client.getSessionPassword(),
    } as object); // The types forget that a session can be taken over.
    const taken = new Promise<void>((resolve) => thief.once("connected", resolve));
    thief.connect();
    await taken;
    expect(thief.getSessionId()).toEqual(client.getSessionId());
    thief.close();
    await vi.waitFor(() => expect(seen).toEqual(["suspended", "renewed", "connected"]), { timeout: 10_000 });
    await follows();
    expect(absences).toBe(0);
  }, 60_000);

  it("shares the servers out among clients", async () => {
    const url = parseNsdbUrl(`zk://${ensemble.addresses}/`);
    const stores = await Promise.all(Array.from({ length: 24 }, () => openStore(url)));
    expect(await ensemble.connectedTo()).toHaveLength(3);
    await Promise.all(stores.map((each) => each.close()));
  });
});
