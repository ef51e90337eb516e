import { DirectoryStore } from "./directory-store.ts";
import type { NsdbUrl } from "./nsdb-url.ts";
import type { Store } from "./store.ts";
import { type ZookeeperOptions, ZookeeperStore } from "./zookeeper-store.ts";

/** Only a ZooKeeper has these; the defaults are right for a daemon. */
export type StoreOptions = ZookeeperOptions;

/**
 * The store at a URL, connected.
 *
 * @throws {NsdbError} `unreachable` after `connectTimeoutMs` at the latest; `denied` for refused credentials.
 */
export async function openStore(url: NsdbUrl, options: StoreOptions = {}): Promise<Store> {
  return url.kind === "directory" ? new DirectoryStore(url.folder) : ZookeeperStore.connect(url, options);
}
