import { readFileSync, writeFileSync } from "node:fs";
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { DirectoryStore } from "../../src/nsdb/directory-store.ts";
import { storeContract } from "../contract/store.ts";

storeContract("DirectoryStore", async () => {
  const folder = await mkdtemp(join(tmpdir(), "nsdb-"));
  const stores = [new DirectoryStore(folder), new DirectoryStore(folder)] as const;
  return {
    store: stores[0],
    other: stores[1],
    async cleanUp() {
      for (const store of stores) await store.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
});

describe("DirectoryStore beside people and scripts", () => {
  let folder: string;
  let store: DirectoryStore;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "nsdb-"));
    store = new DirectoryStore(folder);
  });
  afterEach(async () => {
    await store.close();
    await rm(folder, { recursive: true, force: true });
  });

  const content = async (path: string) => (await store.get(path))?.data.toString("utf8");

  it("shows what it writes to its owner only, and leaves mode and symlink of what is there as they are", async () => {
    await store.write([{ kind: "create", path: "/config/new", data: Buffer.from("a") }]);
    expect((await stat(join(folder, "config/new"))).mode & 0o777).toBe(0o600);
    const elsewhere = join(folder, ".elsewhere");
    await writeFile(elsewhere, "b", { mode: 0o640 });
    await symlink(elsewhere, join(folder, "config/link"));
    const version = (await store.get("/config/link"))?.version ?? 0;
    await store.write([{ kind: "set", path: "/config/link", data: Buffer.from("c"), version }]);
    expect((await lstat(join(folder, "config/link"))).isSymbolicLink()).toBe(true);
    expect(await readFile(elsewhere, "utf8")).toBe("c");
    expect((await stat(elsewhere)).mode & 0o777).toBe(0o640);
  });

  it("reads what was written by hand, and hides what editors leave", async () => {
    await mkdir(join(folder, "config/templates"), { recursive: true });
    await writeFile(join(folder, "config/templates/default"), "a : 1\n");
    await writeFile(join(folder, "config/templates/.default.swp"), "?");
    await writeFile(join(folder, "config/templates/default~"), "?");
    expect(await content("/config/templates/default")).toBe("a : 1\n");
    expect(await store.children("/config/templates")).toEqual(["default"]);
    await expect(store.get("/config/.hidden")).rejects.toMatchObject({ code: "usage" });
  });

  it("follows a folder that is replaced as a whole, at any height", async () => {
    await mkdir(join(folder, "a/b"), { recursive: true });
    await writeFile(join(folder, "a/b/c"), "old");
    await mkdir(join(folder, "next/b"), { recursive: true });
    await writeFile(join(folder, "next/b/c"), "new");
    const onChange = vi.fn();
    await store.get("/a/b/c", onChange);
    await rename(join(folder, "a"), join(folder, "before"));
    await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1));
    expect(await content("/a/b/c")).toBeUndefined();

    const onReturn = vi.fn();
    await store.get("/a/b/c", onReturn);
    await rename(join(folder, "next"), join(folder, "a"));
    await vi.waitFor(() => expect(onReturn).toHaveBeenCalledTimes(1));
    const onSet = vi.fn();
    expect((await store.get("/a/b/c", onSet))?.data.toString()).toBe("new");
    await writeFile(join(folder, "a/b/c"), "newer");
    await vi.waitFor(() => expect(onSet).toHaveBeenCalledTimes(1));
    expect(await content("/a/b/c")).toBe("newer");
  });

  it("is away while its folder is, and comes back with it", async () => {
    await writeFile(join(folder, "a"), "1");
    const onChange = vi.fn();
    await store.get("/a", onChange);
    await rename(folder, `${folder}-away`);
    await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1));
    await expect(store.get("/a")).rejects.toMatchObject({ code: "unreachable" });
    await expect(store.write([{ kind: "create", path: "/b", data: Buffer.alloc(0) }])).rejects.toMatchObject({
      code: "unreachable",
    });
    await rename(`${folder}-away`, folder);
    expect(await content("/a")).toBe("1");
  });

  it("tells a file that is written in pieces again until it is whole", async () => {
    const pieces = Array.from({ length: 40 }, (_, i) => `line ${i}\n`);
    let last: string | undefined;
    const follow = async (): Promise<void> => {
      last = (await store.get("/slow", () => void follow()))?.data.toString();
    };
    await follow();
    for (const piece of pieces) await writeFile(join(folder, "slow"), piece, { flag: "a" });
    await vi.waitFor(() => expect(last).toBe(pieces.join("")));
  });

  it("does not call back for the files beside", async () => {
    await writeFile(join(folder, "mine"), "1");
    const onChange = vi.fn();
    const onOther = vi.fn();
    await store.get("/mine", onChange);
    await store.get("/other", onOther);
    for (let i = 0; i < 100; i += 1) await writeFile(join(folder, `other${i}`), "1");
    await writeFile(join(folder, "other"), "1");
    await vi.waitFor(() => expect(onOther).toHaveBeenCalledTimes(1));
    expect(onChange).not.toHaveBeenCalled();
  });

  it("tells what changed while the kernel had to drop events", async () => {
    await writeFile(join(folder, "last"), "1");
    const onChange = vi.fn();
    await store.get("/last", onChange);
    // Nothing reads the events as long as this does not return.
    const events = Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8"));
    for (let i = 0; i < events; i += 1) writeFileSync(join(folder, `f${i % 5_000}-${i % 2}`), String(i));
    writeFileSync(join(folder, "last"), "2");
    await vi.waitFor(() => expect(onChange).toHaveBeenCalledTimes(1), { timeout: 5_000 });
    expect(await content("/last")).toBe("2");
  });

  it("leaves nothing but znodes and its lock behind", async () => {
    await store.write([{ kind: "create", path: "/a/b", data: Buffer.from("1") }]);
    await expect(
      store.write([
        { kind: "create", path: "/a/c", data: Buffer.from("1") },
        { kind: "create", path: "/a/b", data: Buffer.from("1") },
      ]),
    ).rejects.toMatchObject({ code: "node-exists" });
    expect(await readdir(join(folder, "a"))).toEqual(["b"]);
    expect((await readdir(folder)).sort()).toEqual([".lock", "a"]);
    expect(await readFile(join(folder, "a/b"), "utf8")).toBe("1");
  });

  it("is not opened on a folder that is missing", () => {
    expect(() => new DirectoryStore(join(folder, "nowhere"))).toThrowError(/no such folder; create it/);
  });
});
