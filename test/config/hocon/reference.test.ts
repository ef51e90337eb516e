import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type Answer, ask, type Question } from "../../support/hocon-oracle/oracle.ts";
import { evaluate } from "./evaluate.ts";

/** Cases are separated by a line `%%`, the layers of one (highest first) by a line `--`. */
const CASES = readFileSync(join(import.meta.dirname, "cases.txt"), "utf8")
  .replace(/\n$/, "")
  .split("\n%%\n")
  .map((text) => text.split("\n--\n"));

const VALUES = [
  ..."1 1.5 1.50 0123 1e3 abc true TRUE yes on off no null [1] {a:1} 1s 1.5m 1m 2h 5ms 5us 5ns 3x -5s".split(
    " ",
  ),
  ..."100 -3 .5s 5.s 1K 1k 1kB 1KB 1Ki 1KiB 2m 2M 2MB 1G 1g 1GiB 5B 5b 1T 1.5K 0.5KiB 1Kb 2P 1e3s".split(" "),
  ..."3000000000 nan 5S".split(" "),
  ..."|1|1.5|abc|true|TRUE|on|15 s|3 days|1 day|5 milli|5 micro| 7 |+5s|0x10|1 min|1 kilobyte|1 kibibytes|5 byte|1 kb"
    .split("|")
    .map((text) => `"${text}"`),
];

/**
 * Documents of a few keys that collide: where merging and resolving go wrong. A value refers to later keys, or to
 * what its own key was before. Wilder ones, with cycles through merges, make the reference implementation fail
 * with "BugOrBroken", so they prove nothing.
 */
const KEYS = ["a", "b", "c", "d"];
const scalar = fc.constantFrom("1", "x", '"y z"', "true", "null", "1.50", "p q", "15s");

function valueFor(key: string): fc.Arbitrary<string> {
  const later = KEYS.slice(KEYS.indexOf(key) + 1).flatMap((name) => [name, `${name}.b`, `${name}.b.c`]);
  const reference = fc
    .tuple(fc.constantFrom(...later, "none"), fc.boolean())
    .map(([path, optional]) => `\${${optional ? "?" : ""}${path}}`);
  return fc.letrec<{ value: string; object: string; list: string }>((tie) => ({
    value: fc.oneof(
      { weight: 4, arbitrary: scalar },
      { weight: 4, arbitrary: reference },
      { weight: 2, arbitrary: tie("object") },
      { weight: 2, arbitrary: tie("list") },
      { weight: 2, arbitrary: fc.tuple(tie("value"), tie("value")).map(([a, b]) => `${a} ${b}`) },
    ),
    object: fc
      .array(fc.tuple(fc.constantFrom("b", "c", "b.c"), tie("value")), { maxLength: 3 })
      .map((fields) => `{${fields.map(([name, text]) => `${name} = ${text}`).join(", ")}}`),
    list: fc.array(tie("value"), { maxLength: 3 }).map((items) => `[${items.join(", ")}]`),
  })).value;
}

const field = fc.constantFrom(...KEYS).chain((key) =>
  fc.oneof(
    valueFor(key).map((value) => `${key} = ${value}`),
    valueFor(key).map((value) => `${key} += ${value}`),
    valueFor(key).map((value) => `${key} = \${?${key}} ${value}`),
    valueFor(key).map((value) => `${key}.b : ${value}`),
  ),
);
const layer = fc.array(field, { maxLength: 4 }).map((fields) => fields.join("\n"));
const layers = fc.array(layer, { minLength: 1, maxLength: 3 });

describe("beside the reference implementation", () => {
  const written = CASES.flatMap((texts): Question[] =>
    (["stored", "resolved", "dumped"] as const).map((operation) => ({ operation, layers: texts })),
  );
  const coerced = VALUES.flatMap((text): Question[] =>
    (["string", "boolean", "millis", "bytes", "value", "value-json"] as const).map((operation) => ({
      operation,
      argument: "k",
      layers: [`k = ${text}`],
    })),
  );
  const edited = ["a", "a.b", '"a.b"', "a.b.c", "d"].map(
    (argument): Question => ({
      operation: "unset",
      argument,
      layers: ['a { b { c = 1 }, x = 2 }, "a.b" = 3, e = [1]'],
    }),
  );
  const made = fc.sample(layers, { numRuns: 600, seed: 20 }).flatMap((texts): Question[] => [
    { operation: "stored", layers: texts },
    { operation: "resolved", layers: texts },
  ]);
  let answers: Map<Question, Answer>;

  beforeAll(() => {
    const questions = [...written, ...coerced, ...edited, ...made];
    const found = ask(questions);
    answers = new Map(questions.map((question, index) => [question, found[index] as Answer]));
  });

  /** An error is an error, whatever it says; a text is the same to the last blank. */
  function differences(
    questions: readonly Question[],
  ): { question: Question; theirs: Answer | undefined; ours: Answer }[] {
    return questions.flatMap((question) => {
      const theirs = answers.get(question);
      const ours = evaluate(question);
      const isEqual =
        theirs?.kind === ours.kind &&
        (theirs.kind === "error" || theirs.text === (ours as typeof theirs).text);
      return isEqual ? [] : [{ question, theirs, ours }];
    });
  }

  it("gives the same text or also refuses: cases written by hand", () => {
    expect(CASES.length).toBeGreaterThan(300);
    expect(differences(written)).toEqual([]);
  });

  it("reads values with the same coercions", () => {
    expect(differences(coerced)).toEqual([]);
  });

  it("removes paths alike", () => {
    expect(differences(edited)).toEqual([]);
  });

  it("gives the same text or also refuses: cases made at random", () => {
    const isItsOwnBug = ({ theirs }: { theirs: Answer | undefined }): boolean =>
      theirs?.kind === "error" && theirs.why.startsWith("BugOrBroken");
    const different = differences(made);
    expect(different.filter((each) => !isItsOwnBug(each))).toEqual([]);
    expect(different.length).toBeLessThan(made.length / 100);
  });
});
