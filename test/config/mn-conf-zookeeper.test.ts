import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Config } from "../../src/config/config.ts";
import { watchConfig } from "../../src/config/live.ts";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { startZookeeper } from "../support/zookeeper.ts";
import { until } from "./directory-nsdb.ts";
import { mnConf } from "./mn-conf-command.ts";

const HOST = "123e4567-e89b-12d3-a456-426614174000";
const M = "agent.openstack.metadata";

let server: Awaited<ReturnType<typeof startZookeeper>>;
let store: Store;
let url: string;

beforeAll(async () => {
  server = await startZookeeper();
  url = `zk://${server.address}/midonet`;
  store = await openStore(parseNsdbUrl(url));
});

afterAll(async () => {
  await store?.close();
  await server?.cleanUp();
});

describe("mn-conf on ZooKeeper", () => {
  it("makes the znodes that are missing, in MidoNet's bytes", async () => {
    expect(await mnConf(["--nsdb", url, "get", `${M}.enabled`])).toMatchObject({
      code: 0,
      out: `${M}.enabled = false\n`,
    });
    expect(await mnConf(["--nsdb", url, "set", "-t", "default", `${M}.enabled : true`])).toMatchObject({
      code: 0,
    });
    expect((await store.get("/config/templates/default"))?.data.toString()).toBe(
      '{\n    "agent" : {\n        "openstack" : {\n            "metadata" : {\n                "enabled" : true\n            }\n        }\n    }\n}\n',
    );
  });

  it("finds ZooKeeper as MidoNet does, by the environment", async () => {
    const ended = await mnConf(["get", "-t", "default", `${M}.enabled`], "", {
      MIDO_ZOOKEEPER_HOSTS: server.address,
    });
    expect(ended).toMatchObject({ code: 0, out: `${M}.enabled = true\n` });
  });

  it("loses nothing when many write at once", async () => {
    const ended = await Promise.all(
      Array.from({ length: 24 }, (_, i) => mnConf(["--nsdb", url, "set", "-t", "many", `k${i} : ${i}`])),
    );
    expect(ended.map(({ code }) => code)).toEqual(ended.map(() => 0));
    const many = JSON.parse((await store.get("/config/templates/many"))?.data.toString() ?? "");
    expect(many).toEqual(Object.fromEntries(ended.map((_, i) => [`k${i}`, i])));
  });

  it("is followed by watchConfig() without a restart", async () => {
    const configs: Config[] = [];
    const live = await watchConfig(store, HOST, {
      onConfig: (config) => configs.push(config),
      onProblems: () => undefined,
    });
    await mnConf(["--nsdb", url, "set", "-h", HOST, `${M}.hold_time : 2s`]);
    await until(() => configs.at(-1)?.holdMs === 2000, "the host's own value");
    await mnConf(["--nsdb", url, "set", "-t", "edge", `${M}.shared_secret : rotated`]);
    await mnConf(["--nsdb", url, "template-set", "-h", HOST, "-t", "edge"]);
    await until(() => live.current.sharedSecret.reveal() === "rotated", "the mapped template's value");
    await mnConf(["--nsdb", url, "template-clear", "-h", HOST]);
    await until(() => live.current.sharedSecret.isEmpty, "the schema's value");
    live.close();
  });
});
