/** Options that every subcommand understands, before or after its name. */
export interface GlobalOptions {
  readonly nsdb?: string;
  readonly hostIdFile?: string;
  readonly runFolder: string;
}

/** What `mn-metadata port bind` was given, still unchecked. */
export interface PortBindOptions {
  readonly port: string;
  readonly interface: string;
  readonly instance: string;
  readonly project: string;
  readonly fixedIp: readonly string[];
  readonly mac: string;
  readonly network?: string;
  readonly createHostId?: true;
  readonly force?: true;
}
