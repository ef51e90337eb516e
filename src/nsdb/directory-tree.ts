import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

/** Holds the data of a znode that is a folder. */
export const CONTENT_FILE = ".znode";

/** True for names that stand for znodes. */
export function isZnodeFile(name: string): boolean {
  return !name.startsWith(".") && !name.endsWith("~");
}

/** Equal contents have equal versions; 32 bits, never negative. */
export function contentVersion(data: Buffer): number {
  return createHash("sha256").update(data).digest().readUInt32BE(0);
}

/** The data at a path, or undefined where nothing is. */
export async function readContent(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR")) return undefined;
    if (!isErrno(error, "EISDIR")) throw error;
  }
  return (await readContent(join(file, CONTENT_FILE))) ?? Buffer.alloc(0);
}

/** The names of the znodes in a folder, or undefined where nothing is. */
export async function readChildren(file: string): Promise<string[] | undefined> {
  try {
    return (await readdir(file)).filter(isZnodeFile);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    if (!isErrno(error, "ENOTDIR")) throw error;
  }
  // A file has no children; what lies below a file does not exist.
  return (await stat(file).catch(() => undefined)) === undefined ? undefined : [];
}

/** True for a system error with one of these codes. */
export function isErrno(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
