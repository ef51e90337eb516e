import { spawn } from "node:child_process";
import { join } from "node:path";

const REPOSITORY = join(import.meta.dirname, "../..");

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs the built mn-conf as an operator would: a process of its own. */
export function mnConf(
  args: readonly string[],
  input = "",
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(REPOSITORY, "dist/config/mn-conf.js"), ...args], {
      env: { PATH: process.env["PATH"], HOME: "/nonexistent", ...env },
    });
    let out = "";
    let err = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      err += text;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out, err }));
    child.stdin.on("error", () => undefined); // A command that does not read its input may be gone already.
    child.stdin.end(input);
  });
}
