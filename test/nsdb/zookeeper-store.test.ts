import { afterAll, beforeAll, expect, it } from "vitest";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import { storeContract } from "../contract/store.ts";
import { startZookeeper } from "../support/zookeeper.ts";

let zookeeper: Awaited<ReturnType<typeof startZookeeper>>;
let roots = 0;

beforeAll(async () => {
  zookeeper = await startZookeeper();
});
afterAll(() => zookeeper.cleanUp());

storeContract("ZookeeperStore", async () => {
  roots += 1;
  const url = parseNsdbUrl(`zk://${zookeeper.address}/cloud/midonet${roots}`);
  const [store, other] = await Promise.all([openStore(url), openStore(url)]);
  return {
    store,
    other,
    async cleanUp() {
      await Promise.all([store.close(), other.close()]);
    },
  };
});

it("ZookeeperStore leaves the event loop to others while a flood of answers comes", async () => {
  const store = await openStore(parseNsdbUrl(`zk://${zookeeper.address}/flood`));
  const data = Buffer.alloc(700, "x");
  await store.write([{ kind: "create", path: "/znode", data }]);
  let answers = 0;
  let mostInOneTurn = 0;
  let answersBefore = 0;
  let isReading = true;
  const turn = (): void => {
    mostInOneTurn = Math.max(mostInOneTurn, answers - answersBefore);
    answersBefore = answers;
    if (isReading) setImmediate(turn);
  };
  turn();
  const reads = Array.from({ length: 6_000 }, async () => {
    const znode = await store.get("/znode");
    answers += 1;
    return znode;
  });
  const read = await Promise.all(reads);
  isReading = false;
  expect(read.every((znode) => znode?.data.length === data.length)).toBe(true);
  // A socket is read in pieces of 64 KiB, and by itself up to 32 times in one turn.
  expect(mostInOneTurn).toBeLessThanOrEqual(2 * Math.ceil(65_536 / data.length));
  await store.close();
});

it("ZookeeperStore takes a tree without its root for one that is away, where that is wished", async () => {
  const url = parseNsdbUrl(`zk://${zookeeper.address}/lost`);
  const [store, strict] = await Promise.all([openStore(url), openStore(url, { rootMustExist: true })]);
  const away = { code: "unreachable", message: expect.stringContaining('ZooKeeper has no "/lost"') };
  for (const read of [() => strict.get("/znode"), () => strict.get("/znode", () => undefined)])
    await expect(read()).rejects.toMatchObject(away);
  await expect(strict.children("/znode")).rejects.toMatchObject(away);
  expect(await store.get("/znode")).toBeUndefined();
  await store.write([{ kind: "create", path: "/other", data: Buffer.alloc(0) }]);
  expect(await strict.get("/znode")).toBeUndefined();
  await Promise.all([store.close(), strict.close()]);
});
