import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

export interface SourceFile {
  /** From the root: `src/agent/log.ts`. */
  readonly path: string;
  readonly text: string;
  readonly lines: number;
}

/** Every TypeScript file below a folder of the repository. */
export function sourceFiles(folder: string): readonly SourceFile[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => {
      const text = readFileSync(join(root, folder, name), "utf8");
      return { path: join(folder, name), text, lines: text.split("\n").length };
    });
}

/** What a file imports: our own files from the root (`src/nsdb/store.ts`), packages by their names. */
export function importsOf(file: SourceFile): readonly string[] {
  const found = file.text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^;"']*?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/g,
  );
  return [...found].map(([, plain, dynamic]) => {
    const specifier = plain ?? dynamic ?? "";
    if (!specifier.startsWith(".")) return specifier;
    return relative(root, normalize(join(root, dirname(file.path), specifier)));
  });
}
