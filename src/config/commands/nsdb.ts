import { resolveNsdb } from "../../nsdb/bootstrap.ts";
import { NsdbError } from "../../nsdb/error.ts";
import { createHostId, readHostId } from "../../nsdb/host-id.ts";
import { formatNsdbUrl, type NsdbUrl } from "../../nsdb/nsdb-url.ts";
import { openStore } from "../../nsdb/open-store.ts";
import { nodePath, templatePath } from "../../nsdb/paths.ts";
import type { Store } from "../../nsdb/store.ts";
import { parseUuid } from "../../nsdb/uuid.ts";
import { type Outcome, outcomeOf, UsageError } from "./outcome.ts";

/** Options that every subcommand understands. */
export interface GlobalOptions {
  readonly nsdb?: string;
  readonly hostIdFile?: string;
  readonly createHostId?: true;
}

/** MidoNet waits for 1 s and tries once more. @source MidoNet MidoConfTool.scala */
const CONNECT_MS = 3_000;

/** Runs a command on the NSDB, and says what became of it. */
export async function withNsdb(
  options: GlobalOptions,
  command: (store: Store) => Promise<Outcome>,
): Promise<Outcome> {
  let nsdb = "the NSDB";
  let store: Store | undefined;
  let warnings: readonly string[] = [];
  try {
    const resolved = resolveNsdb(options.nsdb, process.env);
    warnings = resolved.warnings;
    const kind = resolved.url.kind === "zookeeper" ? "zookeeper" : "the NSDB";
    nsdb = `${kind} at '${formatNsdbUrl(resolved.url)}' (from ${resolved.from})`;
    store = await openStore(resolved.url, { connectTimeoutMs: CONNECT_MS });
    const hadRoot = await hasRoot(store);
    const outcome = await command(store);
    // What the command did is done, and told, whether it can be looked at or not.
    const isMade = hadRoot || (await hasRoot(store).catch(() => true));
    const notes = hadRoot ? warnings : [...warnings, rootNote(nsdb, resolved.url, isMade)];
    return { ...outcome, notes: [...notes, ...(outcome.notes ?? [])] };
  } catch (error) {
    const outcome = outcomeOf(error, nsdb);
    return { ...outcome, notes: [...warnings, ...(outcome.notes ?? [])] };
  } finally {
    await store?.close();
  }
}

/** False if the root key itself is missing: nothing was ever stored there, or its name has a slip in it. */
async function hasRoot(store: Store): Promise<boolean> {
  try {
    return (await store.get("/")) !== undefined;
  } catch (error) {
    // One that keeps us out is there; what lies below it may admit us.
    if (error instanceof NsdbError && error.code === "denied") return true;
    throw error;
  }
}

function rootNote(nsdb: string, url: NsdbUrl, isMade: boolean): string {
  const root = url.kind === "zookeeper" ? url.rootKey : url.folder;
  return isMade
    ? `Note: ${nsdb} had no "${root}" until now: it has been made. If its name has a slip in it, agents do not see what was stored: name the right one with --nsdb`
    : `Note: ${nsdb} has no "${root}", so nothing is stored there. If its name has a slip in it, name the right one with --nsdb`;
}

/** Where `-h` or `-t` let a command write. */
export interface Target {
  readonly host?: string;
  readonly template?: string;
}

/** The znode that is to be changed. @throws {UsageError} @throws {NsdbError} `no-host-id`. */
export function targetPath(target: Target, options: GlobalOptions): string {
  if (target.template === undefined) return nodePath(hostIdOf(target.host, options));
  if (target.host !== undefined)
    throw new UsageError("-h/--host and -t/--template exclude each other: give one of them");
  return templatePath(target.template);
}

/**
 * The host that `-h` names: an id, or `local` for this one, which is also meant if it is missing.
 *
 * @throws {NsdbError} `no-host-id` if this host has none, and --create-host-id was not given.
 */
export function hostIdOf(host: string | undefined, options: GlobalOptions): string {
  if (host === undefined || host === "local")
    return (options.createHostId ? createHostId : readHostId)(options.hostIdFile);
  const hostId = parseUuid(host);
  if (hostId === undefined)
    throw new Error(`Cannot use "${host}" as a host: it should be a host id (a UUID), or local`);
  return hostId;
}

/**
 * As {@link hostIdOf} for a question that has an answer for a host without an id too: undefined.
 *
 * @throws {NsdbError} Also where the file with the id is there and cannot be read: the answer would be another host's.
 */
export function hostIdIfAny(host: string | undefined, options: GlobalOptions): string | undefined {
  try {
    return hostIdOf(host, options);
  } catch (error) {
    if (error instanceof NsdbError && error.code === "no-host-id") return undefined;
    throw error;
  }
}
