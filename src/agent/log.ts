import { constants, fstatSync, openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import { isatty } from "node:tty";
import { type DestinationStream, pino } from "pino";

/** The four levels that this project logs at. */
export type LogLevel = "error" | "warn" | "info" | "debug";

/** What the rooms of the agent may do with the log: JSON lines, chosen fields, never a whole header or object of others. */
export interface Logger {
  error(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  info(fields: object, message: string): void;
  debug(fields: object, message: string): void;
}

/** A logger whose level can follow the configuration. */
export interface LeveledLogger extends Logger {
  setLevel(level: LogLevel): void;
}

/** JSON lines on standard output, at once and in order. See {@link StandardOutput} for a reader that does not read. */
export function openLog(stream: DestinationStream = new StandardOutput()): LeveledLogger {
  const logger = pino(
    {
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: "message",
    },
    stream,
  );
  return {
    error: (fields, message) => logger.error(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    info: (fields, message) => logger.info(fields, message),
    debug: (fields, message) => logger.debug(fields, message),
    setLevel: (level) => {
      logger.level = level;
    },
  };
}

const STDOUT = 1;
const MOST_WAITING_BYTES = 1 << 20;
/** Between attempts: doubled by each that writes nothing. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 128;
/** How long the process waits at its end for a reader who is behind. */
const LAST_ATTEMPTS = 50;
const LAST_PAUSE_MS = 10;

/**
 * Lines to standard output that never wait for its reader: `less`, Ctrl-S or a log shipper that hangs must not stop the
 * service to guests. What cannot be written now waits in memory; what does not fit there is lost, and counted in a line
 * of its own once the reader reads. What waits at the end of the process, however it ends, is written then if it can be
 * in about half a second.
 *
 * pino's own destinations cannot do this: the synchronous one waits in write(2), and so does the asynchronous one, in a
 * thread that the end of the process then waits for.
 *
 * @source measured: node 20, process.exit() does not return while a thread of libuv's pool is in write(2)
 */
class StandardOutput implements DestinationStream {
  readonly #fd = withoutBlocking(STDOUT);
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #lost = 0;
  #pauseMs = FIRST_PAUSE_MS;
  #nextAttempt = 0;
  #retry: NodeJS.Timeout | undefined;

  constructor() {
    process.on("exit", () => this.#writeLast());
  }

  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#waitingBytes + bytes.length > MOST_WAITING_BYTES) this.#lost += 1;
    else this.#add(bytes);
    // Those who log without a pause leave no time to the timer.
    if (this.#retry === undefined || performance.now() >= this.#nextAttempt) this.#writeWaiting();
  }

  #add(bytes: Buffer): void {
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
  }

  #writeWaiting(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const before = this.#waitingBytes;
    if (this.#writeNow() === undefined) return;
    this.#pauseMs =
      this.#waitingBytes < before ? FIRST_PAUSE_MS : Math.min(this.#pauseMs * 2, LONGEST_PAUSE_MS);
    this.#nextAttempt = performance.now() + this.#pauseMs;
    this.#retry = setTimeout(() => this.#writeWaiting(), this.#pauseMs).unref();
  }

  /** Writes what is taken without waiting. Gives the code of the error that ended it: `EAGAIN` where the reader is behind. */
  #writeNow(): string | undefined {
    for (let [first] = this.#waiting; first !== undefined; [first] = this.#waiting) {
      try {
        const written = writeSync(this.#fd, first);
        this.#waitingBytes -= written;
        if (written < first.length) this.#waiting[0] = first.subarray(written);
        else this.#waiting.shift();
      } catch (error) {
        return error instanceof Error && "code" in error ? String(error.code) : "unknown";
      }
      if (this.#waiting.length === 0 && this.#lost > 0) this.#tellLost();
    }
    return undefined;
  }

  #tellLost(): void {
    const message = `${this.#lost} lines of this log are missing here: nobody read it, or it could not be written`;
    const line = { level: "warn", time: new Date().toISOString(), lost: this.#lost, message };
    this.#lost = 0;
    this.#add(Buffer.from(`${JSON.stringify(line)}\n`));
  }

  #writeLast(): void {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    for (let attempt = 0; attempt < LAST_ATTEMPTS && this.#writeNow() === "EAGAIN"; attempt += 1)
      Atomics.wait(clock, 0, 0, LAST_PAUSE_MS);
  }
}

/**
 * A descriptor of the same output that refuses what it cannot take at once. Files take everything, so they stay as they
 * are, as does what cannot be changed.
 */
function withoutBlocking(fd: number): number {
  const stats = fstatSync(fd);
  if (stats.isFIFO() || isatty(fd)) {
    try {
      // Opened anew, since others (a shell, say) write to this one too, and do not expect to be refused.
      return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    } catch {
      // Another user's, or without /proc.
    }
  }
  // As process.stdout does it: making it is enough, and it is never written to.
  if (stats.isFIFO() || stats.isSocket()) new Socket({ fd, readable: false, writable: true });
  return fd;
}
