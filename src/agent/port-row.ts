import { linkLocalOf } from "../datapath/link-local.ts";
import type { Plumbing } from "../datapath/plumbing.ts";

/** One served address, as `mn-metadata ports` shows it. The names are the JSON's. */
export interface PortRow {
  readonly port: string;
  readonly interface: string;
  readonly fixedAddress: string;
  readonly linkLocal: string;
  /** Null where neither the agent nor the NSDB could say. */
  readonly instanceId: string | null;
  readonly projectId: string | null;
  readonly mac: string | null;
}

/** What the kernel alone can say, where no agent runs. */
export function observedRows(ports: readonly Plumbing[]): readonly PortRow[] {
  return ports.flatMap(({ portId, interfaceName, mac, identities }) =>
    identities.map(({ number, fixedAddress }) => ({
      port: portId,
      interface: interfaceName,
      fixedAddress,
      linkLocal: linkLocalOf(number),
      instanceId: null,
      projectId: null,
      mac,
    })),
  );
}

/** Rows as an aligned table with a head, sorted by interface and address; a sentence when there are none. */
export function portTable(rows: readonly PortRow[]): string {
  if (rows.length === 0) return "no port is served\n";
  const head = ["INTERFACE", "FIXED ADDRESS", "LINK-LOCAL", "INSTANCE", "PROJECT", "PORT"];
  const cells = [...rows]
    .sort((a, b) => a.interface.localeCompare(b.interface) || a.fixedAddress.localeCompare(b.fixedAddress))
    .map((row) => [
      row.interface,
      row.fixedAddress,
      row.linkLocal,
      row.instanceId === "" ? "(none yet)" : (row.instanceId ?? "?"),
      row.projectId ?? "?",
      row.port,
    ]);
  return aligned([head, ...cells]);
}

/** Columns padded to their widest cell, two blanks apart, one line each. */
export function aligned(lines: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const line of lines) {
    for (const [column, cell] of line.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  }
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}
