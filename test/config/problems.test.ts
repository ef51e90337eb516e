import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ConfigProblem, type LiveConfig, watchConfig } from "../../src/config/live.ts";
import { DirectoryStore } from "../../src/nsdb/directory-store.ts";
import { DirectoryNsdb, until } from "./directory-nsdb.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const DEFAULT = "/config/templates/default";
const NODE = `/config/nodes/${HOST}`;
const M = "agent.openstack.metadata";
const NO_SUCH = "$" + "{no.such}";
const GOOD = `${M} { enabled = true, nova_metadata_url = "http://good:1", shared_secret = s3cret, hold_time = 5s }`;

let nsdb: DirectoryNsdb;
let store: DirectoryStore;
let live: LiveConfig;
let problems: readonly ConfigProblem[];

beforeEach(async () => {
  nsdb = new DirectoryNsdb();
  store = new DirectoryStore(nsdb.folder);
  await nsdb.put(DEFAULT, GOOD);
  problems = [];
  live = await watchConfig(store, HOST, {
    onConfig: () => undefined,
    onProblems: (now) => {
      problems = now;
    },
  });
});

afterEach(async () => {
  live.close();
  await store.close();
  nsdb.remove();
});

/** The sentences once a layer says something else. */
async function sentences(path: string, text: string): Promise<readonly string[]> {
  problems = [];
  await nsdb.put(path, text);
  await until(() => problems.length > 0, "a problem");
  expect(live.current).toMatchObject({ enabled: true, novaMetadataUrls: ["http://good:1"], holdMs: 5_000 });
  expect(live.current.sharedSecret.reveal()).toBe("s3cret");
  const told = problems.map(({ sentence }) => sentence);
  expect(told.join()).not.toContain("s3cret");
  return told;
}

const repair = (text: string, target = "-t default") => `To repair it: mn-conf set ${target} '${text}'`;

