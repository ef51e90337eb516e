import { once } from "node:events";
import zookeeperClient from "node-zookeeper-client";
import type { ZookeeperServer } from "./zookeeper.ts";

/**
 * Ends somebody's session at the server, as if its time had run out: takes it over and closes it. The server tells
 * nobody; whoever held it learns of it with the next ping or request.
 *
 * @param sessionId 16 hexadecimal digits.
 */
export async function expireSession(server: ZookeeperServer, sessionId: string): Promise<void> {
  const thief = zookeeperClient.createClient(server.address, {
    sessionTimeout: 4_000,
    sessionId: Buffer.from(sessionId, "hex"),
    sessionPassword: passwordOf(BigInt(`0x${sessionId}`)),
  } as object); // The types forget that a session can be taken over.
  const taken = once(thief, "connected");
  thief.connect();
  await taken;
  if (thief.getSessionId().toString("hex") !== sessionId)
    throw new Error(`session ${sessionId} was not to be had`);
  const ended = once(thief, "disconnected");
  thief.close();
  await ended;
}

/** @source ZooKeeper 3.8, ZooKeeperServer.generatePasswd: the first bytes of a java.util.Random with this seed */
function passwordOf(sessionId: bigint): Buffer {
  const mask = (1n << 48n) - 1n;
  const multiplier = 0x5deece66dn;
  let seed = (sessionId ^ 0xb3415c00n ^ multiplier) & mask;
  const password = Buffer.alloc(16);
  for (let at = 0; at < password.length; at += 4) {
    seed = (seed * multiplier + 0xbn) & mask;
    password.writeUInt32LE(Number(seed >> 16n), at);
  }
  return password;
}
