import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DirectoryNsdb } from "./directory-nsdb.ts";
import { type Ended, mnConf } from "./mn-conf-command.ts";

const M = "agent.openstack.metadata";
const DEFAULT = "/config/templates/default";

let nsdb: DirectoryNsdb;

beforeEach(() => {
  nsdb = new DirectoryNsdb();
});

afterEach(() => nsdb.remove());

function run(args: readonly string[], input = ""): Promise<Ended> {
  return mnConf(["--nsdb", nsdb.url, ...args, "-t", "default"], input);
}

const LISTS = `
  a.servers = [ { name = x, password = hunter2 }, [ { db_secret = hunter2 } ] ]
  b.tokens_secret = [ hunter2, hunter2 ]
  c.my_secret { inner = hunter2, list = [ hunter2 ] }`;

describe("mn-conf, of secrets in lists,", () => {
  beforeEach(() => nsdb.put(DEFAULT, LISTS));

  it.each(["a", "a.servers", "b", "c"])("`get %s` masks what lies below the key", async (key) => {
    const { code, out } = await run(["get", key]);
    expect(code).toBe(0);
    expect(out).toContain("********");
    expect(out).not.toContain("hunter2");
    expect((await run(["get", key, "--show-secrets"])).out).toContain("hunter2");
    expect((await run(["get", key, "--json"])).out).not.toContain("hunter2");
  });

  it("`get` shows a list that was asked for as a secret of its own", async () => {
    expect((await run(["get", "b.tokens_secret"])).out).toContain("hunter2");
  });

  it("`dump` masks them, and `set` refuses what it printed", async () => {
    const { out } = await run(["dump"]);
    expect(out).not.toContain("hunter2");
    for (const key of ["a", "b", "c"]) {
      const { out: part } = await run(["get", key]);
      const ended = await run(["set"], part.replace(`${key} = `, `${key} {`).concat("}"));
      expect(ended, key).toMatchObject({
        code: 4,
        err: expect.stringContaining("the mask that dump prints"),
      });
      expect(ended.err).toContain(`Cannot set ${key}.`);
    }
    expect(await run(["set"], out)).toMatchObject({ code: 4 });
    expect(readFileSync(join(nsdb.folder, DEFAULT), "utf8")).toBe(LISTS);
  });

  it("`doc` masks them in a schema's defaults", async () => {
    await nsdb.put("/config/schemas/agent", LISTS);
    const all = await mnConf(["--nsdb", nsdb.url, "doc"]);
    expect(all.out).toContain("a.servers");
    expect(all.out).not.toContain("hunter2");
  });
});

describe("mn-conf set", () => {
  it.each([
    '"http://admin:hun/ter2@nova:8775"',
    '"http://admin:hun ter2@nova:8775"',
    '["http://admin:hun/ter2@nova:8775"]',
    "[{ password = hun, secret = [ter2] }]",
    "{ password = hunter2 }",
  ])("shows no password of what it refuses or warns of: %s", async (value) => {
    const { err } = await run(["set", `${M}.nova_metadata_url : ${value}`]);
    expect(err).toContain(`${M}.nova_metadata_url`);
    expect(err).not.toMatch(/hun|ter2/);
  });

  it.each([
    [["-t", "default"], "-t default "],
    [["-h", "123e4567-e89b-12d3-a456-426614174000"], "-h 123e4567-e89b-12d3-a456-426614174000 "],
    [["-c", "-t", "it's"], "--clear -t 'it'\\''s' "],
    [[], ""],
  ])("shows the form to type with the target that was given: %j", async (target, shown) => {
    const hostIdFile = join(nsdb.folder, ".host_id");
    await nsdb.put(".host_id", "host_uuid=123e4567-e89b-12d3-a456-426614174000\n");
    const globals = ["--nsdb", nsdb.url, "--host-id-file", hostIdFile];
    const { err } = await mnConf([...globals, "set", ...target, "k : a+b"]);
    expect(err).toContain(
      `mn-conf --nsdb ${nsdb.url} --host-id-file ${hostIdFile} set ${shown}'k : "a+b"'\n`,
    );
  });
});
