import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DirectoryNsdb } from "./directory-nsdb.ts";
import { type Ended, mnConf } from "./mn-conf-command.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const M = "agent.openstack.metadata";

let nsdb: DirectoryNsdb;
let hostIdFile: string;

beforeEach(() => {
  nsdb = new DirectoryNsdb();
  hostIdFile = join(nsdb.folder, ".host_id");
  writeFileSync(hostIdFile, `#Tue Nov 10 12:00:00 UTC 2020\nhost_uuid=${HOST}\n`);
});

afterEach(() => nsdb.remove());

function run(...args: string[]): Promise<Ended> {
  return mnConf([...args, "--nsdb", nsdb.url, "--host-id-file", hostIdFile]);
}

function stored(path: string): string {
  return readFileSync(join(nsdb.folder, path), "utf8");
}

describe("mn-conf get", () => {
  it("prints defaults as MidoNet does, and exits 11 for what is not there", async () => {
    expect(await run("get", `${M}.nova_metadata_url`)).toMatchObject({
      code: 0,
      out: `${M}.nova_metadata_url = "http://localhost:8775"\n`,
    });
    expect(await run("get", `${M}.enabled`)).toMatchObject({ code: 0, out: `${M}.enabled = false\n` });
    expect(await run("get", `${M}.hold_time`, "-j")).toMatchObject({
      code: 0,
      out: `${M}.hold_time = "8s"\n`,
    });
    expect(await run("get", "no.such.key")).toEqual({ code: 11, out: "", err: "" });
  });

  it("shows a secret that was asked for by its key, and masks it below another", async () => {
    await nsdb.put("/config/templates/default", `${M} { shared_secret = hunter2 }, x.db_password = pw`);
    expect((await run("get", `${M}.shared_secret`)).out).toBe(`${M}.shared_secret = hunter2\n`);
    expect((await run("get", M)).out).toContain('"shared_secret"="********"');
    const { out } = await run("dump");
    expect(out).not.toMatch(/hunter2|pw"/);
    expect((await run("dump", "--show-secrets")).out).toContain('"shared_secret"=hunter2');
  });

  it("answers on a host without an id, and makes none", async () => {
    const nowhere = join(nsdb.folder, ".nowhere");
    const ended = await mnConf(["get", `${M}.enabled`, "--nsdb", nsdb.url, "--host-id-file", nowhere]);
    expect(ended).toMatchObject({ code: 0, out: `${M}.enabled = false\n` });
    expect(ended.err).toContain("no host id");
    expect(() => readFileSync(nowhere)).toThrow("ENOENT");
  });
});

describe("mn-conf set", () => {
  it.each([
    ["enabled : true", 0],
    ['enabled : "true"', 4],
    ["enabled : yes", 4],
    ["shared_secret : 12345", 4],
    ['shared_secret : "12345"', 0],
    ["nova_metadata_url : http://h:8775", 4],
    ['nova_metadata_url : "http://h:8775"', 0],
    ["foo : 5", 0],
    ["hold_time : 3x", 4],
    ["hold_time : 3s", 0],
    ["imdsv2 : REQUIRED", 0],
    ["imdsv2 : maybe", 4],
    ["reserved_ranges : 5", 4],
    ["enabled.x : 1", 4],
  ])("exits for %s with %i", async (text, code) => {
    const ended = await run("set", "-t", "default", `${M}.${text}`);
    expect(ended).toMatchObject({ code });
    if (code === 0) expect(stored("/config/templates/default")).toMatch(/\n$/);
    else {
      expect(ended.err).toMatch(/^\[mn-conf\] Failed: /);
      expect(() => stored("/config/templates/default")).toThrow("ENOENT");
    }
  });

  it("shows the form to type where quotes are missing, but no secret", async () => {
    const { err } = await run("set", `${M}.nova_metadata_url`, ":", "http://h:8775");
    expect(err).toContain(` set '${M}.nova_metadata_url : "http://h:8775"'`);
    expect((await run("set", `${M}.shared_secret : a+b`)).err).not.toContain("a+b");
    expect((await run("set", `${M}.shared_secret : 12345`)).err).not.toContain("12345");
    for (const slip of [`${M}.shared_secret "hunter2"`, `${M}.shared_secret : pass,hunter2`]) {
      const ended = await run("set", slip);
      expect(ended.code).not.toBe(0);
      expect(ended.err).not.toContain("hunter2");
    }
  });

  it("says that nothing can be below a value, and what an object is instead of all that it holds", async () => {
    const below = await run("set", `${M}.enabled.x : true`);
    expect(below.err).toContain(`nothing can be below ${M}.enabled, which is a boolean`);
    const secret = await run("set", `${M}.shared_secret.x : "hunter2"`);
    expect(secret).toMatchObject({ code: 4 });
    expect(secret.err).not.toContain("hunter2");
    const object = await run("set", `${M} : 5`);
    expect(object.err).toMatch(
      /should be an object\. Set one of the keys below it; "mn-conf doc" lists them$/m,
    );
  });

  it("takes options before and after the words, and standard input", async () => {
    await run("set", "a:1", "-t", "default");
    await run("set", "--template", "default", "b", ":", "abc#def");
    const args = ["--nsdb", nsdb.url, "--host-id-file", hostIdFile, "set", "-t", "default"];
    await mnConf(args, "c { d = 15s }\n");
    expect(stored("/config/templates/default")).toBe(
      '{\n    "a" : 1,\n    "b" : "abc",\n    "c" : {\n        "d" : "15s"\n    }\n}\n',
    );
    expect(await mnConf(args, "")).toMatchObject({ code: 0, out: "" });
    expect(await run("set", "-c", "-t", "default", "z : 1")).toMatchObject({ code: 0 });
    expect(stored("/config/templates/default")).toBe('{\n    "z" : 1\n}\n');
  });

  it("writes to this host by default, and tells of keys that no schema knows", async () => {
    expect(await run("set", `${M}.foo : 5`)).toMatchObject({
      code: 0,
      out: `Installing config key that was not found in the schema: ${M}.foo\n`,
    });
    expect(stored(`/config/nodes/${HOST}`)).toContain('"foo" : 5');
  });

  it("keeps references and what it does not know of in place", async () => {
    await nsdb.put("/config/templates/default", "a = $" + "{b}\nb = 1 # why\nc { d = 2 }");
    await run("set", "-t", "default", "c.e : 3");
    expect(stored("/config/templates/default")).toBe(
      '{\n    "a" : $' + '{b},\n    "b" : 1,\n    "c" : {\n        "d" : 2,\n        "e" : 3\n    }\n}\n',
    );
  });

  it("honours a stored schema before the bundled one", async () => {
    await nsdb.put(
      "/config/schemas/agent",
      'x { size = "1K", size_type = size, level = INFO, level_type = "enum[info, debug]" }',
    );
    expect(await run("set", "x.size : 5 potatoes")).toMatchObject({ code: 4 });
    expect(await run("set", "x { size : 5 MiB, level : debug }")).toMatchObject({ code: 0, out: "" });
    expect(await run("dump", "-s")).toMatchObject({ code: 0, out: expect.stringContaining('size="1K"') });
  });

  it("stores what the agent would refuse, as MidoNet does, and says so", async () => {
    const ended = await run("set", "-t", "default", `${M}.hold_time : 90s`);
    expect(ended).toMatchObject({ code: 0, err: expect.stringContaining("it should be from 0 to 60000 ms") });
  });

  it("refuses the mask of a secret", async () => {
    expect(await run("set", `${M}.shared_secret : "********"`)).toMatchObject({ code: 4 });
  });

  it("loses nothing when many write at once", async () => {
    const ended = await Promise.all(
      Array.from({ length: 16 }, (_, i) => run("set", "-t", "default", `k${i} : ${i}`)),
    );
    expect(ended.map(({ code }) => code)).toEqual(ended.map(() => 0));
    expect(JSON.parse(stored("/config/templates/default"))).toEqual(
      Object.fromEntries(ended.map((_, i) => [`k${i}`, i])),
    );
  });
});

describe("mn-conf unset", () => {
  it("removes a key, and does not mind one that is not there", async () => {
    await run("set", "-t", "default", `${M}.enabled : true`);
    expect(await run("unset", "-t", "default", `${M}.enabled`)).toMatchObject({ code: 0, out: "" });
    expect(stored("/config/templates/default")).toContain('"metadata" : {}');
    expect(await run("unset", "-t", "default", "no.such")).toMatchObject({ code: 0, out: "" });
  });
});

describe("mn-conf templates and hosts", () => {
  it("maps, lists and clears", async () => {
    await nsdb.put("/config/templates/default", "{}");
    await nsdb.put("/config/templates/edge", `${M}.enabled = true`);
    const other = "223e4567-e89b-12d3-a456-426614174000";
    expect(await run("template-get")).toMatchObject({ code: 0, out: "" });
    expect(await run("template-set", "-t", "edge")).toMatchObject({ code: 0, out: "", err: "" });
    await run("template-set", "-h", other, "-t", "edge");
    expect(stored("/config/template-mappings")).toBe(
      `{\n    "${HOST}" : "edge",\n    "${other}" : "edge"\n}\n`,
    );
    expect((await run("template-get", "-h", "local")).out).toBe(`${HOST}  edge\n`);
    expect((await run("template-get", "-a")).out).toBe(`${HOST}  edge\n${other}  edge\n`);
    expect((await run("template-list")).out).toBe(`default\nedge\n    ${HOST}\n    ${other}\n`);
    expect((await run("get", `${M}.enabled`)).out).toBe(`${M}.enabled = true\n`);
    await run("set", `${M}.hold_time : 2s`);
    expect((await run("hosts")).out).toBe(
      `${HOST} -> custom : template(edge) : template(default) : schema\n${other} -> template(edge) : template(default) : schema\n`,
    );
    await run("template-set", "-h", other, "-t", "default");
    expect((await run("hosts")).out).not.toContain(other);
    await run("template-clear");
    expect((await run("hosts")).out).toContain(`${HOST} -> custom : template(default) : schema\n`);
  });
});

describe("mn-conf import, doc, deploy", () => {
  it("imports what differs from the schema", async () => {
    const file = join(nsdb.folder, ".midolman.conf");
    writeFileSync(
      file,
      `[openstack.metadata]\nenabled = false\nshared_secret = "quo ted"\n[zookeeper]\nsession_timeout = 30000 ; ms\n[midolman]\ndatapath : mydp\n`,
    );
    const { code, out } = await run("import", "-t", "default", "-f", file);
    expect(code).toBe(0);
    expect(out).toMatch(/^Importing legacy configuration:\n\{\n/);
    expect(out).not.toContain("quo ted");
    expect(JSON.parse(stored("/config/templates/default"))).toEqual({
      agent: { midolman: { datapath: "mydp" }, openstack: { metadata: { shared_secret: "quo ted" } } },
      zookeeper: { session_timeout: "30000ms" },
    });
    writeFileSync(file, "[zookeeper]\nsession_timeout = 45s\n");
    await run("import", "-t", "unit", "-f", file);
    expect(JSON.parse(stored("/config/templates/unit"))).toEqual({ zookeeper: { session_timeout: "45s" } });
    writeFileSync(file, "[openstack.metadata]\nenabled = false\n");
    await run("import", "-a", "-t", "all", "-f", file);
    expect(stored("/config/templates/all")).toContain('"enabled" : "false"');
  });

  it("writes nothing that could not be read again, and shows no part of a secret", async () => {
    await nsdb.put("/config/templates/default", `a : "${"x".repeat(3_000_000)}"`);
    const { code, err } = await run("set", "-t", "default", `b : "${"y".repeat(100_000)}"`);
    expect([code, err]).toEqual([0, ""]);
    const file = join(nsdb.folder, "more");
    writeFileSync(file, `[x]\nc = ${"z".repeat(1_500_000)}\n`);
    const refused = await run("import", "-t", "default", "-f", file);
    expect(refused.err).toMatch(/Cannot write "\/config\/templates\/default": it would have \d+ char/);
    expect((await run("get", "-t", "default", "b")).code).toBe(0);
    await run("set", 'my.secret { inner : "hush", list : ["hush"] }');
    for (const words of [["dump"], ["get", "my"]]) expect((await run(...words)).out).not.toContain("hush");
  });

  it("documents one key or all", async () => {
    expect((await run("doc", `${M}.hold_time`)).out).toMatch(
      /^Key: agent.openstack.metadata.hold_time\nType: duration\nDefault value: 8s\nDocumentation: How long /,
    );
    expect(await run("doc", "no.such")).toEqual({ code: 0, out: "", err: "" });
    expect((await run("doc")).out.split("\n----------------------\n\n")).toHaveLength(18);
  });

  it("deploys its schema once", async () => {
    expect((await run("deploy")).out).toBe("Deployed schema\n");
    expect((await run("deploy")).out).toBe("Deployed schema is up to date, nothing to do\n");
    expect((await run("dump-bundled-config")).out).toBe(
      `Found a bundled schema:\n${stored("/config/schemas/mn-metadata")}\n`,
    );
    expect((await run("get", "agent.loggers.mn-metadata")).out).toBe("agent.loggers.mn-metadata = INFO\n");
  });
});

describe("mn-conf", () => {
  it.each([
    [[], 1],
    [["--help"], 0],
    [["set", "--help"], 0],
    [["bogus"], 1],
    [["get"], 1],
    [["get", "a", "b"], 1],
    [["dump", "--bogus"], 1],
    [["dump", "-t", "x", "-s"], 1],
    [["dump", "-H", "-s"], 1],
    [["set", "-h", HOST, "-t", "x", "a:1"], 1],
    [["template-set"], 1],
    [["template-get", "-a", "-h", "local"], 1],
    [["dump", "-h", "no-uuid"], 4],
    [["import", "-f", "/nonexistent/file"], 4],
  ])("exits for %j with %i", async (args, code) => {
    const ended = await run(...args);
    expect(ended.code).toBe(code);
    if (code === 1 && args.length > 0) expect(ended.out).toMatch(/^\[mn-conf\] Error: /);
  });

  it("exits 2 where a host id is needed, and makes one when told to", async () => {
    writeFileSync(hostIdFile, "");
    expect(await run("set", "a : 1")).toMatchObject({
      code: 2,
      err: expect.stringContaining("--create-host-id"),
    });
    hostIdFile = join(nsdb.folder, ".new_host_id");
    expect(await run("set", "--create-host-id", "a : 1")).toMatchObject({ code: 0 });
    const hostId = /host_uuid=(.*)/.exec(readFileSync(hostIdFile, "utf8"))?.[1] ?? "";
    expect(stored(`/config/nodes/${hostId}`)).toContain('"a" : 1');
  });

  it("exits 3 where the NSDB cannot be reached", async () => {
    expect(await mnConf(["--nsdb", "dir:/nonexistent/nsdb", "dump", "-s"])).toMatchObject({ code: 3 });
    const ended = await mnConf(["dump", "-s", "--nsdb", "zk://127.0.0.1:1/midonet"]);
    expect(ended).toMatchObject({ code: 3, err: expect.stringContaining("Could not connect to zookeeper") });
  });

  it("names the znode, the line and the way out where a stored text cannot be read", async () => {
    await nsdb.put("/config/templates/default", "a = {");
    expect(await run("dump")).toMatchObject({
      code: 4,
      err: expect.stringContaining("/config/templates/default"),
    });
    expect(await run("set", "-c", "-t", "default", "a : 1")).toMatchObject({ code: 0 });
  });
});
