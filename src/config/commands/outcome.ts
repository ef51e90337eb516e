import { NsdbError } from "../../nsdb/error.ts";

/** What a command says, and the exit code: MidoNet's. */
export interface Outcome {
  /** For standard output, as it is. */
  readonly out?: string;
  /** For standard error: one note per line. */
  readonly notes?: readonly string[];
  readonly exitCode?: number;
}

/** @source MidoNet MidoConfTool.scala */
export const EXIT = { usage: 1, noHostId: 2, unreachable: 3, failed: 4, noSuchKey: 11 } as const;

/** What an operator can do about arguments that do not fit. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What is said of an error, and the exit code. An error that nobody foresaw is a failure like any other. */
export function outcomeOf(error: unknown, nsdb: string): Outcome {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof UsageError) return { out: `[mn-conf] Error: ${message}\n`, exitCode: EXIT.usage };
  if (error instanceof NsdbError) {
    switch (error.code) {
      case "no-host-id":
        return { notes: [`Failed: ${message}`], exitCode: EXIT.noHostId };
      case "unreachable":
      case "timeout":
        return {
          notes: [
            `Could not connect to ${nsdb}`,
            message,
            "Check that it runs, and where mn-conf looks for it: --nsdb, $MN_NSDB, $MIDO_ZOOKEEPER_HOSTS, /etc/midonet/midonet.conf, /etc/midolman/midolman.conf.",
          ],
          exitCode: EXIT.unreachable,
        };
      case "usage":
        return { out: `[mn-conf] Error: ${message}\n`, exitCode: EXIT.usage };
      default:
    }
  }
  return { notes: [`Failed: ${message}`], exitCode: EXIT.failed };
}
