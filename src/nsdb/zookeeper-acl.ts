import type { ACL } from "node-zookeeper-client";
import { parentPath } from "./paths.ts";

/** Reads the ACL of a znode; undefined where there is none. */
export type ReadAcl = (path: string) => Promise<readonly ACL[] | undefined>;

/**
 * The ACL of the nearest znode above that exists, for one that is to be created: ZooKeeper by itself lets everybody read
 * and write it, wherever it is.
 */
export async function aclAbove(path: string, read: ReadAcl): Promise<readonly ACL[]> {
  for (let above = parentPath(path); ; above = parentPath(above)) {
    const acl = await read(above);
    if (acl !== undefined) return acl;
    if (above === "/") throw new Error("ZooKeeper has no /"); // It always has.
  }
}

/**
 * Whether the server keeps users' digests from us. Given to another znode, such an ACL would admit nobody.
 *
 * @source ZooKeeper 3.8.0 FinalRequestProcessor.handleGetACLRequest: without "admin" a digest is given as `user:x`
 */
export function isMasked(acl: readonly ACL[]): boolean {
  return acl.some(({ id }) => id.scheme === "digest" && id.id.endsWith(":x"));
}
