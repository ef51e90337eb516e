import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type LiveConfig, readConfig, watchConfig } from "../../src/config/live.ts";
import { DirectoryStore } from "../../src/nsdb/directory-store.ts";
import { DirectoryNsdb } from "./directory-nsdb.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const DEFAULT = "/config/templates/default";
const NODE = `/config/nodes/${HOST}`;
const M = "agent.openstack.metadata";
const NO_SUCH = "$" + "{no.such}";

let nsdb: DirectoryNsdb;
let store: DirectoryStore;
let live: LiveConfig | undefined;

beforeEach(() => {
  nsdb = new DirectoryNsdb();
  store = new DirectoryStore(nsdb.folder);
});

afterEach(async () => {
  live?.close();
  live = undefined;
  await store.close();
  nsdb.remove();
});

async function watch(): Promise<LiveConfig> {
  live = await watchConfig(store, HOST, { onConfig: () => undefined, onProblems: () => undefined });
  return live;
}

describe("watchConfig(), where nothing is in force yet and `enabled` cannot be used,", () => {
  it.each([
    [`${M}.enabled = ture`, `Cannot use ${M}.enabled of "${DEFAULT}", line 1: its value is "ture"`],
    [`${M}.enabled = ${NO_SUCH}`, `Cannot use ${M}.enabled: ${NO_SUCH} in`],
    ["agent.openstack = 5", `Cannot use agent.openstack of "${DEFAULT}", line 1: its value is 5`],
    ["agent = [true]", `Cannot use agent of "${DEFAULT}", line 1: its value is [ true ]`],
    [`agent = ${NO_SUCH}`, `${NO_SUCH} in`],
  ])("does not begin with its default: %s", async (text, sentence) => {
    await nsdb.put(DEFAULT, text);
    const refusal: Error = await watch().then(
      () => expect.unreachable("it began"),
      (error: unknown) => error as Error,
    );
    expect(refusal).toMatchObject({ code: "malformed", path: DEFAULT });
    expect(refusal.message).toContain(sentence);
    expect(refusal.message).toContain("the kernel is left as it is");
    // To turn the whole cloud off is no repair.
    expect(refusal.message).not.toContain("enabled : false");
    expect(refusal.message).not.toContain("unset");
  });

  it("nor does readConfig(), so that no plan is made of it", async () => {
    await nsdb.put(DEFAULT, `${M}.enabled = ture`);
    await expect(readConfig(store, HOST)).rejects.toThrow("Cannot use agent.openstack.metadata.enabled");
  });

  it("begins where a schema's default is to serve", async () => {
    await nsdb.put("/config/schemas/agent", `${M}.enabled = true`);
    await nsdb.put(DEFAULT, `${M}.enabled = ture`);
    const { current, problems } = await watch();
    expect(current.enabled).toBe(true);
    expect(problems[0]?.sentence).toContain("still using true");
  });

  it("begins where a higher layer hides it", async () => {
    await nsdb.put(DEFAULT, `${M}.enabled = ture`);
    await nsdb.put(NODE, `${M}.enabled = false`);
    const { current, problems } = await watch();
    expect(current.enabled).toBe(false);
    expect(problems).toEqual([]);
  });

  it("begins with the defaults of other keys that cannot be used", async () => {
    await nsdb.put(DEFAULT, `${M} { enabled = true, hold_time = null, imdsv2 = never }`);
    const { current, problems } = await watch();
    expect(current).toMatchObject({ enabled: true, holdMs: 8_000, imdsv2: "optional" });
    expect(problems.map(({ key }) => key?.split(".").at(-1))).toEqual(["hold_time", "imdsv2"]);
  });
});
