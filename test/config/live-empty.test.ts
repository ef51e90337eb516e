import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type ConfigProblem, type LiveConfig, watchConfig } from "../../src/config/live.ts";
import { DirectoryStore } from "../../src/nsdb/directory-store.ts";
import { DirectoryNsdb, until } from "./directory-nsdb.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const DEFAULT = "/config/templates/default";
const EDGE = "/config/templates/edge";
const MAPPINGS = "/config/template-mappings";
const NODE = `/config/nodes/${HOST}`;
const M = "agent.openstack.metadata";

let nsdb: DirectoryNsdb;
let store: DirectoryStore;
let live: LiveConfig;
let changes: number;
let problems: readonly ConfigProblem[];

beforeEach(async () => {
  nsdb = new DirectoryNsdb();
  store = new DirectoryStore(nsdb.folder);
  await nsdb.put(DEFAULT, `${M} { enabled = true, hold_time = 5s }`);
  await nsdb.put(EDGE, `${M}.hold_time = 3s`);
  await nsdb.put(MAPPINGS, `{ "${HOST}" : "edge" }`);
  live = await watch();
});

afterEach(async () => {
  live.close();
  await store.close();
  nsdb.remove();
});

function watch(): Promise<LiveConfig> {
  changes = 0;
  problems = [];
  return watchConfig(store, HOST, {
    onConfig: () => {
      changes += 1;
    },
    onProblems: (now) => {
      problems = now;
    },
  });
}

describe("watchConfig(), of a layer that has been emptied,", () => {
  it.each([
    ["", DEFAULT],
    [" \n", DEFAULT],
    ["", EDGE],
    ["", MAPPINGS],
  ])("keeps what it said, and says so: %j into %s", async (nothing, path) => {
    await nsdb.put(path, nothing);
    await until(() => problems.length > 0, "a problem");
    const sentence = `Cannot read "${path}": it is empty: somebody is writing it, or failed to; still using what it said before. `;
    expect(problems).toMatchObject([{ znode: path, sentence: expect.stringContaining(sentence) }]);
    expect(problems[0]?.sentence).toMatch(/anew.*\(or \{\} if it is to say nothing\)$/);
    expect(live.current).toMatchObject({ enabled: true, holdMs: 3_000 });
    expect(changes).toBe(0);
  });

  it("takes it to be meant where `{}` says so", async () => {
    await nsdb.put(DEFAULT, "");
    await until(() => problems.length > 0, "a problem");
    expect(problems[0]?.sentence).toContain("To write it anew: mn-conf set --clear -t default '…'");
    await nsdb.put(DEFAULT, "{}");
    await until(() => problems.length === 0, "no problem left");
    await until(() => !live.current.enabled, "nothing to serve");
  });

  it("takes up what is written at last", async () => {
    await nsdb.put(EDGE, "");
    await until(() => problems.length > 0, "a problem");
    await nsdb.put(EDGE, `${M}.hold_time = 4s`);
    await until(() => live.current.holdMs === 4_000, "the new value");
    expect(problems).toEqual([]);
  });

  it("takes one that is gone at its word", async () => {
    nsdb.remove(EDGE);
    await until(() => live.current.holdMs === 5_000, "what template default says");
    expect(problems).toEqual([]);
  });

  it("finds nothing wrong with `{}`", async () => {
    live.close();
    await nsdb.put(NODE, "{}");
    live = await watch();
    expect(problems).toEqual([]);
  });

  it("names one that was empty at the start, and begins where the others say to serve", async () => {
    live.close();
    await nsdb.put(NODE, "");
    live = await watch();
    expect(live.current).toMatchObject({ enabled: true, holdMs: 3_000 });
    expect(problems).toMatchObject([{ znode: NODE }]);
    await nsdb.put(NODE, `${M}.hold_time = 2s`);
    await until(() => live.current.holdMs === 2_000, "the host's own value");
    expect(problems).toEqual([]);
  });

  it("does not begin with nothing to serve for want of what was to be in it", async () => {
    await nsdb.put(DEFAULT, "");
    await expect(watch()).rejects.toThrow(`Cannot read "${DEFAULT}": it is empty`);
  });

  it("waits for a template that has never been readable", async () => {
    await nsdb.put("/config/templates/new", "x {");
    await nsdb.put(MAPPINGS, `{ "${HOST}" : "new" }`);
    await until(() => problems.length > 0, "a problem");
    await nsdb.put("/config/templates/new", "");
    await until(() => problems[0]?.reason.includes("it is empty") === true, "the new problem");
    expect(problems[0]?.sentence).toContain("until then the configuration stays as it is");
    expect(live.current).toMatchObject({ enabled: true, holdMs: 3_000 });
  });
});
