import { mkdtempSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A folder that is an NSDB, written as an operator's script would write it. */
export class DirectoryNsdb {
  readonly folder = mkdtempSync(join(tmpdir(), "mn-conf-"));
  readonly url = `dir:${this.folder}`;

  async put(path: string, text: string): Promise<void> {
    const file = join(this.folder, path);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
  }

  remove(path = ""): void {
    rmSync(join(this.folder, path), { recursive: true, force: true });
  }
}

/** Polls until `condition` is true. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
