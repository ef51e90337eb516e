import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Stats } from "node:fs";
import {
  chmod,
  chown,
  type FileHandle,
  mkdir,
  open,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { CONTENT_FILE, contentVersion, isErrno, readChildren, readContent } from "./directory-tree.ts";
import { NsdbError } from "./error.ts";
import { parentPath } from "./paths.ts";
import type { WriteOp } from "./store.ts";

const LOCK_FILE = ".lock";
const LOCK_WAIT_S = 30;

/** What a path will hold: its data, or undefined where it will be gone. */
type Outcome = ReadonlyMap<string, Buffer | undefined>;

/**
 * Runs `action` while no other process that does the same runs its own. The kernel holds the lock, so it ends with
 * whoever holds it; a script can take it with `flock <folder>/.lock`.
 *
 * @throws {NsdbError} `timeout`, `denied`, `unreachable`.
 */
export async function withDirectoryLock<T>(folder: string, action: () => Promise<T>): Promise<T> {
  const file = join(folder, LOCK_FILE);
  let handle: FileHandle;
  try {
    handle = await open(file, "a", 0o644);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const code = isErrno(cause, "ENOENT") ? "unreachable" : "denied";
    throw new NsdbError(code, `Cannot lock "dir:${folder}" for writing: ${why}`, { cause });
  }
  try {
    // flock(2) is not in Node. The lock belongs to the open file, which the child shares and we keep.
    const child = spawn("flock", ["--exclusive", "--timeout", String(LOCK_WAIT_S), "3"], {
      stdio: ["ignore", "ignore", "ignore", handle.fd],
    });
    const [exitCode] = await once(child, "exit");
    if (exitCode !== 0) {
      throw new NsdbError(
        "timeout",
        `Cannot lock "dir:${folder}" for writing: "${file}" has been held by another process for ${LOCK_WAIT_S} s`,
      );
    }
    return await action();
  } finally {
    await handle.close();
  }
}

/**
 * Checks every step against the tree as the steps before it leave it, then carries them out. Contents are
 * written beside their places first and renamed into them last; only a crash between two renames leaves a part.
 *
 * @throws {NsdbError} `no-node`, `node-exists`, `bad-version`, `not-empty`: nothing was changed.
 */
export async function applyToDirectory(folder: string, ops: readonly WriteOp[]): Promise<void> {
  const outcome = new Map<string, Buffer | undefined>();
  for (const op of ops) await checkStep(folder, op, outcome);
  try {
    await carryOut(folder, outcome);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new NsdbError("denied", `Cannot write to "dir:${folder}": ${why}`, { cause });
  }
}

async function checkStep(
  folder: string,
  op: WriteOp,
  outcome: Map<string, Buffer | undefined>,
): Promise<void> {
  const content = outcome.has(op.path) ? outcome.get(op.path) : await readContent(join(folder, op.path));
  const refuse = (code: "no-node" | "node-exists" | "bad-version" | "not-empty", why: string): never => {
    throw new NsdbError(code, `Cannot ${op.kind} "${op.path}" in "dir:${folder}": ${why}`, { path: op.path });
  };
  if (op.kind === "create") {
    if (content !== undefined) refuse("node-exists", "it exists already");
    outcome.set(op.path, op.data);
    return;
  }
  if (content === undefined) return refuse("no-node", "it does not exist");
  if (contentVersion(content) !== op.version)
    refuse("bad-version", "it was changed by somebody else since it was read");
  if (op.kind === "set") outcome.set(op.path, op.data);
  if (op.kind !== "delete") return;
  const names = (await readChildren(join(folder, op.path))) ?? [];
  const kept = names.some((name) => !gone(outcome, `${op.path}/${name}`));
  const added = [...outcome].some(([path, data]) => data !== undefined && parentPath(path) === op.path);
  if (kept || added) refuse("not-empty", "there are znodes below it");
  outcome.set(op.path, undefined);
}

function gone(outcome: Outcome, path: string): boolean {
  return outcome.has(path) && outcome.get(path) === undefined;
}

async function carryOut(folder: string, outcome: Outcome): Promise<void> {
  const prepared: { readonly temporary: string; readonly file: string }[] = [];
  try {
    // Children first: theirs is what makes a folder of a parent that is a file.
    for (const [path, data] of [...outcome].sort(([a], [b]) => b.length - a.length)) {
      if (data === undefined) continue;
      // What a symlink leads to is what is meant.
      const place = await placeFor(folder, path);
      const file = await realpath(place).catch(() => place);
      const temporary = join(dirname(file), `.new-${process.pid}-${prepared.length}`);
      prepared.push({ temporary, file });
      await writeAs(temporary, data, await stat(file).catch(() => undefined));
    }
    for (const { temporary, file } of prepared) await rename(temporary, file);
  } finally {
    for (const { temporary } of prepared) await rm(temporary, { force: true });
  }
  const deepestFirst = [...outcome.keys()]
    .filter((path) => gone(outcome, path))
    .sort((a, b) => b.length - a.length);
  for (const path of deepestFirst) await remove(join(folder, path));
}

/**
 * With the mode and owner of what it replaces. What is new is for its owner alone: the configuration has the secret
 * that signs for every guest.
 */
async function writeAs(file: string, data: Buffer, before: Stats | undefined): Promise<void> {
  await writeFile(file, data, { flush: true, mode: 0o600 });
  if (before === undefined) return;
  await chown(file, before.uid, before.gid);
  await chmod(file, before.mode & 0o7777);
}

/** The file that holds a znode's data; its parents are made folders where they are missing, or are files. */
async function placeFor(folder: string, path: string): Promise<string> {
  const names = path.split("/").filter((name) => name !== "");
  let parent = folder;
  for (const name of names.slice(0, -1)) {
    parent = join(parent, name);
    await makeFolder(parent);
  }
  const file = join(folder, path);
  const isFolder = (await stat(file).catch(() => undefined))?.isDirectory() ?? false;
  return isFolder ? join(file, CONTENT_FILE) : file;
}

async function makeFolder(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return;
  if (found === undefined) {
    await mkdir(path);
    return;
  }
  const temporary = join(dirname(path), `.folder-${process.pid}`);
  await mkdir(temporary);
  await rename(path, join(temporary, CONTENT_FILE));
  await rename(temporary, path);
}

async function remove(path: string): Promise<void> {
  const isFolder = (await stat(path)).isDirectory();
  if (!isFolder) return unlink(path);
  await rm(join(path, CONTENT_FILE), { force: true });
  await rmdir(path);
}
