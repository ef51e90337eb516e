import { setTimeout as sleep } from "node:timers/promises";
import { NsdbError } from "../nsdb/error.ts";
import type { Store } from "../nsdb/store.ts";
import { HoconError } from "./hocon/error.ts";
import { MAX_LENGTH } from "./hocon/lexer.ts";
import { renderStored } from "./hocon/render.ts";
import { EMPTY, type ObjectNode } from "./hocon/tree.ts";
import { parseZnode } from "./layers.ts";

/** How long to try against others who write the same znode. */
const PATIENCE_MS = 30_000;
const LOST_RACES = ["bad-version", "no-node", "node-exists"];

/**
 * Changes what a znode says, in MidoNet's form, so that nothing that others write meanwhile is lost: it is read,
 * changed and written only if nobody was faster, else tried again. A znode that is not there is made, unless there
 * is nothing to say.
 *
 * @param change Called once per attempt. Returns the very object it was given to leave the znode as it is.
 * @param fresh Do not read what is there: `change` gets an empty object.
 * @returns Whether anything was written.
 * @throws {NsdbError} @throws {HoconError} If what is there cannot be read.
 */
export async function updateZnode(
  store: Store,
  path: string,
  change: (current: ObjectNode) => ObjectNode,
  fresh = false,
): Promise<boolean> {
  const deadline = Date.now() + PATIENCE_MS;
  for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 200)) {
    const znode = await store.get(path);
    const current = fresh ? EMPTY : parseZnode(path, znode?.data);
    const next = change(current);
    const text = renderStored(next);
    if (text.length > MAX_LENGTH)
      throw new HoconError(
        "limit",
        `Cannot write "${path}": it would have ${text.length} characters, and at most ${MAX_LENGTH} can be read back; take keys away first`,
      );
    const data = Buffer.from(text);
    if (!fresh && next === current) return false;
    if (znode === undefined ? next.fields.size === 0 : znode.data.equals(data)) return false;
    try {
      await store.write([
        znode === undefined
          ? { kind: "create", path, data }
          : { kind: "set", path, data, version: znode.version },
      ]);
      return true;
    } catch (error) {
      const lost = error instanceof NsdbError && LOST_RACES.includes(error.code);
      if (!lost || Date.now() > deadline) throw error;
    }
    await sleep(waitMs * Math.random());
  }
}
