import { spawnSync } from "node:child_process";
import { join } from "node:path";

/** What to ask of the reference implementation. Layers come highest first. */
export interface Question {
  readonly operation:
    | "stored"
    | "resolved"
    | "dumped"
    | "value"
    | "value-json"
    | "unset"
    | "string"
    | "boolean"
    | "millis"
    | "bytes";
  readonly argument?: string;
  readonly layers: readonly string[];
}

export type Answer =
  | { readonly kind: "ok"; readonly text: string }
  | { readonly kind: "error"; readonly why: string };

const JAR = "/usr/share/java/typesafe-config.jar";

/** The answers of Debian's Typesafe config, all from one JVM. */
export function ask(questions: readonly Question[]): Answer[] {
  const encode = (text: string): string => Buffer.from(text).toString("base64");
  const lines = questions.map(({ operation, argument = "", layers }) =>
    [operation, encode(argument), ...layers.map(encode)].join("\t"),
  );
  const source = join(import.meta.dirname, "Oracle.java");
  const { status, stdout, stderr, error } = spawnSync("java", ["-Xss8m", "-cp", JAR, source], {
    input: `${lines.join("\n")}\n`,
    encoding: "utf8",
    maxBuffer: 256 * 1024 * 1024,
  });
  const answers = (stdout ?? "").split("\n").filter((line) => line !== "");
  if (error !== undefined || status !== 0 || answers.length !== questions.length)
    throw new Error(
      `the oracle gave ${answers.length} of ${questions.length} answers: ${error?.message ?? stderr}`,
    );
  return answers.map((line) => {
    const [kind, encoded = ""] = line.split(" ");
    const text = Buffer.from(encoded, "base64").toString();
    return kind === "ok" ? { kind: "ok", text } : { kind: "error", why: text };
  });
}
