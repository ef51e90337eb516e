import { askAgent, ControlError, controlSocketPath } from "../control.ts";
import type { GlobalOptions } from "../options.ts";
import { observedRows, type PortRow, portTable } from "../port-row.ts";

/** `mn-metadata ports`: from the agent, or where none runs from the kernel, which keeps what an agent left. */
export async function portsCommand(options: GlobalOptions, asJson: boolean): Promise<void> {
  const rows = await servedRows(options);
  process.stdout.write(asJson ? `${JSON.stringify(rows, null, 2)}\n` : portTable(rows));
}

async function servedRows({ runFolder }: GlobalOptions): Promise<readonly PortRow[]> {
  try {
    return await askAgent<readonly PortRow[]>(controlSocketPath(runFolder), "/ports");
  } catch (error) {
    if (!(error instanceof ControlError) || error.code !== "not-running") throw error;
    process.stderr.write(
      "mn-metadata: no agent runs here; this is what the kernel holds, and nobody answers it\n",
    );
  }
  const { openDatapath } = await import("../../datapath/open-datapath.ts");
  const datapath = openDatapath();
  try {
    return observedRows((await datapath.observe()).ports);
  } finally {
    await datapath.close();
  }
}
