import { resolveNsdb } from "../nsdb/bootstrap.ts";
import { createHostId, readHostId } from "../nsdb/host-id.ts";
import { openStore } from "../nsdb/open-store.ts";
import type { Store } from "../nsdb/store.ts";

/** Where to look, as the command line gave it. */
export interface NsdbOptions {
  readonly nsdb?: string;
  readonly hostIdFile?: string;
  /** Make a host id where there is none. */
  readonly createHostId?: boolean;
  /** Whether what is missing is acted upon, so that a database without its root must not count as an empty one. */
  readonly rootMustExist?: boolean;
}

/**
 * The NSDB that this host belongs to, connected, and who this host is in it.
 *
 * @throws {NsdbError} `usage`, `unreachable`, `no-host-id`…, each a sentence with the remedy.
 */
export async function openNsdb(options: NsdbOptions): Promise<{ store: Store; hostId: string }> {
  const { url, warnings } = resolveNsdb(options.nsdb, process.env);
  for (const warning of warnings) process.stderr.write(`mn-metadata: ${warning}\n`);
  const hostId = (options.createHostId ? createHostId : readHostId)(options.hostIdFile);
  return { store: await openStore(url, { rootMustExist: options.rootMustExist ?? false }), hostId };
}
