import { type ChildProcess, spawn } from "node:child_process";
import { run } from "./guests.ts";

/** The real agent as a child process in this namespace, started as an operator starts it. */
export class AgentProcess {
  readonly log: string[] = [];
  readonly #program: readonly [string, ...string[]];
  #child: ChildProcess | undefined;
  #ended: Promise<number | null> = Promise.resolve(null);

  constructor(options: {
    readonly nsdb: string;
    readonly hostIdFile: string;
    readonly runFolder: string;
    /** A named network namespace instead of this one. */
    readonly namespace?: string;
  }) {
    const { nsdb, hostIdFile, runFolder, namespace } = options;
    this.#program = [
      ...(namespace === undefined ? [] : ["ip", "netns", "exec", namespace]),
      "dist/agent/main.js",
      ...["--nsdb", nsdb, "--host-id-file", hostIdFile, "--run-folder", runFolder],
    ] as [string, ...string[]]; // It has a first.
  }

  start(...more: readonly string[]): void {
    const [command, ...words] = this.#program;
    const child = spawn(command, [...words, "agent", ...more], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) {
      stream
        .setEncoding("utf8")
        .on("data", (text: string) => this.log.push(...text.split("\n").filter(Boolean)));
    }
    this.#child = child;
    this.#ended = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Runs another `mn-metadata` command with the same options. */
  command(...args: readonly string[]): Promise<string> {
    return run(...this.#program, ...args);
  }

  async json<T>(...args: readonly string[]): Promise<T> {
    return JSON.parse(await this.command(...args, "--json")) as T;
  }

  /** Waits until it is in sync and serves that many addresses. */
  async serving(count: number, withinMs = 60_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (performance.now() < deadline && this.#child?.exitCode === null) {
      const status = await this.json<{ inSync: boolean; ports: { served: number } }>("status").catch(
        () => undefined,
      );
      if (status?.inSync === true && status.ports.served === count) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(
      `the agent does not serve ${count} addresses; its log:\n${this.log.slice(-30).join("\n")}`,
    );
  }

  /** @returns The exit code; null after a signal. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    if (this.#child?.exitCode === null) this.#child.kill(signal);
    return this.#ended;
  }

  ended(): Promise<number | null> {
    return this.#ended;
  }
}
