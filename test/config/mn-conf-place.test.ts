import { chmodSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startZookeeper } from "../support/zookeeper.ts";
import { DirectoryNsdb } from "./directory-nsdb.ts";
import { mnConf } from "./mn-conf-command.ts";

const M = "agent.openstack.metadata";

describe("mn-conf, where the root key does not exist,", () => {
  let server: Awaited<ReturnType<typeof startZookeeper>>;
  beforeAll(async () => {
    server = await startZookeeper();
  });
  afterAll(() => server.cleanUp());

  it("answers with a note, and says so when it makes one", async () => {
    const url = `zk://${server.address}/midonett`;
    const asked = await mnConf(["--nsdb", url, "get", `${M}.enabled`]);
    expect(asked).toMatchObject({ code: 0, out: `${M}.enabled = false\n` });
    expect(asked.err).toContain(`Note: zookeeper at '${url}' (from --nsdb) has no "/midonett"`);
    expect(asked.err).toContain("no host id");

    const set = await mnConf(["--nsdb", url, "set", "-t", "default", `${M}.enabled : true`]);
    expect(set).toMatchObject({ code: 0, out: "" });
    expect(set.err).toMatch(/^\[mn-conf\] Note: .* had no "\/midonett" until now.*it has been made.*--nsdb/);

    const again = await mnConf(["--nsdb", url, "get", "-t", "default", `${M}.enabled`]);
    expect(again).toEqual({ code: 0, out: `${M}.enabled = true\n`, err: "" });
  });

  it("has nothing to say where there is no root key at all", async () => {
    const url = `zk://${server.address}/`;
    expect(await mnConf(["--nsdb", url, "dump", "-s"])).toMatchObject({ code: 0, err: "" });
  });
});

describe("mn-conf, where the host id cannot be read,", () => {
  let nsdb: DirectoryNsdb;
  let hostIdFile: string;
  beforeEach(async () => {
    nsdb = new DirectoryNsdb();
    hostIdFile = join(nsdb.folder, ".host_id");
    // A folder refuses to be read as a file even for root, whom no mode keeps out.
    await nsdb.put(".host_id/x", "");
    chmodSync(hostIdFile, 0o000);
  });
  afterEach(() => nsdb.remove());

  it("does not answer for another host", async () => {
    const globals = ["--nsdb", nsdb.url, "--host-id-file", hostIdFile];
    for (const words of [["get", `${M}.enabled`], ["dump"]]) {
      const ended = await mnConf([...globals, ...words]);
      expect(ended.code).not.toBe(0);
      expect(ended.out).toBe("");
      expect(ended.err).toContain(`Cannot read the host id file "${hostIdFile}"`);
    }
    expect(await mnConf([...globals, "get", "-s", `${M}.enabled`])).toMatchObject({ code: 0 });
  });
});
