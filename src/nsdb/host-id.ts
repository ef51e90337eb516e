import { randomUUID } from "node:crypto";
import { linkSync, readFileSync, unlinkSync, writeFileSync } from "node:fs";
import { NsdbError } from "./error.ts";
import { parseUuid } from "./uuid.ts";

/** The file all MidoNet processes of a host share, and the one before it. @source MidoNet HostIdGenerator.java */
export const HOST_ID_FILE = "/etc/midonet_host_id.properties";
const DEPRECATED_HOST_ID_FILE = "/etc/midolman/host_uuid.properties";

/**
 * This host's id in the NSDB: a lower-case UUID. Never made up, because a host that reads under a new id finds
 * no port of its own: {@link createHostId} makes one when an operator asks.
 *
 * @param file Instead of MidoNet's two places.
 * @throws {NsdbError} `no-host-id`, `denied`, `malformed`.
 */
export function readHostId(file?: string): string {
  const files = file === undefined ? [HOST_ID_FILE, DEPRECATED_HOST_ID_FILE] : [file];
  for (const candidate of files) {
    const hostId = readHostIdFile(candidate);
    if (hostId !== undefined) return hostId;
  }
  throw new NsdbError(
    "no-host-id",
    `Cannot tell which host this is: no "host_uuid" in ${files.map((name) => `"${name}"`).join(" or ")}; ` +
      `name MidoNet's file with --host-id-file, or make one with --create-host-id`,
  );
}

/**
 * The host id of the file, or a new random one that is written there first. Two callers at once get the same.
 *
 * @throws {NsdbError} `denied` where the file cannot be read or written, `malformed` where it holds no UUID.
 */
export function createHostId(file?: string): string {
  try {
    return readHostId(file);
  } catch (error) {
    if (!(error instanceof NsdbError) || error.code !== "no-host-id") throw error;
  }
  const target = file ?? HOST_ID_FILE;
  const hostId = randomUUID();
  const temporary = `${target}.${process.pid}.new`;
  try {
    writeFileSync(temporary, `#${new Date().toUTCString()}\nhost_uuid=${hostId}\n`, {
      mode: 0o644,
      flag: "wx",
    });
    // A link, not a rename: it fails where somebody else was faster, and then theirs counts.
    linkSync(temporary, target);
  } catch (cause) {
    const winner = fileExists(cause) ? readHostIdFile(target) : undefined;
    if (winner !== undefined) return winner;
    const why = fileExists(cause)
      ? `the file is there, but without a "host_uuid"; remove it`
      : `${text(cause)}; run as root`;
    throw new NsdbError("denied", `Cannot write a new host id to "${target}": ${why}`, { cause });
  } finally {
    removeQuietly(temporary);
  }
  return hostId;
}

/**
 * The entries of a Java properties text: `=`, `:` or blanks separate, `#` and `!` start comment lines, a
 * backslash continues a line or escapes. The last of two equal keys counts.
 *
 * @source java.util.Properties.load
 */
export function parseProperties(text: string): ReadonlyMap<string, string> {
  const entries = new Map<string, string>();
  const joined = text
    .replace(/^[ \t\f]*[#!].*$/gm, "")
    .replace(/(?<!\\)((?:\\\\)*)\\(?:\r\n|\n|\r)[ \t\f]*/g, "$1");
  for (const line of joined.split(/\r\n|\n|\r/)) {
    const match = /^[ \t\f]*((?:\\.|[^\\=: \t\f])*)(?:[ \t\f]*[=:][ \t\f]*|[ \t\f]+)?(.*)$/s.exec(line);
    if (match === null || match[0].trim() === "") continue;
    entries.set(unescapeProperty(match[1] ?? ""), unescapeProperty(match[2] ?? ""));
  }
  return entries;
}

function readHostIdFile(file: string): string | undefined {
  let content: string;
  try {
    content = readFileSync(file, "latin1");
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && (cause.code === "ENOENT" || cause.code === "ENOTDIR"))
      return undefined;
    // Not "no-host-id": whoever goes on without an id would look at another configuration than the agent does.
    const isDenied = cause instanceof Error && "code" in cause && cause.code === "EACCES";
    const remedy = isDenied ? "; run as root, or let everybody read it (chmod a+r)" : "; it should be a file";
    throw new NsdbError(
      isDenied ? "denied" : "malformed",
      `Cannot read the host id file "${file}": ${text(cause)}${remedy}`,
      { cause },
    );
  }
  const value = parseProperties(content).get("host_uuid")?.trim() ?? "";
  if (value === "") return undefined;
  const hostId = parseUuid(value);
  if (hostId !== undefined) return hostId;
  throw new NsdbError(
    "malformed",
    `Cannot use the host id in "${file}": host_uuid is "${value}", but should be a UUID`,
  );
}

function unescapeProperty(value: string): string {
  return value.replace(
    /\\(?:u([0-9A-Fa-f]{4})|(.))/gs,
    (_, hex: string | undefined, char: string | undefined) => {
      if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16));
      return { t: "\t", n: "\n", r: "\r", f: "\f" }[char ?? ""] ?? char ?? "";
    },
  );
}

function fileExists(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EEXIST";
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function removeQuietly(file: string): void {
  try {
    unlinkSync(file);
  } catch {
    // It was never made, and the error that says why is already on its way.
  }
}
