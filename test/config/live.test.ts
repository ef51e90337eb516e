import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { type ConfigProblem, type LiveConfig, readConfig, watchConfig } from "../../src/config/live.ts";
import { DirectoryStore } from "../../src/nsdb/directory-store.ts";
import { DirectoryNsdb, until } from "./directory-nsdb.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const DEFAULT = "/config/templates/default";
const NODE = `/config/nodes/${HOST}`;

let nsdb: DirectoryNsdb;
let store: DirectoryStore;
let live: LiveConfig | undefined;
let configs: Config[];
let problems: (readonly ConfigProblem[])[];

beforeEach(() => {
  nsdb = new DirectoryNsdb();
  store = new DirectoryStore(nsdb.folder);
  configs = [];
  problems = [];
});

afterEach(async () => {
  live?.close();
  live = undefined;
  await store.close();
  nsdb.remove();
});

async function watch(): Promise<LiveConfig> {
  live = await watchConfig(store, HOST, {
    onConfig: (config) => configs.push(config),
    onProblems: (now) => problems.push(now),
  });
  return live;
}

describe("readConfig()", () => {
  it("gives the defaults of an empty NSDB", async () => {
    const config = await readConfig(store, HOST);
    expect(config).toMatchObject({
      enabled: false,
      novaMetadataUrls: ["http://localhost:8775"],
      holdMs: 8000,
      imdsv2: "optional",
      novaCaFile: undefined,
      reservedRanges: ["169.254.123.0/24", "169.254.124.0/30"],
      logLevel: "info",
    });
    expect(config.sharedSecret.isEmpty).toBe(true);
    expect(Object.isFrozen(config)).toBe(true);
  });

  it("lets node hide the mapped template, that `default`, and that the schema", async () => {
    await nsdb.put(
      "/config/schemas/agent",
      'agent.openstack.metadata { enabled = false, nova_metadata_url = "http://localhost:8775", shared_secret = "" }',
    );
    await nsdb.put(DEFAULT, "agent.openstack.metadata { enabled = true, shared_secret = A }");
    await nsdb.put("/config/templates/edge", "agent.openstack.metadata.shared_secret = B");
    await nsdb.put("/config/template-mappings", `{ "${HOST}" : "edge" }`);
    await nsdb.put(NODE, 'agent.openstack.metadata.nova_metadata_url = "http://n:1"');
    const config = await readConfig(store, HOST);
    expect(config.enabled).toBe(true);
    expect(config.novaMetadataUrls).toEqual(["http://n:1"]);
    expect(config.sharedSecret.reveal()).toBe("B");
  });

  it("reads as MidoNet reads: words for booleans, numbers for strings", async () => {
    await nsdb.put(DEFAULT, 'agent.openstack.metadata { enabled = "yes", shared_secret = 1.50 }');
    const config = await readConfig(store, HOST);
    expect(config.enabled).toBe(true);
    expect(config.sharedSecret.reveal()).toBe("1.50");
  });

  it("resolves references after merging", async () => {
    await nsdb.put(
      "/config/schemas/agent",
      'agent.loggers { root = INFO, "mn-metadata" = $' + "{agent.loggers.root} }",
    );
    await nsdb.put(DEFAULT, "agent.loggers.root = DEBUG");
    expect((await readConfig(store, HOST)).logLevel).toBe("debug");
  });

  it("is not harmed by what is broken elsewhere", async () => {
    await nsdb.put("/config/schemas/cluster", "cluster.x = $" + "{no.such.key}");
    await nsdb.put(DEFAULT, "agent.openstack.metadata.enabled = true");
    expect((await readConfig(store, HOST)).enabled).toBe(true);
  });
});

