import { NsdbError } from "./error.ts";
import type { Store, Znode } from "./store.ts";

export interface Watch {
  /** Reads again now, for a change that makes no event, such as that of an ACL. */
  refresh(): void;
  /** No callback comes after this. */
  close(): void;
}

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 1_000;

/**
 * Keeps the content of one znode: calls `onValue` with it after the first read, and after each change with the
 * newest (undefined where there is none). States in between may be missed, equal ones are told once.
 *
 * @param onError Told of each failed read; the next one follows by itself after a jittered wait. Told undefined by
 *   the first one that succeeds again, before its value.
 */
export function watchZnode(
  store: Store,
  path: string,
  onValue: (znode: Znode | undefined) => void,
  onError?: (error: NsdbError | undefined) => void,
): Watch {
  const isEqual = (a: Znode | undefined, b: Znode | undefined) =>
    a === b || (a !== undefined && b !== undefined && a.version === b.version && a.data.equals(b.data));
  return follow(store, (onChange) => store.get(path, onChange), isEqual, onValue, onError);
}

/** As {@link watchZnode} for the names below a znode, sorted; undefined where the znode is missing. */
export function watchChildren(
  store: Store,
  path: string,
  onNames: (names: readonly string[] | undefined) => void,
  onError?: (error: NsdbError | undefined) => void,
): Watch {
  const read = async (onChange: () => void) => (await store.children(path, onChange))?.toSorted();
  const isEqual = (a: readonly string[] | undefined, b: readonly string[] | undefined) =>
    a === b ||
    (a !== undefined && b !== undefined && a.length === b.length && a.every((name, i) => name === b[i]));
  return follow(store, read, isEqual, onNames, onError);
}

function follow<T>(
  store: Store,
  read: (onChange: () => void) => Promise<T>,
  isEqual: (a: T, b: T) => boolean,
  onValue: (value: T) => void,
  onError: ((error: NsdbError | undefined) => void) | undefined,
): Watch {
  let told: { readonly value: T } | undefined;
  let state: "armed" | "reading" | "stale" | "closed" = "armed";
  let retry: NodeJS.Timeout | undefined;
  let retryMs = FIRST_RETRY_MS;
  let isFailing = false;
  let onChange: (() => void) | undefined;

  function refresh(): void {
    if (state === "closed") return;
    clearTimeout(retry);
    if (state === "armed") void readOnce();
    else state = "stale";
  }

  /** The same one until it was called: a store keeps each function that it is given until then. */
  function listener(): () => void {
    onChange ??= () => {
      onChange = undefined;
      refresh();
    };
    return onChange;
  }

  async function readOnce(): Promise<void> {
    state = "reading";
    let value: T;
    try {
      value = await read(listener());
    } catch (error) {
      failed(error);
      return;
    }
    if (isClosed()) return;
    retryMs = FIRST_RETRY_MS;
    if (isFailing) {
      isFailing = false;
      onError?.(undefined);
      if (isClosed()) return;
    }
    const changed = told === undefined || !isEqual(told.value, value);
    told = { value };
    settle();
    if (changed) onValue(value);
  }

  function failed(error: unknown): void {
    if (isClosed()) return;
    if (!(error instanceof NsdbError)) throw error;
    if (error.code === "closed") return;
    const wasStale = state === "stale";
    state = "armed";
    isFailing = true;
    onError?.(error);
    if (isClosed()) return;
    // What came meanwhile (a new session, say) is a reason to try at once, but not in a tight loop.
    const waitMs = wasStale ? FIRST_RETRY_MS : retryMs;
    retry = setTimeout(refresh, waitMs * (0.5 + Math.random() / 2));
    retryMs = Math.min(retryMs * 2, LONGEST_RETRY_MS);
  }

  function settle(): void {
    const wasStale = state === "stale";
    state = "armed";
    if (wasStale) void readOnce();
  }

  function isClosed(): boolean {
    return state === "closed";
  }

  const stopListening = store.onSession((session) => {
    if (session === "renewed") refresh();
  });
  refresh();
  return {
    refresh,
    close() {
      state = "closed";
      clearTimeout(retry);
      stopListening();
    },
  };
}
