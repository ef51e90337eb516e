import { describe, expect, test } from "vitest";
import { importsOf, sourceFiles } from "./source.ts";

/** What each room may import of ours, besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  nsdb: [],
  datapath: [],
  config: ["nsdb"],
  agent: ["config", "datapath", "nsdb"],
};

const files = sourceFiles("src");

describe("the rooms", () => {
  test("are the four that the picture shows", () => {
    const rooms = new Set(files.map((file) => file.path.split("/")[1]));
    expect([...rooms].sort()).toEqual(Object.keys(MAY_IMPORT).sort());
  });

  test("import one way only", () => {
    const wrong = files.flatMap((file) => {
      const [, room = ""] = file.path.split("/");
      const allowed = [room, ...(MAY_IMPORT[room] ?? [])];
      return importsOf(file)
        .filter((target) => target.startsWith("src/") && !allowed.includes(target.split("/")[1] ?? ""))
        .map((target) => `${file.path} imports ${target}`);
    });
    expect(wrong).toEqual([]);
  });

  test("take nothing from tests, benchmarks or demos", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((target) => /^(test|bench|demo|scripts)\//.test(target))
        .map((target) => `${file.path} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test("have no import cycle", () => {
    const graph = new Map(
      files.map((file) => [file.path, importsOf(file).filter((target) => target.startsWith("src/"))]),
    );
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: readonly string[]): void => {
      if (trail.includes(path)) {
        cycles.push([...trail.slice(trail.indexOf(path)), path].join(" -> "));
        return;
      }
      if (done.has(path)) return;
      for (const target of graph.get(path) ?? []) visit(target, [...trail, path]);
      done.add(path);
    };
    for (const path of graph.keys()) visit(path, []);
    expect(cycles).toEqual([]);
  });
});
