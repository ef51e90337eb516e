import { type FSWatcher, readFileSync, watch } from "node:fs";
import { basename, dirname, join } from "node:path";
import { CONTENT_FILE, isZnodeFile } from "./directory-tree.ts";
import { NsdbError } from "./error.ts";

/** How long a file must be quiet before its change is told, and the longest that a busy one is waited for. */
const QUIET_MS = 10;
const LONGEST_WAIT_MS = 200;
/** Events that come closer together than this are one burst. */
const BURST_MS = 500;

interface Subscription {
  readonly file: string;
  readonly kind: "content" | "children";
  readonly onChange: () => void;
  timer?: NodeJS.Timeout;
  firstEventAt?: number;
}

/**
 * One-shot watches on files and folders that need not exist yet. One kernel watch per folder, however many files
 * of it are watched, and on every folder above: where one appears, goes or is replaced, all below it is told. The
 * kernel drops events when its queue is full, and Node does not say so: after a burst that may have filled it, all
 * is told.
 */
export class DirectoryWatch {
  readonly #top: string;
  readonly #watchers = new Map<string, FSWatcher>();
  readonly #subscriptions = new Map<string, Set<Subscription>>();
  /** How many subscriptions lie below a folder, for those folders that have any. */
  readonly #below = new Map<string, number>();

  readonly #burstSize = kernelQueueLength() / 2;
  #burst = 0;
  #burstTimer: NodeJS.Timeout | undefined;

  constructor(root: string) {
    this.#top = dirname(root);
  }

  /**
   * Calls back once, after the next change; a function that waits for it already is not added again. Returns the way to
   * call this off, which leaves alone what was there before.
   */
  subscribe(file: string, kind: "content" | "children", onChange: () => void): () => void {
    const beside = this.#subscriptions.get(file);
    for (const known of beside ?? []) {
      if (known.kind !== kind || known.onChange !== onChange) continue;
      this.#watchFolders(file);
      return () => undefined;
    }
    const subscription: Subscription = { file, kind, onChange };
    if (beside === undefined) this.#subscriptions.set(file, new Set([subscription]));
    else beside.add(subscription);
    for (const folder of foldersAbove(file)) this.#below.set(folder, (this.#below.get(folder) ?? 0) + 1);
    try {
      this.#watchFolders(file);
    } catch (error) {
      this.#forget(subscription);
      throw error;
    }
    return () => this.#forget(subscription);
  }

  close(): void {
    clearTimeout(this.#burstTimer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    for (const set of this.#subscriptions.values()) for (const { timer } of set) clearTimeout(timer);
    this.#subscriptions.clear();
    this.#below.clear();
  }

  /** From the top down, because a folder that appears after its parent is watched is told by the parent. */
  #watchFolders(file: string): void {
    for (const folder of [...foldersAbove(file).reverse(), file]) {
      if (folder.length < this.#top.length || this.#watchers.has(folder)) continue;
      // The watched file itself may be a folder, with data or children inside it.
      if (!this.#watchFolder(folder)) return;
    }
  }

  #watchFolder(folder: string): boolean {
    try {
      // The slash at the end refuses what is not a folder.
      const watcher = watch(`${folder}/`, { persistent: false });
      watcher.on("change", (type, name) => this.#onEvent(folder, type, name === null ? null : String(name)));
      watcher.on("error", () => this.#replaced(folder));
      this.#watchers.set(folder, watcher);
      return true;
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
      if (code === "ENOENT" || code === "ENOTDIR") return false;
      const why = cause instanceof Error ? cause.message : String(cause);
      const remedy =
        code === "ENOSPC" || code === "EMFILE"
          ? "; raise the sysctl fs.inotify.max_user_watches or max_user_instances"
          : "";
      throw new NsdbError("unreachable", `Cannot watch "${folder}": ${why}${remedy}`, { cause });
    }
  }

  #onEvent(folder: string, type: string, name: string | null): void {
    this.#countBurst();
    if (name === null || name === basename(folder)) this.#replaced(folder); // The folder itself, or an overrun.
    if (name === null) return;
    const file = join(folder, name);
    if (type === "rename" && (this.#below.has(file) || this.#watchers.has(file))) this.#replaced(file);
    this.#tell(file, "content");
    if (type === "rename") {
      this.#tell(file, "children");
      if (isZnodeFile(name)) this.#tell(folder, "children");
    }
    if (name === CONTENT_FILE) this.#tell(folder, "content");
  }

  #countBurst(): void {
    this.#burst += 1;
    this.#burstTimer ??= setTimeout(() => {
      const wasLarge = this.#burst >= this.#burstSize;
      this.#burst = 0;
      this.#burstTimer = undefined;
      if (wasLarge) this.#replaced(this.#top);
    }, BURST_MS).unref();
  }

  /** Another folder may be at this path now: what was watched in the old one is told, and watched anew when read. */
  #replaced(folder: string): void {
    const prefix = `${folder}/`;
    for (const [watched, watcher] of this.#watchers) {
      if (watched !== folder && !watched.startsWith(prefix)) continue;
      watcher.close();
      this.#watchers.delete(watched);
    }
    for (const [file, set] of this.#subscriptions) {
      if (file === folder || file.startsWith(prefix))
        for (const subscription of set) this.#schedule(subscription);
    }
  }

  #tell(file: string, kind: Subscription["kind"]): void {
    for (const subscription of this.#subscriptions.get(file) ?? []) {
      if (subscription.kind === kind) this.#schedule(subscription);
    }
  }

  #schedule(subscription: Subscription): void {
    const now = performance.now();
    subscription.firstEventAt ??= now;
    const left = Math.max(0, subscription.firstEventAt + LONGEST_WAIT_MS - now);
    clearTimeout(subscription.timer);
    subscription.timer = setTimeout(
      () => {
        this.#forget(subscription);
        subscription.onChange();
      },
      Math.min(QUIET_MS, left),
    );
  }

  #forget(subscription: Subscription): void {
    clearTimeout(subscription.timer);
    const set = this.#subscriptions.get(subscription.file);
    if (!set?.delete(subscription)) return;
    if (set.size === 0) this.#subscriptions.delete(subscription.file);
    for (const folder of foldersAbove(subscription.file)) {
      const left = (this.#below.get(folder) ?? 0) - 1;
      if (left > 0) this.#below.set(folder, left);
      else this.#below.delete(folder);
    }
  }
}

/** @source linux fs/notify/inotify/inotify_user.c: 16,384 unless set */
function kernelQueueLength(): number {
  try {
    return Number(readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8"));
  } catch {
    return 16_384; // Hidden in some containers.
  }
}

/** `/a/b/c` → `/a/b`, `/a`, `/`. */
function foldersAbove(file: string): string[] {
  const folders: string[] = [];
  for (let path = file; path !== "/"; ) {
    path = dirname(path);
    folders.push(path);
  }
  return folders;
}
