import { afterAll, beforeAll } from "vitest";
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
