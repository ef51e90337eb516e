import { describe, expect, test } from "vitest";
import { sourceFiles } from "./source.ts";

const MAX_LINES = 350;
const files = sourceFiles("src");

describe("every source file", () => {
  test("holds one room's worth: at most 350 lines", () => {
    expect(
      files.filter((file) => file.lines > MAX_LINES).map((file) => `${file.path}: ${file.lines}`),
    ).toEqual([]);
  });

  test("documents every function, class and constant that it exports", () => {
    const bare = files.flatMap((file) => {
      const lines = file.text.split("\n");
      return lines.flatMap((line, index) => {
        const [, name] = /^export (?:async )?(?:function\*?|class|const) (\w+)/.exec(line) ?? [];
        if (name === undefined || (lines[index - 1] ?? "").trim().endsWith("*/")) return [];
        return [`${file.path}:${index + 1} ${name}`];
      });
    });
    expect(bare).toEqual([]);
  });

  test("has no enum, default export, shell, or leftover", () => {
    const refused: readonly [RegExp, string][] = [
      [/^\s*(?:export )?(?:const )?enum /m, "enum"],
      [/^export default/m, "default export"],
      [/shell:\s*true/, "a shell"],
      [/\b(?:TODO|FIXME|XXX|HACK)\b/, "a leftover"],
      [/\bclass \w*(?:Manager|Helper|Util|Utils)\b/, "a name that says nothing"],
    ];
    const found = files.flatMap((file) =>
      refused.filter(([pattern]) => pattern.test(file.text)).map(([, what]) => `${file.path}: ${what}`),
    );
    expect(found).toEqual([]);
  });

  test("logs only in the agent", () => {
    const elsewhere = files.filter(
      (file) => !file.path.startsWith("src/agent/") && /from "pino"/.test(file.text),
    );
    expect(elsewhere.map((file) => file.path)).toEqual([]);
  });
});
