import type { NsdbUrl } from "./nsdb-url.ts";
import type { Store } from "./store.ts";
import type { ZookeeperOptions } from "./zookeeper-store.ts";

/** Only a ZooKeeper has these; the defaults are right for a daemon. */
export type StoreOptions = ZookeeperOptions;

/**
 * The store at a URL, connected.
 *
 * @throws {NsdbError} `unreachable` after `connectTimeoutMs` at the latest; `denied` for refused credentials.
 */
export async function openStore(url: NsdbUrl, options: StoreOptions = {}): Promise<Store> {
  // Each backend is loaded when it is wanted: the ZooKeeper package alone takes as long as the rest of a command.
  if (url.kind === "directory") {
    const { DirectoryStore } = await import("./directory-store.ts");
    return new DirectoryStore(url.folder);
  }
  const { ZookeeperStore } = await import("./zookeeper-store.ts");
  return ZookeeperStore.connect(url, options);
}
