/**
 * What is given to node-zookeeper-client to call when a znode changes. The package keeps every function that it does not
 * have yet until the znode changes or the session ends, so the same one is made of the same listener until it was called.
 *
 * @source node-zookeeper-client 1.1.3, lib/WatcherManager.js, registerWatcher
 */
export class Listeners {
  readonly #watchers = new WeakMap<() => void, Map<string, () => void>>();

  /** Calls at most once, and from an empty stack: what a listener throws must not end up in the connection's reading. */
  once(
    kind: "data" | "children",
    path: string,
    onChange: (() => void) | undefined,
  ): (() => void) | undefined {
    if (onChange === undefined) return undefined;
    const key = `${kind} ${path}`;
    const ofListener = this.#watchers.get(onChange) ?? new Map<string, () => void>();
    this.#watchers.set(onChange, ofListener);
    const known = ofListener.get(key);
    if (known !== undefined) return known;
    const watcher = (): void => {
      if (ofListener.get(key) !== watcher) return;
      ofListener.delete(key);
      queueMicrotask(onChange);
    };
    ofListener.set(key, watcher);
    return watcher;
  }
}
