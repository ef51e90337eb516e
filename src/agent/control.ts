import { chmodSync, mkdirSync, readlinkSync, rmSync } from "node:fs";
import { createServer, request, type ServerResponse } from "node:http";
import { dirname, join } from "node:path";

/**
 * The agent's own door: JSON over HTTP on a unix socket that only root may open. Commands such as
 * `mn-metadata status` come in here; guests cannot.
 */
export type ControlHandlers = Readonly<
  Record<string, (query: URLSearchParams) => unknown | Promise<unknown>>
>;

/**
 * An agent that works on an answer says so this often (an interim `102 Processing`), so that silence means that
 * it hangs, or that its host is far too busy, and not that the question is a long one.
 */
const SIGN_OF_LIFE_MS = 2_000;
/** How long an agent may say nothing: enough for a host twenty times slower than it should be. */
const SILENCE_MS = 60_000;
/** When a person who waits is told so. */
const EXPLAIN_WAIT_MS = 5_000;

/** Why the control socket could not be used. `not-running` means that nobody listens. */
export class ControlError extends Error {
  override readonly name = "ControlError";
  readonly code: "not-running" | "already-running" | "failed";

  constructor(code: ControlError["code"], message: string, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.code = code;
  }
}

/**
 * The socket of the agent that serves this network namespace: one host may run one agent in each (tests do),
 * and a command finds the one whose kernel state it sees.
 */
export function controlSocketPath(runFolder: string): string {
  const [, inode = "unknown"] = /\[(\d+)\]/.exec(readlinkSync("/proc/self/ns/net")) ?? [];
  return join(runFolder, `agent-${inode}.sock`);
}

/**
 * Starts to answer.
 *
 * @throws {ControlError} `already-running` if another agent answers there.
 */
export async function serveControl(path: string, handlers: ControlHandlers): Promise<() => Promise<void>> {
  if (await someoneAnswers(path)) {
    throw new ControlError(
      "already-running",
      `Cannot start a second agent: one already answers at "${path}". Stop that one first, or use it: mn-metadata status`,
    );
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  rmSync(path, { force: true });
  const server = createServer((incoming, response) => {
    const { url: asked = "/" } = incoming;
    if (!URL.canParse(asked, "http://agent")) return reply(response, 400, { error: `no question: ${asked}` });
    const url = new URL(asked, "http://agent");
    const handler = Object.hasOwn(handlers, url.pathname) ? handlers[url.pathname] : undefined;
    if (handler === undefined) return reply(response, 404, { error: `no such question: ${url.pathname}` });
    const signs = setInterval(() => response.writeProcessing(), SIGN_OF_LIFE_MS);
    response.on("close", () => clearInterval(signs));
    Promise.resolve()
      .then(() => handler(url.searchParams))
      .then(
        (answer) => reply(response, 200, answer),
        (error: unknown) =>
          reply(response, 500, { error: error instanceof Error ? error.message : String(error) }),
      )
      .finally(() => clearInterval(signs));
  });
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
  } catch (error) {
    throw new ControlError("failed", `Cannot listen on "${path}": ${(error as Error).message}`, error);
  } finally {
    process.umask(umask);
  }
  chmodSync(path, 0o600);
  return () =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
}

/**
 * Asks the agent, and waits for as long as it works on the answer.
 *
 * @param silenceMs How long it may give no sign of life.
 * @throws {ControlError} `not-running`, or `failed` with the agent's own words or because it said nothing.
 */
export async function askAgent<T>(path: string, question: string, silenceMs = SILENCE_MS): Promise<T> {
  const { status, body } = await exchange(path, question, silenceMs, (isWorking) => {
    process.stderr.write(
      isWorking
        ? "mn-metadata: the agent is working on the answer\n"
        : `mn-metadata: the agent has taken the question and said nothing yet; waiting up to ${silenceMs / 1_000} s\n`,
    );
  });
  const answer: unknown = JSON.parse(body);
  if (status !== 200) throw new ControlError("failed", (answer as { error: string }).error);
  return answer as T;
}

function exchange(
  path: string,
  question: string,
  silenceMs: number,
  onLongWait: (isWorking: boolean) => void,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    let isWorking = false;
    const patience = setTimeout(() => onLongWait(isWorking), EXPLAIN_WAIT_MS);
    const outgoing = request({ socketPath: path, path: question, timeout: silenceMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      );
      response.on("error", reject);
    });
    outgoing.on("information", () => {
      isWorking = true;
    });
    outgoing.on("timeout", () => outgoing.destroy(new Error(silent(silenceMs))));
    outgoing.on("error", (error: NodeJS.ErrnoException) => reject(notReached(path, error)));
    outgoing.on("close", () => clearTimeout(patience));
    outgoing.end();
  });
}

function silent(silenceMs: number): string {
  return `it runs but gave no sign of life for ${silenceMs / 1_000} s: see its log and the host's load; where it stays so, restart it (guests keep their addresses)`;
}

function notReached(path: string, error: NodeJS.ErrnoException): ControlError {
  if (error.code === "ENOENT" || error.code === "ECONNREFUSED") {
    return new ControlError(
      "not-running",
      `No agent runs in this network namespace (nobody listens at "${path}"): start it with mn-metadata agent`,
      error,
    );
  }
  if (error.code === "EACCES") {
    return new ControlError(
      "failed",
      `Cannot open "${path}": permission denied; run this command as root`,
      error,
    );
  }
  return new ControlError("failed", `Cannot ask the agent at "${path}": ${error.message}`, error);
}

async function someoneAnswers(path: string): Promise<boolean> {
  try {
    await exchange(path, "/alive", 2_000, () => undefined);
    return true;
  } catch (error) {
    return !(error instanceof ControlError && error.code === "not-running");
  }
}

function reply(response: ServerResponse, status: number, answer: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(answer)}\n`);
}
