import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DirectoryStore } from "../../src/nsdb/directory-store.ts";
import { type Watch, watchChildren, watchZnode } from "../../src/nsdb/watch.ts";

let folder: string;
let store: DirectoryStore;
let watches: Watch[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "nsdb-"));
  store = new DirectoryStore(folder);
  watches = [];
});
afterEach(async () => {
  for (const watch of watches) watch.close();
  await store.close();
  await rm(folder, { recursive: true, force: true });
});

async function put(path: string, content: string): Promise<void> {
  const znode = await store.get(path);
  const data = Buffer.from(content);
  if (znode === undefined) await store.write([{ kind: "create", path, data }]);
  else await store.write([{ kind: "set", path, data, version: znode.version }]);
}

function follow(path: string) {
  const seen: (string | undefined)[] = [];
  const errors: (string | undefined)[] = [];
  const watch = watchZnode(
    store,
    path,
    (znode) => seen.push(znode?.data.toString()),
    (error) => errors.push(error?.code),
  );
  watches.push(watch);
  return { seen, errors, watch };
}

describe("watchZnode()", () => {
  it("tells what is there, then the newest after each change, through absence", async () => {
    const { seen } = follow("/a/b");
    await vi.waitFor(() => expect(seen).toEqual([undefined]));
    await put("/a/b", "1");
    await vi.waitFor(() => expect(seen).toEqual([undefined, "1"]));
    for (let i = 2; i <= 20; i += 1) await put("/a/b", String(i));
    await vi.waitFor(() => expect(seen.at(-1)).toBe("20"));
    await store.write([{ kind: "delete", path: "/a/b", version: (await store.get("/a/b"))?.version ?? 0 }]);
    await vi.waitFor(() => expect(seen.at(-1)).toBeUndefined());
    expect(new Set(seen).size).toBe(seen.length - 1); // Only "undefined" was told twice.
  });

  it("is silent after close(), also about a read that is under way", async () => {
    await put("/a", "1");
    const { seen, watch } = follow("/a");
    watch.close();
    const other = follow("/a");
    await vi.waitFor(() => expect(other.seen).toEqual(["1"]));
    await put("/a", "2");
    await vi.waitFor(() => expect(other.seen).toEqual(["1", "2"]));
    expect(seen).toEqual([]);
  });

  it("tells errors, keeps what it told, and goes on by itself", async () => {
    await put("/a", "1");
    const { seen, errors } = follow("/a");
    await vi.waitFor(() => expect(seen).toEqual(["1"]));
    await rename(folder, `${folder}-away`);
    await vi.waitFor(() => expect(errors.length).toBeGreaterThan(1));
    expect(new Set(errors)).toEqual(new Set(["unreachable"]));
    expect(seen).toEqual(["1"]);
    await rename(`${folder}-away`, folder);
    await put("/a", "2");
    await vi.waitFor(() => expect(seen).toEqual(["1", "2"]), { timeout: 2_000 });
    expect(errors.indexOf(undefined)).toBe(errors.length - 1);
  });
});

describe("watchChildren()", () => {
  it("tells the names in order, and their changes", async () => {
    const seen: (readonly string[] | undefined)[] = [];
    watches.push(watchChildren(store, "/t", (names) => seen.push(names)));
    await vi.waitFor(() => expect(seen).toEqual([undefined]));
    await put("/t/b", "");
    await vi.waitFor(() => expect(seen.at(-1)).toEqual(["b"]));
    await put("/t/a", "");
    await vi.waitFor(() => expect(seen.at(-1)).toEqual(["a", "b"]));
    const told = seen.length;
    await put("/t/a", "other data");
    await put("/t/c", "");
    await vi.waitFor(() => expect(seen.at(-1)).toEqual(["a", "b", "c"]));
    expect(seen).toHaveLength(told + 1);
  });
});