describe("a problem of the configuration", () => {
  it.each([
    ["enabled", "ture", "true"],
    ["nova_metadata_url", '"nova:1"', '"http://good:1"'],
    ["shared_secret", "[s3cret]", '"…"'],
    ["hold_time", "90s", "5s"],
    ["cache_ttl", "20s", "0s"],
    ["imdsv2", "never", '"optional"'],
    ["request_burst", "1", "200"],
    ["nova_ca_file", "relative", '""'],
    ["reserved_ranges", '["10.0.0.0/8"]', '["169.254.123.0/24", "169.254.124.0/30"]'],
  ])("proposes the value in force: %s = %s", async (key, bad, kept) => {
    const [only, ...more] = await sentences(DEFAULT, `${GOOD}, ${M}.${key} = ${bad}`);
    expect(more).toEqual([]);
    expect(only).toContain(repair(`${M}.${key} : ${kept}`));
  });

  it("can be pasted into a shell", async () => {
    const ca = `${M} { nova_ca_file = "/etc/it's.pem", request_burst = 201 }`;
    await nsdb.put(DEFAULT, `${GOOD}, ${ca}`);
    await until(() => live.current.requestBurst === 201, "the file with a quote in its name");
    const [only] = await sentences(DEFAULT, `${GOOD}, ${ca.replace("/etc", "etc")}`);
    expect(only).toContain(repair(`${M}.nova_ca_file : "/etc/it'\\''s.pem"`));
  });

  it("says that no secret was in force where there was none", async () => {
    const [only] = await sentences(DEFAULT, `${GOOD}, ${M}.previous_shared_secret = [x]`);
    expect(only).toContain("still using none");
  });

  it("names the layer where a reference is that refers to nothing", async () => {
    const [only] = await sentences(DEFAULT, `${GOOD}, ${M}.hold_time = ${NO_SUCH}`);
    expect(only).toContain(repair(`${M}.hold_time : 5s`));
    expect(problems[0]).toMatchObject({ key: `${M}.hold_time`, znode: DEFAULT });
    await nsdb.put(DEFAULT, GOOD);
    const [ofHost] = await sentences(NODE, `${M}.hold_time = ${NO_SUCH}`);
    expect(ofHost).toContain(repair(`${M}.hold_time : 5s`, `-h ${HOST}`));
  });

  it("of a schema is repaired in template default", async () => {
    const [only] = await sentences("/config/schemas/agent", `${M}.request_burst = 5`);
    expect(only).toContain(repair(`${M}.request_burst : 200`));
  });

  it("names a value above the keys once, and all that it hides and was in force", async () => {
    const told = await sentences(DEFAULT, "x = 1\nagent.openstack = 5");
    const secret = '"…"';
    expect(told).toEqual([
      `Cannot use agent.openstack of "${DEFAULT}", line 2: its value is 5, but it should be an object; still using what was in force for all keys below it. ${repair(`${M}.enabled : true, ${M}.nova_metadata_url : "http://good:1", ${M}.shared_secret : ${secret}, ${M}.hold_time : 5s`)}`,
    ]);
    expect(problems).toMatchObject([{ key: "agent.openstack", znode: DEFAULT }]);
  });

  it("proposes to unset a value above the keys where nothing is lost by that", async () => {
    const told = await sentences(NODE, "agent.openstack = 5");
    expect(told).toHaveLength(1);
    expect(told[0]).toMatch(new RegExp(`: mn-conf unset -h ${HOST} agent\\.openstack$`));
  });

  it("finds a value that a higher layer partly covers", async () => {
    await nsdb.put(NODE, `${M} { enabled = true, request_burst = 300 }`);
    await until(() => live.current.requestBurst === 300, "the host's own value");
    const told = await sentences(DEFAULT, "agent.openstack = 5");
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`Cannot use agent.openstack of "${DEFAULT}", line 1: its value is 5`);
    expect(told[0]).toContain(`${M}.nova_metadata_url : "http://good:1"`);
    expect(told[0]).not.toContain("enabled :");
  });

  it("finds a value that the same text covers", async () => {
    const told = await sentences(DEFAULT, `agent.openstack = 5\n${GOOD}`);
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`Cannot use agent.openstack of "${DEFAULT}"`);
  });

  it("names a reference above the keys once", async () => {
    const told = await sentences(DEFAULT, `agent.openstack = ${NO_SUCH}`);
    expect(told).toHaveLength(1);
    expect(told[0]).toContain(`Cannot use ${M}.enabled and 14 more keys: ${NO_SUCH} in "${DEFAULT}", line 1`);
    expect(told[0]).toContain("set that key, or write");
    const [toText] = await sentences(DEFAULT, "agent.openstack = $" + "{x}\nx = 5");
    expect(toText).toContain("Cannot use agent.openstack of");
  });

  it.each([
    ['"http://admin:hun/ter2@nova:8775"', '"http://…@nova:8775"'],
    ['"http://admin:hun ter2@nova:8775"', '"http://…@nova:8775"'],
    ['"http://admin:hun\\"ter2@nova:8775"', '"http://…@nova:8775"'],
    ['"http://admin:hun@ter2@nova:8775"', '"http://…@nova:8775"'],
    ['"admin:hunter2@nova:8775"', '"…@nova:8775"'],
    ['["http://admin:hun/ter2@nova", "http://b"]', '[ "http://…@nova", "http://b" ]'],
    ["{ a_password = hunter2, list = [{ secret = ter2 }] }", '"a_password" : "********"'],
  ])("shows no password: %s", async (value, shown) => {
    const [only] = await sentences(
      DEFAULT,
      `${GOOD}, ${M}.nova_metadata_url = null, ${M}.nova_metadata_url = ${value}`,
    );
    expect(only).toContain(shown);
    expect(JSON.stringify(problems)).not.toMatch(/hun|ter2/);
  });
});
