import type { ACL, Client, Transaction } from "node-zookeeper-client";
import type { NsdbErrorCode } from "./error.ts";
import type { WriteOp, Znode } from "./store.ts";

/** Sends one request and calls back with its answer. */
export type Request<T> = (client: Client, done: (error: unknown, value: T) => void) => void;

/** The step of a transaction for which the server refused it. */
export interface FailedStep {
  readonly index: number;
  readonly code: NsdbErrorCode;
  /** As the server gave it. */
  readonly number: number;
}

/** @source ZooKeeper KeeperException.Code */
export const ZOOKEEPER_ERRORS: ReadonlyMap<number, NsdbErrorCode> = new Map([
  [-101, "no-node"],
  [-102, "denied"],
  [-103, "bad-version"],
  [-110, "node-exists"],
  [-111, "not-empty"],
  [-115, "denied"],
]);

const NO_NODE = -101;

/** The data with its version, or undefined where there is no such znode: then nothing is watched. */
export function readData(path: string, watcher: (() => void) | undefined): Request<Znode | undefined> {
  return (client, done) => {
    const answer = (
      error: unknown,
      data: Buffer | undefined,
      stat: { readonly version: number } | undefined,
    ): void => {
      if (error) done(isNoNode(error) ? undefined : error, undefined);
      else done(undefined, { data: data ?? Buffer.alloc(0), version: stat?.version ?? 0 });
    };
    if (watcher === undefined) client.getData(path, answer);
    else client.getData(path, watcher, answer);
  };
}

/** The children's names, or undefined where there is no such znode: then nothing is watched. */
export function readChildren(path: string, watcher: (() => void) | undefined): Request<string[] | undefined> {
  return (client, done) => {
    const answer = (error: unknown, names: string[] | undefined): void => {
      if (error) done(isNoNode(error) ? undefined : error, undefined);
      else done(undefined, names ?? []);
    };
    if (watcher === undefined) client.getChildren(path, answer);
    else client.getChildren(path, watcher, answer);
  };
}

/** Who may do what to the znode, or undefined where there is no such znode. */
export function readAcl(path: string): Request<readonly ACL[] | undefined> {
  return (client, done) =>
    client.getACL(path, (error, acl) => {
      if (error) done(isNoNode(error) ? undefined : error, undefined);
      else done(undefined, acl);
    });
}

/** Whether the znode exists; it is watched in either case. */
export function watchExistence(path: string, watcher: () => void): Request<boolean> {
  return (client, done) =>
    client.exists(path, watcher, (error, stat) => done(error, stat !== null && stat !== undefined));
}

/** A step of a transaction. What is created without an ACL is everybody's. */
export type Step = WriteOp & { readonly acl?: readonly ACL[] };

/** Carries out all steps or none; gives the one that failed. Paths are whole. */
export function commit(steps: readonly Step[]): Request<FailedStep | undefined> {
  return (client, done) => {
    const transaction = client.transaction();
    for (const step of steps) {
      if (step.kind === "create") create(transaction, step.path, step.data, step.acl);
      else if (step.kind === "set") transaction.setData(step.path, step.data, step.version);
      else if (step.kind === "delete") transaction.remove(step.path, step.version);
      else transaction.check(step.path, step.version);
      if (step.kind !== "create") setVersion(transaction, step.version);
    }
    transaction.commit(
      (error, results: readonly { readonly type: number; readonly err?: number }[] | undefined) => {
        if (!error) return done(undefined, undefined);
        const index =
          results?.findIndex(
            (result) => result.type === -1 && result.err !== undefined && result.err !== 0,
          ) ?? -1;
        const number = results?.[index]?.err;
        if (number === undefined) return done(error, undefined);
        done(undefined, { index, code: ZOOKEEPER_ERRORS.get(number) ?? "protocol", number });
      },
    );
  };
}

function create(to: Transaction, path: string, data: Buffer, acl: readonly ACL[] | undefined): void {
  if (acl === undefined) to.create(path, data);
  else to.create(path, data, [...acl]);
}

/** The package takes version 0 for "any": it would overwrite what was made by somebody else a moment ago. */
function setVersion(transaction: unknown, version: number): void {
  const last = (transaction as { readonly ops: { version: number }[] }).ops.at(-1); // Private, in the pinned version.
  if (last === undefined) throw new Error("node-zookeeper-client is not the pinned version 1.1.3");
  last.version = version;
}

function isNoNode(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === NO_NODE;
}
