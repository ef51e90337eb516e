import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { NsdbError } from "../../src/nsdb/error.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { watchChildren, watchZnode } from "../../src/nsdb/watch.ts";

/** A store on an empty tree, and another client of the same tree. */
export interface StoreFixture {
  readonly store: Store;
  readonly other: Store;
  cleanUp(): Promise<void>;
}

const text = (data: Buffer | undefined) => data?.toString("utf8");
const bytes = (content: string) => Buffer.from(content, "utf8");

/** What every backend of the store edge does alike. */
export function storeContract(name: string, open: () => Promise<StoreFixture>): void {
  describe(`${name} as a store`, () => {
    let fixture: StoreFixture;
    let store: Store;
    let other: Store;

    beforeEach(async () => {
      fixture = await open();
      ({ store, other } = fixture);
    });
    afterEach(() => fixture.cleanUp());

    async function create(path: string, content: string): Promise<void> {
      await other.write([{ kind: "create", path, data: bytes(content) }]);
    }
    async function versionOf(path: string): Promise<number> {
      const znode = await other.get(path);
      if (znode === undefined) throw new Error(`${path} is missing`);
      return znode.version;
    }
    async function touch(path: string, content = "changed"): Promise<void> {
      await other.write([{ kind: "set", path, data: bytes(content), version: await versionOf(path) }]);
    }
    async function codeOf(attempt: Promise<unknown>): Promise<{ code: string; path: string | undefined }> {
      const error = await attempt.then(
        () => undefined,
        (reason: NsdbError) => reason,
      );
      return { code: error?.code ?? "none", path: error?.path };
    }

    it("get() gives undefined for what is missing, and children() too", async () => {
      expect(await store.get("/a/b")).toBeUndefined();
      expect(await store.children("/a/b")).toBeUndefined();
    });

    it("write() creates with the missing parents, which are empty", async () => {
      await create("/a/b/c", "x");
      expect(text((await store.get("/a/b/c"))?.data)).toBe("x");
      expect((await store.get("/a/b"))?.data).toHaveLength(0);
      expect(await store.children("/a")).toEqual(["b"]);
      expect(await store.children("/")).toContain("a");
      expect(await store.children("/a/b/c")).toEqual([]);
    });

    it("keeps bytes as they are, also none and a MiB less a bit", async () => {
      const all = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
      const big = Buffer.alloc(1_000_000, 7);
      await store.write([
        { kind: "create", path: "/all", data: all },
        { kind: "create", path: "/none", data: Buffer.alloc(0) },
      ]);
      await store.write([{ kind: "create", path: "/big", data: big }]);
      expect((await other.get("/all"))?.data.equals(all)).toBe(true);
      expect((await other.get("/none"))?.data).toHaveLength(0);
      expect((await other.get("/big"))?.data.equals(big)).toBe(true);
    });

    it("a znode may have both data and children", async () => {
      await create("/a", "mine");
      await create("/a/b", "child");
      expect(text((await store.get("/a"))?.data)).toBe("mine");
      expect(await store.children("/a")).toEqual(["b"]);
      await other.write([{ kind: "set", path: "/a", data: bytes("new"), version: await versionOf("/a") }]);
      expect(text((await store.get("/a"))?.data)).toBe("new");
      expect(await store.children("/a")).toEqual(["b"]);
      expect(text((await store.get("/a/b"))?.data)).toBe("child");
    });

    it("write() sets only what has not changed since it was read", async () => {
      await create("/a", "1");
      const version = await versionOf("/a");
      await store.write([{ kind: "set", path: "/a", data: bytes("2"), version }]);
      const attempt = store.write([{ kind: "set", path: "/a", data: bytes("3"), version }]);
      expect(await codeOf(attempt)).toEqual({ code: "bad-version", path: "/a" });
      expect(text((await store.get("/a"))?.data)).toBe("2");
    });

    it("write() refuses to create what exists, and to set, check or delete what does not", async () => {
      await create("/a", "1");
      const data = bytes("x");
      expect(await codeOf(store.write([{ kind: "create", path: "/a", data }]))).toEqual({
        code: "node-exists",
        path: "/a",
      });
      for (const kind of ["check", "delete"] as const) {
        const attempt = store.write([{ kind, path: "/b/c", version: 0 }]);
        expect(await codeOf(attempt)).toEqual({ code: "no-node", path: "/b/c" });
      }
      const attempt = store.write([{ kind: "set", path: "/b/c", data, version: 0 }]);
      expect(await codeOf(attempt)).toEqual({ code: "no-node", path: "/b/c" });
    });

    it("write() does all or nothing, and names the step that failed", async () => {
      await create("/a", "1");
      await create("/b", "1");
      const stale = await versionOf("/b");
      await other.write([{ kind: "set", path: "/b", data: bytes("2"), version: stale }]);
      const attempt = store.write([
        { kind: "create", path: "/new/deep", data: bytes("n") },
        { kind: "set", path: "/a", data: bytes("2"), version: await versionOf("/a") },
        { kind: "check", path: "/b", version: stale },
        { kind: "create", path: "/c", data: bytes("n") },
      ]);
      expect(await codeOf(attempt)).toEqual({ code: "bad-version", path: "/b" });
      expect(text((await store.get("/a"))?.data)).toBe("1");
      expect(await store.get("/new/deep")).toBeUndefined();
      expect(await store.get("/c")).toBeUndefined();
    });

    it("write() sees what the steps before did", async () => {
      await create("/old", "1");
      await store.write([
        { kind: "create", path: "/p", data: bytes("p") },
        { kind: "create", path: "/p/c", data: bytes("c") },
        { kind: "delete", path: "/old", version: await versionOf("/old") },
      ]);
      expect(text((await store.get("/p"))?.data)).toBe("p");
      expect(text((await store.get("/p/c"))?.data)).toBe("c");
      expect(await store.get("/old")).toBeUndefined();
    });

    it("write() of nothing does nothing", async () => {
      await store.write([]);
      expect(await store.children("/zoom")).toBeUndefined();
    });

    it("write() deletes leaves only", async () => {
      await create("/a/b", "1");
      expect(
        await codeOf(store.write([{ kind: "delete", path: "/a", version: await versionOf("/a") }])),
      ).toEqual({
        code: "not-empty",
        path: "/a",
      });
      await store.write([
        { kind: "delete", path: "/a/b", version: await versionOf("/a/b") },
        { kind: "delete", path: "/a", version: await versionOf("/a") },
      ]);
      expect(await store.get("/a")).toBeUndefined();
    });

    it("refuses paths that are none, before anything is done", async () => {
      for (const path of ["a", "/a/", "/a//b", "/a/../b", "/a/.", "/\u0000"]) {
        expect((await codeOf(store.get(path))).code).toBe("usage");
        expect((await codeOf(store.write([{ kind: "create", path, data: bytes("") }]))).code).toBe("usage");
      }
    });

    it("get() calls back once when the data changes, and not for a read", async () => {
      await create("/a", "1");
      const onChange = vi.fn();
      await store.get("/a", onChange);
      await other.get("/a");
      expect(onChange).not.toHaveBeenCalled();
      await other.write([{ kind: "set", path: "/a", data: bytes("2"), version: await versionOf("/a") }]);
      await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1));
      await other.write([{ kind: "set", path: "/a", data: bytes("3"), version: await versionOf("/a") }]);
      await create("/fence", "");
      await store.get("/fence");
      expect(onChange).toHaveBeenCalledTimes(1);
    });

    it("get() calls back when what was missing appears, also with its parents", async () => {
      const onChange = vi.fn();
      const onDeep = vi.fn();
      expect(await store.get("/a", onChange)).toBeUndefined();
      expect(await store.get("/x/y/z", onDeep)).toBeUndefined();
      await create("/a", "1");
      await create("/x/y/z", "1");
      await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1));
      await vi.waitFor(() => expect(onDeep).toHaveBeenCalled());
    });

    it("get() calls back when the znode goes", async () => {
      await create("/a", "1");
      const onChange = vi.fn();
      await store.get("/a", onChange);
      await other.write([{ kind: "delete", path: "/a", version: await versionOf("/a") }]);
      await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1));
    });

    it("children() calls back when a child appears, goes, or the znode itself does", async () => {
      await create("/a/b", "1");
      const onAppear = vi.fn();
      await store.children("/a", onAppear);
      await create("/a/c", "1");
      await vi.waitFor(() => expect(onAppear).toHaveBeenCalledTimes(1));

      const onGo = vi.fn();
      await store.children("/a", onGo);
      await other.write([{ kind: "delete", path: "/a/c", version: await versionOf("/a/c") }]);
      await vi.waitFor(() => expect(onGo).toHaveBeenCalledTimes(1));

      const onMissing = vi.fn();
      expect(await store.children("/later", onMissing)).toBeUndefined();
      await create("/later", "1");
      await vi.waitFor(() => expect(onMissing).toHaveBeenCalledTimes(1));
    });

    it("get() and children() keep a function once, however often it is given, until it was called", async () => {
      await create("/a", "1");
      const warnings = vi.fn();
      process.on("warning", warnings);
      const [onData, onChild, onMissing] = [vi.fn(), vi.fn(), vi.fn()];
      for (let round = 1; round <= 2; round += 1) {
        for (let i = 0; i < 15; i += 1) {
          await store.get("/a", onData);
          await store.children("/a", onChild);
          await store.get(`/missing${round}`, onMissing);
        }
        await touch("/a", String(round));
        await create(`/a/child${round}`, "1");
        await create(`/missing${round}`, "1");
        await vi.waitFor(() => {
          for (const each of [onData, onChild, onMissing]) expect(each).toHaveBeenCalledTimes(round);
        });
      }
      const told = new Promise<void>((resolve) => void store.get("/a", resolve).then(() => touch("/a")));
      await told;
      for (const each of [onData, onChild, onMissing]) expect(each).toHaveBeenCalledTimes(2);
      process.off("warning", warnings);
      expect(warnings).not.toHaveBeenCalled();
    });

    it("get() and children() call the same function for each of what it was given for", async () => {
      await create("/a", "1");
      await create("/b", "1");
      await create("/c", "1");
      const onChange = vi.fn();
      await store.get("/a", onChange);
      await store.get("/b", onChange);
      await store.children("/c", onChange);
      await touch("/a");
      await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1));
      await touch("/b");
      await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(2));
      await create("/c/d", "1");
      await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(3));
    });

    it("is given the same function by a watch until it was called, however often it is refreshed", async () => {
      await create("/a", "1");
      const get = vi.spyOn(store, "get");
      const children = vi.spyOn(store, "children");
      const seen: (string | undefined)[] = [];
      const names: (readonly string[] | undefined)[] = [];
      const watches = [
        watchZnode(store, "/a", (znode) => seen.push(text(znode?.data))),
        watchChildren(store, "/a", (now) => names.push(now)),
      ];
      for (let i = 1; i <= 15; i += 1) {
        await vi.waitFor(() => expect([get.mock.calls.length, children.mock.calls.length]).toEqual([i, i]));
        for (const { mock } of [get, children]) await mock.results.at(-1)?.value;
        for (const watch of watches) watch.refresh();
      }
      for (const { mock } of [get, children])
        expect(new Set(mock.calls.map(([, given]) => given)).size).toBe(1);
      await touch("/a", "2");
      await create("/a/b", "1");
      await vi.waitFor(() =>
        expect([seen, names]).toEqual([
          ["1", "2"],
          [[], ["b"]],
        ]),
      );
      await touch("/a", "3");
      await create("/a/c", "1");
      await vi.waitFor(() => expect([seen.at(-1), names.at(-1)]).toEqual(["3", ["b", "c"]]));
      for (const watch of watches) watch.close();
    });

    it("a hundred racing compare-and-set writers lose nothing", async () => {
      await create("/n", "0");
      const addOne = async (through: Store): Promise<void> => {
        for (;;) {
          const znode = await through.get("/n");
          const data = bytes(String(Number(text(znode?.data)) + 1));
          try {
            return await through.write([{ kind: "set", path: "/n", data, version: znode?.version ?? 0 }]);
          } catch (error) {
            if ((error as NsdbError).code !== "bad-version") throw error;
          }
        }
      };
      await Promise.all(
        [store, other].map(async (through) => {
          for (let i = 0; i < 50; i += 1) await addOne(through);
        }),
      );
      expect(text((await store.get("/n"))?.data)).toBe("100");
    });

    it("is connected, has a URL, and refuses everything after close()", async () => {
      expect(store.session).toBe("connected");
      expect(store.url).toMatch(/^(zk:\/\/|dir:\/)/);
      await store.close();
      await store.close();
      expect((await codeOf(store.get("/a"))).code).toBe("closed");
      expect((await codeOf(store.children("/a"))).code).toBe("closed");
      expect((await codeOf(store.write([{ kind: "create", path: "/a", data: bytes("") }]))).code).toBe(
        "closed",
      );
    });
  });
}
