import { statSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { contentVersion, isErrno, isZnodeFile, readChildren, readContent } from "./directory-tree.ts";
import { DirectoryWatch } from "./directory-watch.ts";
import { applyToDirectory, withDirectoryLock } from "./directory-write.ts";
import { NsdbError } from "./error.ts";
import { assertPath } from "./paths.ts";
import type { SessionState, Store, WriteOp, Znode } from "./store.ts";

/**
 * The tree of znodes as a folder: a file is a znode with data, a folder one without; a znode that has data *and*
 * children is a folder whose data is in a file `.znode` inside it. Names that start with a dot or end in `~`
 * are not znodes, so editors and temporary files stay out of sight.
 *
 * People and scripts write the files too, whenever and however they like: a change is told once its file has
 * been quiet for some milliseconds, and told again if it goes on.
 */
export class DirectoryStore implements Store {
  readonly url: string;
  readonly session: SessionState = "connected";
  readonly #folder: string;
  readonly #watch: DirectoryWatch;
  #closed = false;

  /** @throws {NsdbError} `unreachable` where the folder does not exist. */
  constructor(folder: string) {
    this.url = `dir:${folder}`;
    this.#folder = folder;
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw this.#rootMissing();
    this.#watch = new DirectoryWatch(folder);
  }

  async get(path: string, onChange?: () => void): Promise<Znode | undefined> {
    return this.#read(path, "content", onChange, async (file) => {
      const data = await readContent(file);
      return data === undefined ? undefined : { data, version: contentVersion(data) };
    });
  }

  async children(path: string, onChange?: () => void): Promise<readonly string[] | undefined> {
    return this.#read(path, "children", onChange, readChildren);
  }

  async write(ops: readonly WriteOp[]): Promise<void> {
    this.#assertOpen();
    for (const op of ops) assertZnodePath(op.path);
    await withDirectoryLock(this.#folder, () => applyToDirectory(this.#folder, ops));
  }

  onSession(_listener: (state: SessionState, detail?: string) => void): () => void {
    return () => undefined; // A folder has no session that could be lost.
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watch.close();
  }

  async #read<T>(
    path: string,
    kind: "content" | "children",
    onChange: (() => void) | undefined,
    read: (file: string) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    this.#assertOpen();
    assertZnodePath(path);
    const file = join(this.#folder, path);
    const stop = onChange === undefined ? undefined : this.#watch.subscribe(file, kind, onChange);
    try {
      const found = await read(file);
      // A vanished folder is a database that is away, not one whose objects were all deleted.
      if (found === undefined && !(await stat(this.#folder).catch(() => undefined)))
        throw this.#rootMissing();
      return found;
    } catch (error) {
      stop?.();
      if (error instanceof NsdbError) throw error;
      const denied = isErrno(error, "EACCES", "EPERM");
      const why = error instanceof Error ? error.message : String(error);
      throw new NsdbError(denied ? "denied" : "protocol", `Cannot read "${path}" of ${this.url}: ${why}`, {
        path,
        cause: error,
      });
    }
  }

  #assertOpen(): void {
    if (this.#closed) throw new NsdbError("closed", `Cannot use ${this.url}: it has been closed`);
  }

  #rootMissing(): NsdbError {
    return new NsdbError(
      "unreachable",
      `Cannot open "${this.url}": there is no such folder; create it, or name the right one with --nsdb`,
    );
  }
}

function assertZnodePath(path: string): void {
  assertPath(path);
  const unfit = path.split("/").find((name) => name !== "" && !isZnodeFile(name));
  if (unfit === undefined) return;
  throw new NsdbError(
    "usage",
    `Cannot keep "${path}" in a directory: "${unfit}" starts with a dot or ends in "~", which are left to editors`,
    { path },
  );
}
