import { type DestinationStream, destination, pino } from "pino";

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

/**
 * JSON lines on standard output. Written synchronously: an asynchronous destination loses its last lines when
 * the process is told to stop, which are the ones that explain why.
 *
 * @source measured: pino 10, async destinations lose buffered lines on SIGTERM
 */
export function openLog(stream: DestinationStream = standardOutput()): LeveledLogger {
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

const MOST_UNWRITTEN_BYTES = 1 << 20;

/** Where it cannot be written, because a disk is full or nobody reads, lines are lost: guests are served all the same. */
function standardOutput(): DestinationStream {
  return destination({ dest: 1, sync: true, maxLength: MOST_UNWRITTEN_BYTES }).on("error", () => undefined);
}
