import { once } from "node:events";
import zookeeperClient, { type Client } from "node-zookeeper-client";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { type ConfigProblem, type LiveConfig, watchConfig } from "../../src/config/live.ts";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { startZookeeper } from "../support/zookeeper.ts";
import { until } from "./directory-nsdb.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const DEFAULT = "/config/templates/default";
const EDGE = "/config/templates/edge";
const MAPPINGS = "/config/template-mappings";
const M = "agent.openstack.metadata";
const EVERYBODY = new zookeeperClient.Id("world", "anyone");
const OWNER_ONLY = new zookeeperClient.Id("auth", "");

let server: Awaited<ReturnType<typeof startZookeeper>>;
/** May do everything; the store is nobody in particular. */
let owner: Client;
let store: Store;
let roots = 0;
let live: LiveConfig;
let configs: Config[];
let problems: readonly ConfigProblem[];

beforeAll(async () => {
  server = await startZookeeper();
  owner = zookeeperClient.createClient(server.address);
  owner.addAuthInfo("digest", Buffer.from("owner:s3cret"));
  owner.connect();
  await once(owner, "connected");
});
afterAll(async () => {
  owner.close();
  await server.cleanUp();
});

beforeEach(async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  roots += 1;
  store = await openStore(parseNsdbUrl(`zk://${server.address}/acl${roots}`));
  await put(DEFAULT, `${M} { enabled = true, hold_time = 5s }`);
  await put(MAPPINGS, "{}");
  configs = [];
  live = await watchConfig(store, HOST, {
    onConfig: (config) => configs.push(config),
    onProblems: (now) => {
      problems = now;
    },
  });
  problems = live.problems;
});
afterEach(async () => {
  live.close();
  await store.close();
  vi.useRealTimers();
});

/** As the owner, whom no ACL keeps out. */
async function put(path: string, text: string): Promise<void> {
  const full = `/acl${roots}${path}`;
  const data = Buffer.from(text);
  await asOwner<void>((done) => owner.mkdirp(full, (error) => done(error)));
  await asOwner<void>((done) => owner.setData(full, data, -1, (error) => done(error)));
}

function admit(path: string, whom: typeof EVERYBODY): Promise<void> {
  const acl = [new zookeeperClient.ACL(zookeeperClient.Permission.ALL, whom)];
  return asOwner<void>((done) => owner.setACL(`/acl${roots}${path}`, acl, -1, (error) => done(error)));
}

function asOwner<T>(send: (done: (error: unknown) => void) => void): Promise<T | undefined> {
  return new Promise((resolve, reject) => send((error) => (error ? reject(error) : resolve(undefined))));
}

/** ZooKeeper tells nothing of an ACL, and not even of a change behind one that keeps us out. */
function minutePasses(): void {
  vi.advanceTimersByTime(60_000);
}

it("keeps what a znode said that refuses to be read, says so, and takes it up again", async () => {
  await admit(DEFAULT, OWNER_ONLY);
  await put(DEFAULT, `${M} { enabled = false, hold_time = 6s }`);
  minutePasses();
  await until(() => problems.length === 1, "a problem");
  expect(problems[0]).toMatchObject({
    znode: DEFAULT,
    sentence: `Cannot read "${DEFAULT}" of zk://${server.address}/acl${roots}: its ACL does not admit us; give "user:password@" in the NSDB URL; still using what it said before`,
  });
  expect(live.problems).toBe(problems);
  await put(`/config/nodes/${HOST}`, `${M}.requests_per_second = 7`);
  await until(() => configs.length === 1, "a change of another znode");
  expect(live.current).toMatchObject({ enabled: true, holdMs: 5_000, requestsPerSecond: 7 });

  await admit(DEFAULT, EVERYBODY);
  await until(() => problems.length === 0, "no problem left");
  await until(() => live.current.holdMs === 6_000, "the new value");
  expect(live.current.enabled).toBe(false);
});

it("says that it is well again also where the znode says what it said before", async () => {
  await admit(DEFAULT, OWNER_ONLY);
  await put(DEFAULT, "{}");
  minutePasses();
  await until(() => problems.length === 1, "a problem");
  await put(DEFAULT, `${M} { enabled = true, hold_time = 5s }`);
  await admit(DEFAULT, EVERYBODY);
  await until(() => problems.length === 0, "no problem left");
  expect(configs).toEqual([]);
});

it("stays as it is while a template is mapped that was never read and refuses to be", async () => {
  await put(EDGE, `${M}.hold_time = 2s`);
  await admit(EDGE, OWNER_ONLY);
  await put(MAPPINGS, `{ "${HOST}" : "edge" }`);
  minutePasses();
  await until(() => problems.length === 1, "a problem");
  expect(problems[0]?.sentence).toMatch(
    /does not admit us; .*; until then the configuration stays as it is$/,
  );
  expect(configs).toEqual([]);

  await admit(EDGE, EVERYBODY);
  await until(() => live.current.holdMs === 2_000, "the template's value");
  await until(() => problems.length === 0, "no problem left");

  await admit(EDGE, OWNER_ONLY);
  await put(EDGE, `${M}.hold_time = 3s`);
  minutePasses();
  await until(() => problems.length === 1, "a problem again");
  await put(MAPPINGS, "{}");
  await until(() => problems.length === 0, "no problem left, as the template does not apply any more");
  expect(live.current.holdMs).toBe(5_000);
});

it("refuses to begin where a znode refuses to be read", async () => {
  await admit(DEFAULT, OWNER_ONLY);
  const attempt = watchConfig(store, HOST, { onConfig: () => undefined, onProblems: () => undefined });
  await expect(attempt).rejects.toMatchObject({ code: "denied", path: DEFAULT });
});