describe("watchConfig()", () => {
  it("follows every layer, a new mapping included", async () => {
    const { current } = await watch();
    expect(current.enabled).toBe(false);
    await nsdb.put(DEFAULT, "agent.openstack.metadata.enabled = true");
    await until(() => configs.at(-1)?.enabled === true, "enabled by the default template");
    await nsdb.put("/config/templates/edge", "agent.openstack.metadata.hold_time = 3s");
    await nsdb.put("/config/template-mappings", `{ "${HOST}" : "edge" }`);
    await until(() => configs.at(-1)?.holdMs === 3000, "hold_time of the mapped template");
    await nsdb.put(NODE, "agent.openstack.metadata.hold_time = 4s");
    await until(() => configs.at(-1)?.holdMs === 4000, "hold_time of the node");
    nsdb.remove(NODE);
    await until(() => configs.at(-1)?.holdMs === 3000, "hold_time of the mapped template again");
    await nsdb.put("/config/template-mappings", "{}");
    await until(() => configs.at(-1)?.holdMs === 8000, "hold_time of the schema");
    expect(live?.current).toBe(configs.at(-1));
    expect(problems).toEqual([]);
  });

  it("keeps the last good value of a key, says so, and takes it back when it is repaired", async () => {
    await nsdb.put(
      DEFAULT,
      'agent.openstack.metadata { hold_time = 5s, nova_metadata_url = "http://good:1" }',
    );
    await watch();
    await nsdb.put(
      DEFAULT,
      'agent.openstack.metadata {\n hold_time = 90s\n nova_metadata_url = "ftp://me:pw@bad"\n requests_per_second = 7\n}',
    );
    await until(() => configs.at(-1)?.requestsPerSecond === 7, "the good key");
    expect(configs.at(-1)).toMatchObject({ holdMs: 5000, novaMetadataUrls: ["http://good:1"] });
    const sentences = problems.at(-1)?.map(({ sentence }) => sentence) ?? [];
    expect(sentences).toHaveLength(2);
    expect(sentences[0]).toBe(
      'Cannot use agent.openstack.metadata.nova_metadata_url of "/config/templates/default", line 3: its value is "ftp://…@bad", but it should be http://host:port, https://host:port or unix:/path; still using "http://good:1". To repair it: mn-conf set -t default \'agent.openstack.metadata.nova_metadata_url : "http://good:1"\'',
    );
    expect(sentences[1]).toContain(
      'its value is "90s", but it should be from 0 to 60000 ms; still using 5000 ms',
    );
    await nsdb.put(DEFAULT, "agent.openstack.metadata.hold_time = 6s");
    await until(() => problems.at(-1)?.length === 0, "no problem left");
    expect(live?.current.holdMs).toBe(6000);
  });

  it("never shows a secret", async () => {
    await nsdb.put(DEFAULT, "agent.openstack.metadata.shared_secret = s3cret");
    await watch();
    await nsdb.put(DEFAULT, "agent.openstack.metadata.shared_secret = [hunter2]");
    await until(() => problems.length > 0, "a problem");
    expect(JSON.stringify(problems)).not.toMatch(/hunter2|s3cret/);
    expect(live?.current.sharedSecret.reveal()).toBe("s3cret");
    expect(JSON.stringify(live?.current)).not.toContain("s3cret");
  });

  it("keeps what a znode said while its text cannot be read", async () => {
    await nsdb.put(DEFAULT, "agent.openstack.metadata.enabled = true");
    await watch();
    await nsdb.put(DEFAULT, "agent.openstack.metadata { enabled = tru");
    await until(() => problems.length > 0, "a problem");
    expect(live?.current.enabled).toBe(true);
    expect(problems.at(-1)?.[0]?.sentence).toMatch(/^Cannot read "\/config\/templates\/default, line 1"/);
    await nsdb.put(DEFAULT, "agent.openstack.metadata { enabled = false }");
    await until(() => problems.at(-1)?.length === 0, "no problem left");
    await until(() => configs.at(-1)?.enabled === false, "the new value");
  });

  it("stays as it is where it is mapped to a template that cannot be read", async () => {
    await nsdb.put(DEFAULT, "agent.openstack.metadata.enabled = true");
    await watch();
    await nsdb.put("/config/templates/broken", "agent.openstack.metadata { enabled = tru");
    await nsdb.put("/config/template-mappings", `{ "${HOST}" : "broken" }`);
    await until(() => problems.length > 0, "a problem");
    expect(live?.current.enabled).toBe(true);
    expect(configs).toEqual([]);
    expect(problems.at(-1)?.[0]?.sentence).toMatch(
      /^Cannot read "\/config\/templates\/broken, line 1".*; until then the configuration stays as it is\. To write it anew:/,
    );
    await nsdb.put("/config/templates/broken", "agent.openstack.metadata.hold_time = 3s");
    await until(() => problems.at(-1)?.length === 0, "no problem left");
    expect(live?.current).toMatchObject({ enabled: true, holdMs: 3_000 });
  });

  it("does not start with nothing to serve for want of a text that cannot be read", async () => {
    await nsdb.put(DEFAULT, "agent.openstack.metadata { enabled = true");
    await expect(watch()).rejects.toThrow(/^Cannot read "\/config\/templates\/default, line 1"/);
  });

  it("starts without a text that cannot be read where the others say that it is to serve", async () => {
    await nsdb.put(DEFAULT, "agent.openstack.metadata.enabled = true");
    await nsdb.put(NODE, "x {");
    const { current } = await watch();
    expect(current.enabled).toBe(true);
    expect(problems.at(-1)?.[0]?.sentence).toContain(`/config/nodes/${HOST}, line 1`);
    await nsdb.put(DEFAULT, "agent.openstack.metadata { enabled = true, hold_time = 2s }");
    await until(() => live?.current.holdMs === 2_000, "the new value");
  });
});
