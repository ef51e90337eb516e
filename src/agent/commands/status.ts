import { askAgent, controlSocketPath } from "../control.ts";
import type { GlobalOptions } from "../options.ts";
import { type AgentStatus, statusScreen } from "../status.ts";

/** `mn-metadata status`. @returns 0 where the agent serves, starts or is told to idle; 1 where it needs an operator. */
export async function statusCommand({ runFolder }: GlobalOptions, asJson: boolean): Promise<number> {
  const status = await askAgent<AgentStatus>(controlSocketPath(runFolder), "/status");
  process.stdout.write(asJson ? `${JSON.stringify(status, null, 2)}\n` : statusScreen(status));
  return status.state === "degraded" ? 1 : 0;
}
