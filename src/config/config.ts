import convict from "convict";
import { KEYS, type KeyValues } from "./keys.ts";
import { Secret } from "./secret.ts";
import { splitList } from "./validity.ts";

/** What of MidoNet's log levels we tell apart. */
export type LogLevel = "error" | "warn" | "info" | "debug";

/** The configuration of this host: valid, complete, frozen. Durations in milliseconds. */
export interface Config {
  readonly enabled: boolean;
  /** `http://…`, `https://…` or `unix:/…`; at least one. */
  readonly novaMetadataUrls: readonly string[];
  readonly sharedSecret: Secret;
  /** Empty unless the secret is being changed. */
  readonly previousSharedSecret: Secret;
  readonly holdMs: number;
  readonly slowDocumentMs: number;
  readonly cacheTtlMs: number;
  readonly imdsv2: "optional" | "required";
  readonly requestsPerSecond: number;
  readonly requestBurst: number;
  readonly novaCaFile: string | undefined;
  readonly novaClientCertFile: string | undefined;
  readonly novaClientKeyFile: string | undefined;
  readonly novaServerName: string | undefined;
  /** CIDRs inside 169.254/16. */
  readonly reservedRanges: readonly string[];
  readonly logLevel: LogLevel;
}

/**
 * Checks values against the table of keys once more, as a whole and strictly, and gives them the types that the
 * program uses. Whoever calls this has replaced invalid values already.
 *
 * @throws {Error} If a value is invalid or unknown all the same. Secrets are not in the message.
 */
export function configOf(values: KeyValues): Config {
  // A fresh instance each time: convict keeps what an earlier load has set.
  const checked = convict<KeyValues>(convictSchema(values));
  checked.load(values);
  checked.validate({ allowed: "strict" });
  const valid = checked.getProperties();
  return Object.freeze({
    enabled: valid.enabled,
    novaMetadataUrls: Object.freeze(splitList(valid.novaMetadataUrl)),
    sharedSecret: new Secret(valid.sharedSecret),
    previousSharedSecret: new Secret(valid.previousSharedSecret),
    holdMs: valid.holdMs,
    slowDocumentMs: valid.slowDocumentMs,
    cacheTtlMs: valid.cacheTtlMs,
    imdsv2: valid.imdsv2 === "required" ? "required" : "optional",
    requestsPerSecond: valid.requestsPerSecond,
    requestBurst: valid.requestBurst,
    novaCaFile: valid.novaCaFile || undefined,
    novaClientCertFile: valid.novaClientCertFile || undefined,
    novaClientKeyFile: valid.novaClientKeyFile || undefined,
    novaServerName: valid.novaServerName || undefined,
    reservedRanges: Object.freeze([...valid.reservedRanges]),
    logLevel: logLevelOf(valid.ownLevel),
  });
}

function convictSchema(values: KeyValues): convict.Schema<KeyValues> {
  const entries = Object.entries(KEYS).map(([property, spec]) => {
    // Each property's value has the type that its own spec refuses by; the compiler cannot pair them in a loop.
    const refuse = spec.refuse as (value: unknown) => string | undefined;
    const format = (value: unknown): void => {
      const why = refuse(value);
      if (why !== undefined) throw new Error(why);
    };
    return [
      property,
      {
        doc: spec.documentation,
        default: values[property as keyof KeyValues],
        format,
        sensitive: spec.secret,
      },
    ];
  });
  return Object.fromEntries(entries) as convict.Schema<KeyValues>;
}

/** @source MidoNet LoggerLevelWatcher.scala: names of logback */
function logLevelOf(level: string): LogLevel {
  switch (level.toLowerCase()) {
    case "off":
    case "error":
      return "error";
    case "warn":
      return "warn";
    case "debug":
    case "trace":
    case "all":
      return "debug";
    default:
      return "info";
  }
}
